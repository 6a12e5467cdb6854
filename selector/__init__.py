"""The device side: pick a model for every input and answer with it."""

from selector.bundle import Bundle, Certificate, read_bundle
from selector.runtime import Prediction, Selection, Selector

__all__ = ["Bundle", "Certificate", "Prediction", "Selection", "Selector", "read_bundle"]
