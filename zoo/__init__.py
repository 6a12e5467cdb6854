"""The zoo: models of different sizes behind one contract, their facts and their speed on this device."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.errors import ZooError as ZooError
    from zoo.inputs.image import load_image as load_image
    from zoo.models.card import Adapted as Adapted
    from zoo.models.card import Manifest as Manifest
    from zoo.models.card import ModelCard as ModelCard
    from zoo.models.card import TrainedOn as TrainedOn
    from zoo.models.latency import Latency as Latency
    from zoo.models.latency import LatencyTable as LatencyTable
    from zoo.models.model import Model as Model
    from zoo.models.zoo import Zoo as Zoo
    from zoo.remote.descriptor import Pixels as Pixels
    from zoo.remote.descriptor import Remote as Remote

__all__ = [
    "Adapted",
    "Latency",
    "LatencyTable",
    "Manifest",
    "Model",
    "ModelCard",
    "Pixels",
    "Remote",
    "TrainedOn",
    "Zoo",
    "ZooError",
    "load_image",
]

_HOMES = {
    "Adapted": "zoo.models.card",
    "Latency": "zoo.models.latency",
    "LatencyTable": "zoo.models.latency",
    "Manifest": "zoo.models.card",
    "Model": "zoo.models.model",
    "ModelCard": "zoo.models.card",
    "Pixels": "zoo.remote.descriptor",
    "Remote": "zoo.remote.descriptor",
    "TrainedOn": "zoo.models.card",
    "Zoo": "zoo.models.zoo",
    "ZooError": "zoo.errors",
    "load_image": "zoo.inputs.image",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(importlib.import_module(_HOMES[name]), name)
    return found  # on first use: commands that only print help begin without numpy


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
