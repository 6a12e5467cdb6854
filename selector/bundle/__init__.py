"""The exported folder: certificates, policies, graphs and where the files come from."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selector.bundle.bundle import Bundle as Bundle
    from selector.bundle.bundle import read_bundle as read_bundle
    from selector.bundle.bundle import read_bundle_files as read_bundle_files
    from selector.bundle.bundle import subject as subject

__all__ = ["Bundle", "read_bundle", "read_bundle_files", "subject"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("selector.bundle.bundle"), name)  # on first use
