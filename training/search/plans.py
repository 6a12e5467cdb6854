"""Search for staged policies: which models, in which order, with which rule, by cross-validation.

Every chain of up to four models, cheapest first, is tried: as a learned cascade, and as a probe that may
send an input on to any later model. What a state would score is estimated out of fold, so the comparison is
not flattered by what a fit remembers. Estimators of a state are shared by all chains that pass through it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from selector.policies.rules import Rule
from selector.policies.staged import StagedPolicy, State
from training.outcomes.folds import Folds, grouped_folds
from training.outcomes.outcomes import Outcomes, Some
from training.policies.frontier import Floats, Indices, Simulated, by_cost, cost_at, pareto_places
from training.policies.logistic import fit_logistic, log_odds, sigmoid
from training.policies.staged import Chain, FittedStaged, PlanState, follow_all, staged_thresholds
from training.policies.state_scores import StageEstimator, answers, fit_stage, stage_inputs
from zoo.files import sha256_bytes

MAX_STAGES = 4
MAX_MODELS = 8  # more are narrowed down to the most useful ones before chains are tried
FIT_ROWS = 100_000  # samples that policies are fitted to; no estimator here gains from more
SEARCH_ROWS = 6000  # samples that they are compared on
SEARCH_THRESHOLDS = 48
MORE_VARIANTS = 4  # times as many samples as are compared may be learned from
_FEWER_VARIANTS = 0.1  # share of originals that may have fewer variants than are kept of all others
GRAPHS_FOLDER = "graphs"  # folder of the graphs of states

RULES: tuple[Rule, ...] = ("threshold", "price")


@dataclass(frozen=True)
class StagedPlan:
    """A staged policy before it is fitted."""

    chain: Chain
    probe: bool  # whether the first model may send an input to any later one
    rule: Rule
    committee: bool
    features: tuple[str, ...] = ()
    sees: str = "input features"  # what these are, in words

    def steps(self, costs: Mapping[str, float]) -> tuple[PlanState, ...]:
        """The states, each after those that lead to it."""
        rans = probe_states(self.chain) if self.probe else chain_states(self.chain)
        steps = []
        for ran in rans:
            later = self.chain[self.chain.index(ran[-1]) + 1 :]
            actions: tuple[Chain, ...] = tuple(later[: i + 1] for i in range(len(later)))
            if self.probe:
                actions = tuple((name,) for name in later) if len(ran) == 1 else ()
            steps.append(PlanState(ran, actions, tuple(sum(costs[m] for m in action) for action in actions)))
        return tuple(steps)


def chain_states(chain: Chain) -> list[Chain]:
    """What has run in a cascade, stage by stage."""
    return [chain[: i + 1] for i in range(len(chain))]


def probe_states(chain: Chain) -> list[Chain]:
    """What has run when the first model sends an input to at most one other."""
    return [chain[:1], *((chain[0], name) for name in chain[1:])]


class FoldedScores:
    """Out-of-fold scores of states on one set of samples, computed once for all plans that share them.

    Parameters
    ----------
    outcomes
        Fit and tune samples.
    folds
        Pairs of row indices: to fit on, to score.
    rows
        Of the samples, those that plans are judged on; by default all.
    """

    def __init__(
        self,
        outcomes: Outcomes,
        folds: Folds,
        features: Floats | None = None,
        rows: Indices | None = None,
    ) -> None:
        self.outcomes = outcomes
        self.folds = folds
        self.features = features
        self.rows = slice(None) if rows is None else rows
        self.judged = outcomes if rows is None else outcomes.rows(rows)
        self._inputs: dict[tuple[Chain, bool], Floats] = {}
        self._right: dict[tuple[frozenset[str] | str, bool], NDArray[np.bool_]] = {}
        self._scores: dict[tuple[Chain, frozenset[str] | str, bool], Floats] = {}

    @classmethod
    def informed(
        cls, compared: Outcomes, folds: Folds, names: Sequence[str], every_variant: Outcomes | None
    ) -> FoldedScores:
        """Scores that see features, which tell mixes apart: they learn from every variant of the compared
        samples' originals, unless these are very many."""
        some, rows = compared, None
        if every_variant is not None:
            theirs = np.flatnonzero(np.isin(every_variant.groups, compared.groups))
            if len(compared) < len(theirs) <= MORE_VARIANTS * len(compared):
                some = every_variant.rows(theirs)
                folds = grouped_folds(some.groups)
                place = {name: i for i, name in enumerate(some.ids.tolist())}
                rows = np.array([place[name] for name in compared.ids.tolist()])
        return cls(some, folds, some.feature_columns(names).astype(np.float64), rows)

    def right(self, ran: Chain, committee: bool) -> NDArray[np.bool_]:
        """Whether the answer after `ran` is right ``[n]``."""
        key = (frozenset(ran) if committee else ran[-1], committee)
        if key not in self._right:
            logits = self._logits(ran if committee else ran[-1:])
            self._right[key] = self.outcomes.right_after(ran, answers(logits, committee=committee))
        return self._right[key]

    def scores(self, step: PlanState, committee: bool) -> Floats:
        """Scores ``[n, 1 + A]`` of a state, each from estimators that did not see the sample."""
        ends = [step.ran, *((*step.ran, *action) for action in step.actions)]
        keys = [(step.ran, frozenset(end) if committee else end[-1], committee) for end in ends]
        new = {key: end for key, end in zip(keys, ends, strict=True) if key not in self._scores}
        if new:
            targets = np.stack([self.right(end, committee) for end in new.values()], axis=1)
            self._scores |= zip(new, self._fitted(step.ran, targets, committee).T, strict=True)
        return np.stack([self._scores[key] for key in keys], axis=1)

    def _fitted(self, ran: Chain, targets: NDArray[np.bool_], committee: bool) -> Floats:
        inputs = self._known(ran, committee)
        scores = np.empty(targets.shape)
        weights = None  # those of the fold before are close
        for rest, held in self.folds:
            weights = fit_logistic(inputs[rest], targets[rest], start=weights)
            scores[held] = sigmoid(log_odds(weights, inputs[held]))
        return scores

    def _known(self, ran: Chain, committee: bool) -> Floats:
        if (ran, committee) not in self._inputs:
            self._inputs[ran, committee] = stage_inputs(self._logits(ran), self.features, committee=committee)
        return self._inputs[ran, committee]

    def _logits(self, ran: Chain) -> NDArray[np.float32]:
        return self.outcomes.with_models(ran).logits


def part_to_fit(outcomes: Some, seed: int) -> Some:
    """All samples, or as many of them as fitting gains from."""
    return _part(outcomes, FIT_ROWS, seed)


def part_to_compare(outcomes: Some, seed: int, most: int | None = None) -> Some:
    """All samples, or so many of them that candidates can be compared in seconds."""
    return _part(outcomes, most or SEARCH_ROWS, seed)


def evenly(outcomes: Some, seed: int) -> Some:
    """Samples in which originals count as they do in certify and test, where each has one.

    Where nearly all originals have equally many variants, all samples stay. Otherwise those with more lose
    some, drawn at random: what is enough for a mix in which a few originals count many times is not enough
    for the mix that a certificate is about.
    """
    _, original, sizes = np.unique(outcomes.groups, return_inverse=True, return_counts=True)
    most = int(np.quantile(sizes, _FEWER_VARIANTS, method="lower")) if len(sizes) else 0
    mixed = np.random.default_rng(seed).permutation(len(outcomes))
    order = mixed[np.argsort(original[mixed], kind="stable")]
    place = np.empty(len(outcomes), np.intp)
    place[order] = np.arange(len(outcomes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    kept = np.flatnonzero(place < most)
    return outcomes if len(kept) == len(outcomes) else outcomes.rows(kept)


def rows_for(models: int) -> int:
    """Samples on which chains of so few models can be compared in the time that those of MAX_MODELS take on
    SEARCH_ROWS.

    With more samples less of what decides is luck.
    """
    return min(FIT_ROWS, SEARCH_ROWS * (_chains(MAX_MODELS) // max(1, _chains(min(models, MAX_MODELS)))))


def _chains(models: int) -> int:
    return sum(comb(models, length) for length in range(2, MAX_STAGES + 1))


def _part(outcomes: Some, most: int, seed: int) -> Some:
    if len(outcomes) <= most:
        return outcomes
    chosen = np.random.default_rng(seed).choice(len(outcomes), most, replace=False)
    return outcomes.rows(np.sort(chosen))


def folded_frontier(
    plan: StagedPlan,
    folded: FoldedScores,
    costs: Mapping[str, float],
    *,
    overhead_ms: float = 0.0,
    stage_ms: float = 0.0,
    count: int = SEARCH_THRESHOLDS,
) -> list[Simulated]:
    """What the plan would do, on scores that did not see the samples, at those thresholds that pay.

    Of many thresholds only those are kept that no other beats in both accuracy and time.
    """
    steps = plan.steps(costs)
    scores = [folded.scores(step, plan.committee)[folded.rows] for step in steps]
    right = np.stack([folded.right(step.ran, plan.committee)[folded.rows] for step in steps], axis=1)
    stop_costs = overhead_ms + np.array([sum(costs[m] + stage_ms for m in step.ran) for step in steps])
    thresholds = staged_thresholds(steps, scores, plan.rule, count=count)
    stopped = follow_all(steps, scores, thresholds, plan.rule)
    charged = folded.judged.charge([step.ran for step in steps], stop_costs)
    ends = [stopped == i for i in range(len(steps))]
    mean_ms = _mean_ms(ends, charged)
    accuracy = sum((end & right[:, i]).mean(axis=1) for i, end in enumerate(ends))
    rows = np.arange(len(right))
    return [
        Simulated(float(thresholds[t]), stopped[t], right[rows, stopped[t]], cost_at(charged, stopped[t]))
        for t in pareto_places(mean_ms, accuracy)
    ]


def _mean_ms(ends: Sequence[NDArray[np.bool_]], costs: Floats) -> Floats:
    """Mean cost ``[T]`` of samples that end so ``[T, n]`` in K ways, at costs ``[K]`` or ``[n, K]``."""
    if costs.ndim == 1:
        shares: Floats = np.stack([end.mean(axis=1) for end in ends], axis=1)
        return shares @ costs
    means: Floats = np.stack([end @ costs[:, i] for i, end in enumerate(ends)]).sum(axis=0) / len(costs)
    return means


def plans(
    models: Sequence[str],
    costs: Mapping[str, float],
    *,
    probe: bool,
    committees: Sequence[bool] = (True, False),
) -> list[StagedPlan]:
    """All chains of up to four of `models`, cheapest first, under both rules, with each of `committees`."""
    names = by_cost(costs, models)
    return [
        StagedPlan(chain, probe, rule, committee)
        for length in range(2, min(MAX_STAGES, len(names)) + 1)
        for chain in combinations(names, length)
        for rule in RULES
        for committee in committees
        if not (probe and length < 3)
    ]


def fit_plan(
    plan: StagedPlan,
    outcomes: Outcomes,
    costs: Mapping[str, float],
    *,
    overhead_ms: float = 0.0,
    stage_ms: float = 0.0,
) -> FittedStaged:
    """Fit the states of a plan on `outcomes` and make their graphs."""
    features = outcomes.feature_columns(plan.features).astype(np.float64) if plan.features else None
    graphs: dict[str, bytes] = {}
    states = []
    for step in plan.steps(costs):
        content = _fit_step(step, outcomes, plan.committee, features).to_onnx()
        digest = sha256_bytes(content)
        file = f"{GRAPHS_FOLDER}/stage-{digest[:12]}.onnx"
        graphs[file] = content
        states.append(
            State(
                ran=step.ran,
                actions=step.actions,
                costs_ms=step.costs_ms,
                file=file,
                sha256=digest,
                size_bytes=len(content),
            )
        )
    policy = StagedPolicy(
        states=tuple(states), rule=plan.rule, committee=plan.committee, features=plan.features
    )
    return FittedStaged(policy, graphs, costs, overhead_ms=overhead_ms, stage_ms=stage_ms)


def _fit_step(
    step: PlanState, outcomes: Outcomes, committee: bool, features: Floats | None
) -> StageEstimator:
    def right(ran: Chain) -> NDArray[np.bool_]:
        return outcomes.right_after(ran, answers(outcomes.with_models(ran).logits, committee=committee))

    targets = np.stack([right(step.ran), *(right((*step.ran, *action)) for action in step.actions)], axis=1)
    logits = outcomes.with_models(step.ran).logits
    return fit_stage(logits, targets, committee=committee, features=features)
