"""What a bundle was certified with: samples, the notion of a right answer, the execution provider."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from selector.bundle.certificate import PrecisionTest
from zoo.providers import CPU
from zoo.types import Name, Positive, Sha256


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The data that policy and certificates come from."""

    data_sha256: Sha256
    fit: Positive  # samples per split
    tune: Positive
    certify: Positive
    top_k: Positive = 1  # an answer counts as right when the label is among its k most probable classes
    agree_with: Name | None = None  # right is what this model says; None: the label
    environment: str | None = None  # samples of this environment only; None: of all
    test: PrecisionTest | None = None  # that precisions were proven with; None: the exact binomial
    test_reason: str | None = None  # why that one, in words
    # execution provider that the samples were answered with, and its options; left out: the CPU's
    provider: str | UnsetType = UNSET

    @property
    def provider_name(self) -> str:
        """The provider that certificates are about, with its options."""
        return str(CPU) if self.provider is UNSET else self.provider
