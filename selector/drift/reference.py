"""The drift reference: how features and confidence of the certify samples are spread."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from zoo.releases.input_reference import MAX_FEATURES
from zoo.releases.input_reference import DriftFeature as DriftFeature
from zoo.types import Name, Positive, Sha256, check_relative

MAX_CONFIDENCES = 64


class DriftReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What inputs are held against, and the graph ``image`` → ``features`` float32 ``[N, F]``."""

    alpha: Annotated[float, Meta(ge=1e-12, lt=1)]  # probability of ever raising a false alarm
    features: Annotated[tuple[DriftFeature, ...], Meta(min_length=1, max_length=MAX_FEATURES)]
    confidence: Annotated[dict[Name, DriftFeature], Meta(max_length=MAX_CONFIDENCES)]  # model → log-odds
    file: str
    sha256: Sha256
    size_bytes: Positive

    def __post_init__(self) -> None:
        check_relative(self.file)
        if len(set(self.names)) != len(self.features):
            raise ValueError(f"features: expected distinct names, got {list(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in the order of the graph's output."""
        return tuple(feature.name for feature in self.features)
