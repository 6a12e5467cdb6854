"""Features of the kinds of input that there are."""

from __future__ import annotations

from functools import lru_cache

import training.features.image.features
import training.features.signal.features
import training.features.tensors.features  # noqa: F401 - registers
from training.features.feature_kind import FeatureKind, registered_features
from zoo.errors import DataError
from zoo.inputs.kind import InputKind

__all__ = ["features_of"]


@lru_cache(maxsize=64)
def features_of(kind: InputKind) -> FeatureKind:
    """The features of a kind of input.

    Raises
    ------
    DataError
        For a kind that has none.

    Examples
    --------
    >>> from training.features.kinds import features_of
    >>> from zoo.inputs.signal import Signal
    >>> features_of(Signal()).names[:2]
    ('log_length', 'mean')
    """
    try:
        return registered_features(kind)
    except KeyError:
        raise DataError(
            f"expected a kind of input with features, got {kind}. Register some for it."
        ) from None
