"""The device side: pick a model for every input and answer with it."""

from selector.answering.selector import Prediction, Selection, Selector
from selector.bundle.bundle import Bundle, read_bundle
from selector.bundle.certificate import Certificate

__all__ = ["Bundle", "Certificate", "Prediction", "Selection", "Selector", "read_bundle"]
