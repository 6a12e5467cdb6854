"""The drift reference: how features and confidence of the certify samples are spread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Protocol

from msgspec import Meta

from zoo.releases.input_reference import DriftFeature, InputReference
from zoo.types import Name, Positive, Sha256, check_relative

MAX_CONFIDENCES = 64


class Spread(Protocol):
    """How features and confidence were spread: what a monitor holds inputs against."""

    @property
    def alpha(self) -> float: ...  # probability of ever raising a false alarm
    @property
    def features(self) -> tuple[DriftFeature, ...]: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def confidence(self) -> Mapping[str, DriftFeature]: ...  # model → log-odds


class DriftReference(InputReference, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What inputs are held against, and the graph ``image`` → ``features`` float32 ``[N, F]``."""

    confidence: Annotated[dict[Name, DriftFeature], Meta(max_length=MAX_CONFIDENCES)]  # model → log-odds
    file: str
    sha256: Sha256
    size_bytes: Positive

    def __post_init__(self) -> None:
        check_relative(self.file)
        super().__post_init__()
