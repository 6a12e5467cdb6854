"""The zoo: models of different sizes behind one contract, their facts and their speed on this device."""

from zoo.errors import ZooError
from zoo.inputs.image import load_image
from zoo.models.card import Adapted, Manifest, ModelCard, TrainedOn
from zoo.models.latency import Latency, LatencyTable
from zoo.models.model import Model
from zoo.models.zoo import Zoo
from zoo.remote.descriptor import Pixels, Remote

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
