"""Into the zoo: export, import, compression and exchange of weights. Needs the extra ``train``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.convert.add import add_foreign, add_module, add_timm, add_torchvision
    from zoo.convert.huggingface import add_huggingface

_HOMES = {
    "add_foreign": "zoo.convert.add",
    "add_huggingface": "zoo.convert.huggingface",
    "add_module": "zoo.convert.add",
    "add_timm": "zoo.convert.add",
    "add_torchvision": "zoo.convert.add",
}

__all__ = ["add_foreign", "add_huggingface", "add_module", "add_timm", "add_torchvision"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)  # on first use: torch is heavy
