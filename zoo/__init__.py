"""The zoo: models of different sizes behind one contract, their facts and their speed on this device."""

from zoo.card import Adapted, Manifest, ModelCard, TrainedOn
from zoo.directory import Zoo
from zoo.errors import ZooError
from zoo.image import load_image
from zoo.latency import Latency, LatencyTable
from zoo.model import Model

__all__ = [
    "Adapted",
    "Latency",
    "LatencyTable",
    "Manifest",
    "Model",
    "ModelCard",
    "TrainedOn",
    "Zoo",
    "ZooError",
    "load_image",
]
