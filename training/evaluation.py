"""What an evaluation found, as plain frozen records that every report and table is made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from zoo.errors import DataError

Kind = Literal["single", "ours", "oracle", "peer"]


@dataclass(frozen=True)
class MethodRow:
    """One way to answer all test inputs: a single model, the selector at one setting, the oracle, a peer.

    Probabilities and shares are between 0 and 1.
    """

    name: str
    kind: Kind
    precision: float | None  # that was asked for, if any
    accuracy: float  # over all inputs
    accuracy_low: float  # 95 % confidence interval of the accuracy
    accuracy_high: float
    mean_ms: float  # per input, everything included
    p95_ms: float
    shares: Mapping[str, float]  # model → share of the inputs that it answered
    certified: bool | None  # None where no certificate could apply
    wall_clock: bool  # timed end to end; else added up from measured costs


@dataclass(frozen=True)
class FrontierCurve:
    """Accuracy against mean time of one method over its settings."""

    name: str
    kind: Kind
    points: Sequence[tuple[float, float]]  # mean_ms, accuracy


@dataclass(frozen=True)
class Evaluation:
    """Everything that a report shows."""

    title: str
    subtitle: str
    asked_precision: float | None
    rows: Sequence[MethodRow]
    curves: Sequence[FrontierCurve]
    mixes: Sequence[tuple[float, Mapping[str, float]]]  # precision, model → share of the inputs
    environments: Mapping[str, Mapping[str, float]]  # environment → method → accuracy
    reliability: Mapping[str, Sequence[tuple[float, float, int]]]  # model → predicted, observed, count
    features: Sequence[tuple[str, bool, str]]  # name, kept, why
    facts: Sequence[tuple[str, str]]  # label, value
    notes: Sequence[str]
    next_commands: Sequence[str]

    @property
    def singles(self) -> list[MethodRow]:
        """Single models, cheapest first."""
        return sorted((row for row in self.rows if row.kind == "single"), key=lambda row: row.mean_ms)

    @property
    def reference(self) -> MethodRow | None:
        """The most accurate single model; of equals the cheapest."""
        return max(self.singles, key=lambda row: row.accuracy, default=None)

    @property
    def cheapest_enough(self) -> MethodRow | None:
        """The cheapest single model that reaches the asked precision on these inputs."""
        asked = self.asked_precision
        return next((row for row in self.singles if asked is not None and row.accuracy >= asked), None)

    @property
    def ours(self) -> MethodRow | None:
        """The selector at the asked precision, or the first setting of it where that was not evaluated."""
        rows = [row for row in self.rows if row.kind == "ours"]
        asked = self.asked_precision
        return next(
            (row for row in rows if asked is not None and row.precision == asked), next(iter(rows), None)
        )

    @property
    def models(self) -> list[str]:
        """Names of all models in any share, cheapest first where their cost is known."""
        names = [row.name for row in self.singles]
        shares = [row.shares for row in self.rows] + [mix for _, mix in self.mixes]
        return list(dict.fromkeys([*names, *(name for share in shares for name in share)]))


def wilson_interval(k: int, n: int) -> tuple[float, float]:
    """95 % confidence interval of a probability after `k` successes in `n` independent trials.

    Wilson, Probable Inference, the Law of Succession, and Statistical Inference (JASA 22, 1927).

    Raises
    ------
    DataError
        When not 0 <= k <= n.
    """
    if not 0 <= k <= n:
        raise DataError(f"expected successes between 0 and the {n} trials, got {k}.")
    if n == 0:
        return 0.0, 1.0
    z = 1.959963984540054
    share, spread = k / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return (0.0 if k == 0 else centre - half), (1.0 if k == n else centre + half)
