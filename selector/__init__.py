"""The device side: pick a model for every input and answer with it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selector.answering.selector import Prediction as Prediction
    from selector.answering.selector import Selection as Selection
    from selector.answering.selector import Selector as Selector
    from selector.bundle.bundle import Bundle as Bundle
    from selector.bundle.bundle import read_bundle as read_bundle
    from selector.bundle.certificate import Certificate as Certificate
    from selector.routing.router import Router as Router

__all__ = ["Bundle", "Certificate", "Prediction", "Router", "Selection", "Selector", "read_bundle"]

_HOMES = {
    "Bundle": "selector.bundle.bundle",
    "Certificate": "selector.bundle.certificate",
    "Prediction": "selector.answering.selector",
    "Router": "selector.routing.router",
    "Selection": "selector.answering.selector",
    "Selector": "selector.answering.selector",
    "read_bundle": "selector.bundle.bundle",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)  # on first use: commands begin without
