"""Drift references: how inputs were spread that a bundle was certified on, number by number."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from zoo.types import Label

MAX_FEATURES = 32

Number = Annotated[float, Meta(ge=-3.5e38, le=3.5e38)]  # finite in float32


class DriftFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How one number is spread over bins among the calibration samples.

    A value's bin is the number of edges that it reaches. The edges come from other samples than the counts:
    made of the counted ones, they would know these and not the inputs to come.
    """

    name: Label
    edges: Annotated[tuple[Number, ...], Meta(min_length=1, max_length=63)]  # ascending
    counts: Annotated[tuple[Annotated[int, Meta(ge=0, le=2**40)], ...], Meta(max_length=64)]

    def __post_init__(self) -> None:
        if any(not low < high for low, high in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError(f"edges of {self.name!r}: expected ascending finite numbers")
        if len(self.counts) != len(self.edges) + 1:
            raise ValueError(
                f"counts of {self.name!r}: expected {len(self.edges) + 1}, one more than edges, "
                f"got {len(self.counts)}"
            )


class InputReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The part of a bundle's drift reference by which a device tells environments apart."""

    alpha: Annotated[float, Meta(ge=1e-12, lt=1)]  # probability of rejecting inputs that are alike
    features: Annotated[tuple[DriftFeature, ...], Meta(min_length=1, max_length=MAX_FEATURES)]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.features):
            raise ValueError(f"features: expected distinct names, got {list(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in the order of the graph's output."""
        return tuple(feature.name for feature in self.features)
