"""What an evaluation found, as plain frozen records that every report and table is made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from selector.policies.constraint import ConstraintKind
from training.search.comparisons import CandidateComparison, StorageRow
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
    sent_share: float | None = None  # share of the inputs sent to a server; None: no model is on one
    sent_kb: float | None = None  # thousands of bytes per input, by what one request was measured to take


@dataclass(frozen=True)
class FrontierCurve:
    """Accuracy against mean time of one method over its settings."""

    name: str
    kind: Kind
    points: Sequence[tuple[float, float]]  # mean_ms, accuracy
    wall_clock: bool = False  # timed end to end; else added up from measured costs


@dataclass(frozen=True)
class SingleAsGood:
    """A single model that cannot be told from the selector by its accuracy, and takes no more time."""

    name: str
    accuracy: float
    difference: float  # its accuracy minus the selector's, on the same inputs
    difference_low: float  # 95 % confidence interval of the difference
    difference_high: float
    time_ms: float
    selector_ms: float
    inputs: int
    certified: bool = False  # for what was asked, on its own
    alone: bool = False  # it is all that the selector uses
    times_known: bool = True  # else the machine was busy, and times are from medians, which suffer least

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        if self.alone:
            return (
                f"One model, {self.name}, answers every input: right on {self.accuracy:.1%} of "
                f"{self.inputs:,}. "
                + (
                    "It is certified for what was asked; no other model is needed for that."
                    if self.certified
                    else "What was asked is not certified, so the reference model answers."
                )
            )
        accuracy = (
            f"{self.accuracy:.1%} of {self.inputs:,} inputs ({self.difference * 100:+.1f} points; "
            f"95 % interval {self.difference_low * 100:+.1f} to {self.difference_high * 100:+.1f})"
        )
        if self.times_known:
            times = f"{self.time_ms:.3g} ms instead of {self.selector_ms:.3g}"
            judged = f"is as good: right on {accuracy}, in {times}."
        else:
            judged = (
                f"seems to be as good: right on {accuracy}, and no slower by medians, which a busy machine "
                "disturbs least."
            )
        alone = " It is certified on its own, too." if self.certified else ""
        return f"A single model, {self.name}, {judged}{alone}"


@dataclass(frozen=True)
class GroupAccuracy:
    """Accuracy on the inputs of one class, or of one environment."""

    name: str
    inputs: int
    accuracy: float  # of the selector
    accuracy_low: float  # 95 % confidence interval
    accuracy_high: float
    single: float  # of the most accurate single model
    single_low: float
    single_high: float


@dataclass(frozen=True)
class Confusion:
    """Inputs of one class that were answered with another one, and counted as wrong."""

    truth: str
    answered: str
    count: int  # answers of the selector
    share: float  # of the inputs of the class
    single_count: int  # answers of the most accurate single model


@dataclass(frozen=True)
class Breakdown:
    """Where answers are wrong: by class, by environment, and what is taken for what."""

    single: str  # the most accurate single model, which stands beside the selector
    classes: Sequence[GroupAccuracy]  # that have inputs, worst first
    environments: Sequence[GroupAccuracy]  # worst first
    confusions: Sequence[Confusion]  # most frequent first, also those of the single model alone
    names: Sequence[str] = ()  # of the rows and columns of `matrix`
    matrix: Sequence[Sequence[int]] = ()  # true class by answered class; empty where there are many classes


class FeatureShown(NamedTuple):
    """An input feature that could have been used."""

    name: str
    kept: bool
    reason: str
    cost_us: float | None = None  # measured alone; features share work, so a set costs less than its sum


@dataclass(frozen=True)
class GuaranteeRow:
    """What became of certificates in many random draws of certify samples, for one number of samples."""

    samples: int  # certify samples of a draw
    splits: int  # draws
    violated: int  # draws whose certificate is not true
    price: float | None  # mean time with the guarantee over that of the best threshold in hindsight
    certified: int | None = None  # draws in which the constraint could be certified at all
    allowed: float = 0.05  # share of draws that may be violated: delta


@dataclass(frozen=True)
class Evaluation:
    """Everything that a report shows. What has a default may be left out, and is not shown then.

    Examples
    --------
    >>> from training.evaluation.evaluate import evaluate
    >>> evaluation = evaluate(fitted, "my-profile")
    >>> evaluation.reference.name
    'full'
    """

    title: str
    subtitle: str
    asked_precision: float | None
    rows: Sequence[MethodRow]
    curves: Sequence[FrontierCurve]
    mixes: Sequence[tuple[float, Mapping[str, float]]]  # precision, model → share of the inputs
    environments: Mapping[str, Mapping[str, float]]  # environment → method → accuracy
    reliability: Mapping[str, Sequence[tuple[float, float, int]]]  # model → predicted, observed, count
    features: Sequence[FeatureShown | tuple[str, bool, str]]  # name, kept, why
    facts: Sequence[tuple[str, str]]  # label, value
    notes: Sequence[str]
    next_commands: Sequence[str]
    asked: str = ""  # the constraint in words; by default the asked precision
    reference_model: str = ""  # what a user would run without a selector; by default see `reference`
    # accuracy that choosing by the kept features adds over mixing single models blindly in equal time, their
    # cost charged, averaged over budgets: mean and standard error
    gain: tuple[float, float] | None = None
    times: Mapping[str, Sequence[float]] = field(default_factory=dict)  # method → ms of single calls
    guarantee: Sequence[GuaranteeRow] = ()  # by growing number of samples
    comparisons: Sequence[
        CandidateComparison
    ] = ()  # what cross-validation says of each kind of policy, best first
    storage: Sequence[StorageRow] = ()  # the best models by budget of bytes, smallest first
    mix_kind: ConstraintKind = "precision"  # what the levels of `mixes` bound
    asked_level: float | None = None  # that of `mixes` which was asked for; by default the asked precision
    as_good: SingleAsGood | None = None
    busy: str = ""  # why times are not compared and what to do; empty where they are
    finding: str = ""  # what a reader has to know first; empty where the figures speak for themselves
    breakdown: Breakdown | None = None
    unit: str = "ms"  # of what answers cost; any other than milliseconds is no time

    @property
    def on_cost(self) -> bool:
        """Whether answers cost something else than time."""
        return self.unit != "ms"

    @property
    def singles(self) -> list[MethodRow]:
        """Single models, cheapest first."""
        return sorted((row for row in self.rows if row.kind == "single"), key=lambda row: row.mean_ms)

    @property
    def reference(self) -> MethodRow | None:
        """The reference model; where none is named, the most accurate single model."""
        named = next((row for row in self.singles if row.name == self.reference_model), None)
        return named or max(self.singles, key=lambda row: row.accuracy, default=None)

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
    def wall_clock(self) -> bool:
        """The clock of plots and comparisons: that of the selector, or of the single models without one."""
        clocked = [self.ours] if self.ours is not None else self.singles
        return any(row.wall_clock for row in clocked)

    def on_clock(self, shown: MethodRow | FrontierCurve) -> bool:
        """Whether its times were found as those of plots and comparisons; the oracle's always count.

        Examples
        --------
        >>> from training.evaluation.evaluate import evaluate
        >>> evaluation = evaluate(fitted, "my-profile")
        >>> evaluation.on_clock(evaluation.ours)
        True
        """
        return shown.kind == "oracle" or shown.wall_clock == self.wall_clock

    @property
    def peers(self) -> list[MethodRow]:
        """Methods of others, in the order given."""
        return [row for row in self.rows if row.kind == "peer"]

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
