"""Certificates: what was proven, and whether it covers what is asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from selector.policies.constraint import Constraint
from zoo.types import Positive, Sha256

Probability = Annotated[float, Meta(gt=0, lt=1)]
PrecisionTest = Literal["binomial", "control-variate"]  # see docs/guarantees.md


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was proven: with confidence `confidence`, one policy at `threshold` meets `constraint`, on inputs
    like those of the calibration data.

    Examples
    --------
    >>> certificate = selector.certificate(0.9)
    >>> certificate.constraint.level >= 0.9, certificate.confidence
    (True, 0.95)
    """

    constraint: Constraint
    confidence: Probability  # 1 - delta
    policy: Annotated[int, Meta(ge=0)]  # index into the bundle's policies
    threshold: float
    samples: Positive  # certify samples that it was proven on
    accuracy: Annotated[float, Meta(ge=0, le=1)]  # share of them that was answered right
    mean_ms: Annotated[float, Meta(ge=0)]  # mean cost over them on the device of the latency table
    p_value: Annotated[float, Meta(ge=0, le=1)]
    subject_sha256: Sha256  # digest of policy, graphs and model files; see Bundle.subject
    environment: str | None = None  # of the inputs that it holds for; None: the mix of the calibration data
    test: PrecisionTest | None = None  # of a precision; None: the one test of its kind of constraint
    # of the certify samples: share that was sent to a server, and kilobytes that an answer sent in the mean;
    # left out of what is written in a zoo without remote models, whose readers may be older
    remote_share: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    uplink_kb: Annotated[float, Meta(ge=0)] | UnsetType = UNSET

    @property
    def sends(self) -> str:
        """What is sent, in words; empty where nothing can be.

        Examples
        --------
        >>> selector.certificate(0.9).sends
        ''
        """
        if self.remote_share is UNSET or self.uplink_kb is UNSET:
            return ""
        return f"{self.remote_share:.1%} sent to a server, {self.uplink_kb:.3g} kB an answer"


def covering(
    certificates: Iterable[Certificate], asked: Constraint, *, policy: int, environment: str | None = None
) -> Certificate | None:
    """The certificate of a policy for the laxest constraint that still covers `asked`, or None."""
    found = [
        certificate
        for certificate in certificates
        if certificate.policy == policy
        and certificate.environment == environment
        and certificate.constraint.covers(asked)
    ]
    # the laxest is the lowest precision, but the largest drop or budget
    sign = 1 if asked.kind == "precision" else -1
    return min(found, key=lambda certificate: sign * certificate.constraint.level, default=None)
