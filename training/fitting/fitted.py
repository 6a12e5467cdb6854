"""A fitted selector: the bundle to be and how it came about, in memory and in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from selector.bundle.bundle import SCHEMA_VERSION as SCHEMA_VERSION
from selector.bundle.bundle import Bundle, SelectorGraph
from selector.bundle.certificate import Certificate, covering
from selector.policies.cascade import CascadePolicy, LookaheadPolicy
from selector.policies.constraint import Constraint, ConstraintKind, known_kind
from selector.policies.paths import paths_of, steps_of
from selector.policies.policy import Policy
from selector.policies.pool import PoolPolicy
from selector.policies.staged import StagedPolicy
from training.features.kinds import features_of
from training.outcomes.outcomes import Outcomes, with_features
from training.policies.base import FittedPolicy
from training.policies.cascade import FittedCascade
from training.policies.input import FittedInputPolicy
from training.policies.lookahead import FittedLookahead
from training.policies.pool import FittedPool
from training.policies.staged import FittedStaged
from training.search.comparisons import CandidateComparison, StorageRow
from training.search.input_fit import PixelsOf
from training.search.plans import GRAPHS_FOLDER
from zoo.errors import DataError, PrecisionError, ZooError
from zoo.files import encode_record, read_record, read_verified, write_atomic
from zoo.types import Positive, Sha256

OLDEST_VERSION = 2  # of a bundle without a drift reference
FIT_FILE = "fit.json"
MOST_ALTERNATIVES = 4  # that are named where a constraint is not certified

T = TypeVar("T")


class FeatureRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whether an input feature was kept, and why."""

    name: str
    kept: bool
    reason: str
    cost_us: float  # microseconds of this feature alone


class ScoutFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The scout network whose log-odds are among the features, for simulation on stored pixels."""

    file: str
    sha256: Sha256
    size_bytes: Positive


class FitRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fitted selector: the bundle to be, and how it came about."""

    schema_version: Positive
    inputs_sha256: Sha256  # see fit_inputs_sha256
    bundle: Bundle
    scores: SelectorGraph | None  # features → scores, for simulation on stored features
    grid: Positive
    delta: float
    comparisons: tuple[CandidateComparison, ...]  # best first
    storage: tuple[StorageRow, ...]  # smallest first
    features: tuple[FeatureRecord, ...]
    gain: tuple[float, float] | None  # frontier quality over no features: mean, standard error
    estimators: dict[str, tuple[float, float]]  # frontier quality: mean, standard error
    scout: ScoutFile | None = None
    interrupted: float | None = None  # largest share of runs of a path of the first policy; None: not known


@dataclass(frozen=True)
class Fitted:
    """A fitted selector in memory, ready to be simulated, written and exported.

    Examples
    --------
    >>> fitted.policy.models[0], fitted.record.bundle.reference
    ('tiny', 'full')
    """

    record: FitRecord
    policies: tuple[FittedPolicy, ...]  # as in the bundle
    graph: bytes | None
    scores: bytes | None
    scout: bytes | None = None
    drift: bytes | None = None

    @property
    def policy(self) -> FittedPolicy:
        """The best policy with all models there."""
        return self.policies[0]

    def certificate(
        self, asked: Constraint | None = None, *, policy: int = 0, environment: str | None = None
    ) -> Certificate | None:
        """The certificate of a policy that covers a constraint (by default the fitted one), or None.

        Examples
        --------
        >>> from selector.policies.constraint import Constraint
        >>> fitted.certificate(Constraint(kind="precision", level=0.9)).confidence
        0.95
        """
        wanted = self.record.bundle.default if asked is None else asked
        return covering(self.record.bundle.certificates, wanted, policy=policy, environment=environment)

    def informed(self, outcomes: Outcomes, pixels: PixelsOf) -> Outcomes:
        """`outcomes` with the scout's log-odds, where the policies use them.

        Examples
        --------
        >>> fitted.scout is None  # no policy of these uses one
        True
        """
        if self.scout is None:
            return outcomes
        scout = features_of(self.record.bundle.kind).scout_from(self.scout)
        return with_features(outcomes, scout.names, scout.log_odds(pixels(outcomes.ids)))

    def stage_graphs(self) -> dict[str, bytes]:
        """File → content of the graphs of all staged policies.

        Examples
        --------
        >>> fitted.stage_graphs()  # none of these policies is staged
        {}
        """
        return {
            file: content
            for policy in self.policies
            if isinstance(policy, FittedStaged)
            for file, content in policy.graphs.items()
        }

    def certified_levels(self, kind: ConstraintKind, *, policy: int = 0) -> list[float]:
        """Levels of one kind of constraint that are certified for a policy, ascending.

        Examples
        --------
        >>> fitted.certified_levels("precision") != []
        True
        """
        wanted = known_kind(kind)
        return sorted(
            c.constraint.level
            for c in self.record.bundle.certificates
            if c.constraint.kind == wanted and c.policy == policy and c.environment is None
        )

    def alternatives(
        self, asked: Constraint | None = None, *, most: int = MOST_ALTERNATIVES
    ) -> tuple[Certificate, ...]:
        """The nearest that is certified where a constraint is not: each in less time than the one before.

        Those of the policies for fewer models count too: they show what other constraints would allow.

        Parameters
        ----------
        asked
            The constraint; by default the fitted one.
        most
            How many certificates to give at most.

        Examples
        --------
        >>> wanted = Constraint(kind="precision", level=0.9999)
        >>> all(near.constraint.level < 0.9999 for near in fitted.alternatives(wanted))
        True
        """
        wanted = self.record.bundle.default if asked is None else asked
        same = [
            c
            for c in self._certified(wanted.kind)
            if (c.constraint.level < wanted.level) is (wanted.kind == "precision")
            and c.constraint.level != wanted.level
        ]
        near = sorted(same, key=lambda c: (abs(c.constraint.level - wanted.level), c.mean_ms))
        return tuple(near if wanted.is_budget else ever_cheaper(near, _mean_ms))[:most]

    def certified(self, kind: ConstraintKind) -> tuple[Certificate, ...]:
        """All levels of one kind that are certified by some policy, strictest first.

        Bounds on accuracy: each in less time than the one before. Budgets of time: the most accurate
        certificate of each.

        Examples
        --------
        >>> levels = [found.constraint.level for found in fitted.certified("precision")]
        >>> levels == sorted(levels, reverse=True)
        True
        """
        same = self._certified(kind)
        if kind not in ("precision", "max_drop"):
            best: dict[float, Certificate] = {}
            for c in sorted(same, key=lambda c: (c.constraint.level, -c.accuracy)):
                best.setdefault(c.constraint.level, c)
            return tuple(best.values())
        strictness = -1 if kind == "precision" else 1
        in_order = sorted(same, key=lambda c: (strictness * c.constraint.level, c.mean_ms))
        return tuple(ever_cheaper(in_order, _mean_ms))

    def _certified(self, kind: ConstraintKind) -> list[Certificate]:
        return [
            c for c in self.record.bundle.certificates if c.constraint.kind == kind and c.environment is None
        ]


def _mean_ms(certificate: Certificate) -> float:
    return certificate.mean_ms


def ever_cheaper(given: Sequence[T], key: Callable[[T], float]) -> list[T]:
    """Those whose key, such as a time, is less than that of all before them."""
    found: list[T] = []
    for one in given:
        if not found or key(one) < key(found[-1]):
            found.append(one)
    return found


def holds_certified(folder: str | Path) -> Constraint | None:
    """What the fitted selector in a folder was fitted for, if that is certified; None where there is none."""
    try:
        before = load_fit(folder)
    except ZooError:  # nothing there that anything could use
        return None
    return None if before.certificate() is None else before.record.bundle.default


def save_fit(fitted: Fitted, folder: str | Path, *, replace: bool = False) -> None:
    """Write a fitted selector; ``fit.json`` is written last and names the other files by their digests.

    Parameters
    ----------
    replace
        Replace a certified selector even by one that is not.

    Raises
    ------
    PrecisionError
        When `folder` holds a certified selector, this one is not certified, and `replace` is False.
    """
    target = Path(folder)
    kept = None if replace or fitted.certificate() is not None else holds_certified(target)
    if kept is not None:
        raise PrecisionError(
            f"expected a certified selector to replace the one in {folder}, which is certified for {kept}; "
            f"got one that is not certified for {fitted.record.bundle.default}. "
            "Write to another folder, or replace it with --replace (in Python: replace=True)."
        )
    record = fitted.record
    for graph, content in (
        (record.bundle.selector, fitted.graph),
        (record.scores, fitted.scores),
        (record.scout, fitted.scout),
        (record.bundle.drift, fitted.drift),
    ):
        if graph is not None and content is not None:
            write_atomic(target / graph.file, content)
    for file, content in fitted.stage_graphs().items():
        write_atomic(target / file, content)
    write_atomic(target / FIT_FILE, encode_record(record))
    graphs = (record.bundle.selector, record.scores, record.scout, record.bundle.drift)
    named = {graph.file for graph in graphs if graph is not None}
    remove_others(target, named | set(fitted.stage_graphs()))


def remove_others(folder: Path, named: set[str]) -> None:
    """Remove graphs from a folder that nothing there names any more."""
    kinds = ("selector", "scores", "scout", "drift", f"{GRAPHS_FOLDER}/stage")
    for pattern in (f"{kind}-*.onnx" for kind in kinds):
        for path in folder.glob(pattern):
            if path.relative_to(folder).as_posix() not in named:
                path.unlink(missing_ok=True)


def load_fit(folder: str | Path) -> Fitted:
    """Read a fitted selector.

    Raises
    ------
    DataError
        When there is none.
    CardError, DigestError
        When a file does not validate or is not the recorded one.
    """
    source = Path(folder)
    path = source / FIT_FILE
    if not path.is_file():
        raise DataError(
            f"expected a fitted selector in {folder}, got no {FIT_FILE} there. Run 'zooselect fit'."
        )
    record = read_record(path, FitRecord, schema_version=SCHEMA_VERSION, oldest=OLDEST_VERSION)
    graph, scores, scout, drift = (
        read_verified(source / item.file, item.sha256, item.size_bytes) if item is not None else None
        for item in (record.bundle.selector, record.scores, record.scout, record.bundle.drift)
    )
    policies = tuple(_restore(record, policy, scores, source) for policy in record.bundle.policies)
    for fitted in policies:
        rows = [record.bundle.costs_ms().path(steps_of(fitted.policy), p) for p in paths_of(fitted.policy)]
        fitted.charged_ms = {row.models: row.mean_ms for row in rows if row}
    return Fitted(record, policies, graph, scores, scout, drift)


def restore(
    policy: Policy,
    costs: Mapping[str, float],
    folder: Path,
    *,
    scores: bytes | None,
    score_features: Sequence[str] = (),
    selector_ms: float = 0.0,
    stage_ms: float = 0.0,
    confidence_ms: float = 0.0,
) -> FittedPolicy:
    """A stored policy with what it needs to be simulated.

    Parameters
    ----------
    costs
        Of every model.
    folder
        Where the graphs of states lie.
    scores
        The graph features → scores, where there is one.
    score_features
        Names of its features.
    selector_ms, stage_ms, confidence_ms
        As of :class:`selector.policies.rules.DecisionCosts`.

    Raises
    ------
    DataError
        When the policy needs scores and there is no graph of them.
    DigestError
        When a graph is not the recorded one.
    """
    if isinstance(policy, CascadePolicy):
        return FittedCascade(policy, costs, stage_ms=confidence_ms)
    if isinstance(policy, LookaheadPolicy):
        return FittedLookahead(policy, costs, stage_ms=confidence_ms)
    if isinstance(policy, PoolPolicy):
        return FittedPool(policy, costs, stage_ms=confidence_ms)
    if isinstance(policy, StagedPolicy):
        graphs = {
            state.file: read_verified(folder / state.file, state.sha256, state.size_bytes)
            for state in policy.states
        }
        overhead = selector_ms if policy.features else 0.0
        return FittedStaged(policy, graphs, costs, overhead_ms=overhead, stage_ms=stage_ms)
    if scores is None:
        raise DataError("fit.json: an input policy needs its score graph. Run 'zooselect fit' again.")
    return FittedInputPolicy(policy, scores, score_features, costs, overhead_ms=selector_ms)


def _restore(record: FitRecord, policy: Policy, scores: bytes | None, folder: Path) -> FittedPolicy:
    costs = record.bundle.costs_ms()
    return restore(
        policy,
        costs.models,
        folder,
        scores=None if record.scores is None else scores,
        score_features=() if record.scores is None else record.scores.features,
        selector_ms=costs.selector_ms,
        stage_ms=costs.stage_ms,
        confidence_ms=costs.confidence_ms,
    )
