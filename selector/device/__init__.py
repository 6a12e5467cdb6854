"""A device: tasks, variants, and the background work that keeps its models current."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selector.device.device import Device as Device
    from selector.device.settings import DeviceConfig as DeviceConfig

__all__ = ["Device", "DeviceConfig"]

_HOMES = {"Device": "selector.device.device", "DeviceConfig": "selector.device.settings"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)  # on first use: its parts do without
