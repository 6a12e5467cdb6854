"""Candidates: every policy that could be fitted, judged by cross-validation on fit and tune samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from selector.policies.cascade import CascadePolicy, Stage, right_probability
from selector.policies.input import InputPolicy
from selector.policies.rules import escalate
from training.outcomes.folds import Folds, halvings
from training.outcomes.outcomes import Outcomes
from training.policies.base import FittedPolicy
from training.policies.cascade import FittedCascade, fit_platt
from training.policies.frontier import (
    Floats,
    Outline,
    Point,
    Simulated,
    by_cost,
    cascade_thresholds,
    cost_at,
    frontier_quality,
    pareto,
)
from training.policies.input import input_frontier
from training.policies.lookahead import FittedLookahead, Lookahead
from training.policies.singles import SingleModelHull
from training.policies.staged import staged_thresholds
from training.search.input_fit import InputFit
from training.search.plans import (
    MAX_MODELS,
    MAX_STAGES,
    SEARCH_THRESHOLDS,
    FoldedScores,
    StagedPlan,
    fit_plan,
    folded_frontier,
    plans,
)
from training.search.pools import Pools, Recalibrated, Scaled, pool_chains

MAX_INPUT_MODELS = 6  # of which all sets are tried
ESTIMATING = 8  # plans that are tried with estimates, the best ones without
POOL_LABELS = ("one model, recalibrated", "log-opinion pool")
TWIN_SHARE = 0.015  # of the samples, on which a model and a cheaper one that does the same may differ


@dataclass(frozen=True)
class Candidate:
    """One policy that could be fitted."""

    kind: str  # input, cascade or probe
    label: str  # what it is, in words
    models: tuple[str, ...]
    frontier: Sequence[Point]  # cross-validated; see Situation.outline
    build: Callable[[], FittedPolicy]


@dataclass(frozen=True)
class Situation:
    """What all candidates are judged on."""

    everything: Outcomes  # fit and tune samples, which the final fit is on
    outcomes: Outcomes  # these or a part of them, which candidates are compared on
    folds: Folds
    costs: Mapping[str, float]
    stage_ms: float  # of the graph that decides after a model ran
    confidence_ms: float  # of looking at a model's raw confidence instead
    reference: str | None = None  # the model that a drop is counted from; by default the most accurate
    # of candidates that were simulated before, here or by a fit for another constraint: see outline
    known: dict[str, list[Outline]] = field(default_factory=dict)
    scalings: dict[str, Recalibrated] = field(default_factory=dict)  # of the final fit, likewise
    scaled: dict[str, Scaled] = field(default_factory=dict)  # models on the compared samples
    # what policies that see features learn from, if not from these samples: features tell mixes apart
    every_variant: Outcomes | None = None

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """What each model's raw confidence is worth on the compared samples."""
        return {name: fit_platt(self.outcomes, name) for name in self.outcomes.models}

    @cached_property
    def lookahead(self) -> Lookahead:
        """What it says of the answers of dearer models."""
        return Lookahead(self.outcomes, self.costs, self.confidence_ms)

    @cached_property
    def pools(self) -> Pools:
        """Recalibrated models on the compared samples."""
        known = self.scalings if self._all_compared else None
        return Pools(
            self.outcomes, self.folds, self.costs, self.confidence_ms, known=known, scaled=self.scaled
        )

    @cached_property
    def final_pools(self) -> Pools:
        """The same for the final fit."""
        if self._all_compared:
            return self.pools
        return Pools.of(self.everything, self.costs, self.confidence_ms, known=self.scalings, like=self.pools)

    @property
    def _all_compared(self) -> bool:
        return len(self.everything) == len(self.outcomes)

    @cached_property
    def singles(self) -> SingleModelHull:
        """What can be had without a selector."""
        return SingleModelHull(self.outcomes, self.costs)

    def outline(self, name: str, simulate: Callable[[], Sequence[Simulated]]) -> list[Outline]:
        """The points that no other beats, with their doubt; in few bytes, as candidates are many.

        Parameters
        ----------
        name
            Tells the candidate from all others. What is known by it is not simulated again: nothing in it
            depends on the constraint.
        """
        if name not in self.known:
            self.known[name] = [
                Outline.of(point, self._reference_right, self.singles.doubt(point), self._first_halves)
                for point in pareto(simulate())
            ]
        return self.known[name]

    @cached_property
    def _first_halves(self) -> NDArray[np.bool_]:
        return halvings(self.outcomes.groups)

    @cached_property
    def _reference_right(self) -> NDArray[np.bool_]:
        accuracy = self.outcomes.accuracy()
        name = self.reference or max(accuracy, key=lambda one: (accuracy[one], -self.costs[one]))
        right: NDArray[np.bool_] = self.outcomes.right[:, self.outcomes.models.index(name)]
        return right


def all_candidates(at: Situation, kinds: Sequence[str], input_fit: InputFit | None = None) -> list[Candidate]:
    """Every candidate of the named kinds, and each model alone."""
    models = useful_models(at.outcomes, at.costs)
    found = single_candidates(at)
    if "cascade" in kinds:
        if at.outcomes.combinable:
            found += pool_candidates(at, models)
        found += cascade_candidates(at, models)
        found += staged_candidates(at, models, probe=False, input_fit=input_fit)
    if "probe" in kinds:
        found += staged_candidates(at, models, probe=True, input_fit=input_fit)
    if "input" in kinds:
        assert input_fit is not None
        found += input_candidates(at, input_fit)
    return found


def single_candidates(at: Situation) -> list[Candidate]:
    """Each model alone: what is left for a device that holds only one."""
    return [raw_candidate(at, (name,)) for name in at.outcomes.models]


def pool_candidates(at: Situation, models: Sequence[str]) -> list[Candidate]:
    """Pools of recalibrated models: all chains of up to four of `models`, and each of all models alone."""
    chains: list[tuple[str, ...]] = [(name,) for name in at.outcomes.models]
    return [pool_candidate(at, chain) for chain in (*chains, *pool_chains(at.costs, models))]


def cascade_candidates(at: Situation, models: Sequence[str]) -> list[Candidate]:
    """Cascades on raw confidence, with and without look-ahead: all chains of up to four of `models`."""
    names = by_cost(at.costs, models)
    return [
        make(at, chain)
        for length in range(2, min(MAX_STAGES, len(names)) + 1)
        for chain in combinations(names, length)
        for make in (raw_candidate, lookahead_candidate)
    ]


def planned(at: Situation, models: Sequence[str], *, probe: bool) -> list[StagedPlan]:
    """Plans of staged policies; committees where models told their logits."""
    return plans(models, at.costs, probe=probe, committees=committees(at.outcomes))


def committees(outcomes: Outcomes) -> tuple[bool, ...]:
    """Whether policies may answer as a committee: both ways where models told their logits."""
    return (True, False) if outcomes.combinable else (False,)


def staged_candidates(
    at: Situation, models: Sequence[str], *, probe: bool, input_fit: InputFit | None = None
) -> list[Candidate]:
    """Learned cascades, or probes; the best also with input features."""
    folded = FoldedScores(at.outcomes, at.folds)
    found = [staged_candidate(at, plan, folded) for plan in planned(at, models, probe=probe)]
    extra = []
    if input_fit is not None:
        low, high = min(at.costs.values()), max(at.costs.values())
        ranked = sorted(found, key=lambda pair: -frontier_quality(pair[1].frontier, low, high))
        for names, most, sees in (
            (input_fit.features, 1, "input features"),
            (input_fit.estimates, ESTIMATING, "estimates"),
        ):
            if not names:
                continue
            informed = FoldedScores.informed(at.outcomes, at.folds, names, at.every_variant)
            for committee in committees(at.outcomes):
                best = [plan for plan, _ in ranked if plan.committee == committee][:most]
                plans = [replace(plan, features=names, sees=sees) for plan in best]
                extra += [
                    staged_candidate(at, plan, informed, overhead_ms=input_fit.cost_ms) for plan in plans
                ]
    return [candidate for _, candidate in (*found, *extra)]


def input_candidates(at: Situation, input_fit: InputFit) -> list[Candidate]:
    """The input policy over all models of its graph, and over every smaller set of up to six of them.

    Few models lose less by luck, and one with the reference model can keep close to it.
    """
    order = input_fit.order
    useful = useful_models(at.outcomes, at.costs, MAX_INPUT_MODELS)
    some_of = tuple(name for name in order if name in useful)
    sizes = range(2, len(some_of) + (len(some_of) < len(order)))
    sets = [order, *(some for size in sizes for some in combinations(some_of, size))]
    found = []
    for some in sets:
        columns = [order.index(name) for name in some]
        costs = tuple(at.costs[name] for name in some)
        right = at.outcomes.with_models(some).right
        among = () if some == order else some
        for policy in (
            InputPolicy(order=order, among=among),
            InputPolicy(order=order, among=among, rule="price", costs_ms=costs),
        ):
            simulate = partial(
                input_frontier,
                input_fit.folded[:, columns],
                right,
                at.outcomes.charge([(name,) for name in some], np.array(costs) + input_fit.cost_ms),
                policy,
                count=100,
            )
            frontier = at.outline(f"input {policy.rule} {' '.join(some)}", simulate)
            build = partial(input_fit.policy, policy, at.costs)
            found.append(Candidate("input", "input features alone", some, frontier, build))
    return found


def useful_models(outcomes: Outcomes, costs: Mapping[str, float], most: int = MAX_MODELS) -> tuple[str, ...]:
    """At most `most` models: those on the frontier of accuracy and cost first, then on the next one.

    A model is left out where a cheaper one does the same, such as its 8-bit version: it is right on all but
    :data:`TWIN_SHARE` of the samples that the dearer one is right on, and its accuracy is within two
    standard errors of the difference.
    """
    names = _without_twins(outcomes, by_cost(costs, outcomes.models))
    if len(names) <= most:
        return names
    accuracy = outcomes.accuracy()
    layers: list[str] = []
    left = list(names)
    while left and len(layers) < most:
        best = -1.0
        for name in tuple(left):
            if accuracy[name] > best:
                best = accuracy[name]
                layers.append(name)
                left.remove(name)
    return by_cost(costs, layers[:most])


def _without_twins(outcomes: Outcomes, names: tuple[str, ...]) -> tuple[str, ...]:
    kept: list[str] = []
    right = {name: outcomes.right[:, outcomes.models.index(name)] for name in names}
    for name in names:
        for cheaper in kept:
            lost = float((right[name] & ~right[cheaper]).mean())
            won = float((right[cheaper] & ~right[name]).mean())
            error = math.sqrt((lost + won) / len(outcomes))
            if lost <= TWIN_SHARE and lost - won <= 2 * error:
                break
        else:
            kept.append(name)
    return tuple(kept)


def raw_candidate(at: Situation, chain: tuple[str, ...]) -> Candidate:
    def simulate() -> list[Simulated]:
        columns = [at.outcomes.models.index(name) for name in chain]
        odds, right = at.outcomes.log_odds[:, columns], at.outcomes.right[:, columns]
        known = [right_probability(at.stages[name], odds[:, i]) for i, name in enumerate(chain)]
        stage_ms = at.confidence_ms if len(chain) > 1 else 0.0
        stop_costs = np.cumsum([at.costs[name] + stage_ms for name in chain])
        charged = at.outcomes.charge([chain[: i + 1] for i in range(len(chain))], stop_costs)
        return chain_frontier(np.stack(known, axis=1), right, charged)

    def build() -> FittedPolicy:
        policy = CascadePolicy(stages=tuple(fit_platt(at.everything, name) for name in chain))
        return FittedCascade(policy, at.costs, stage_ms=at.confidence_ms)

    label = "one model" if len(chain) == 1 else "cascade on raw confidence"
    return Candidate("cascade", label, chain, at.outline(f"raw {' '.join(chain)}", simulate), build)


def pool_candidate(at: Situation, chain: tuple[str, ...]) -> Candidate:
    label = POOL_LABELS[len(chain) > 1]
    frontier = at.outline(f"{label} {' '.join(chain)}", lambda: at.pools.frontier(chain))
    return Candidate("cascade", label, chain, frontier, lambda: at.final_pools.fit(chain))


def lookahead_candidate(at: Situation, chain: tuple[str, ...]) -> Candidate:
    def fitted(lookahead: Lookahead) -> FittedLookahead:
        return FittedLookahead(lookahead.policy(chain), at.costs, stage_ms=at.confidence_ms)

    def simulate() -> list[Simulated]:
        known = fitted(at.lookahead)
        scores = known.known(at.outcomes)
        thresholds = staged_thresholds(known.steps, scores, "price", count=SEARCH_THRESHOLDS)
        return known.frontier(at.outcomes, thresholds)

    return Candidate(
        "cascade",
        "cascade on raw confidence, look-ahead",
        chain,
        at.outline(f"lookahead {' '.join(chain)}", simulate),
        lambda: fitted(Lookahead(at.everything, at.costs, at.confidence_ms)),
    )


def chain_frontier(
    probabilities: Floats, right: np.ndarray, stop_costs: Floats, *, count: int = 60
) -> list[Simulated]:
    """Frontier of the cascade's rule on probabilities and correctness ``[n, K]``, costs as in `cost_at`."""
    rows = np.arange(len(right))
    points = []
    for threshold in cascade_thresholds(probabilities, count=count):
        stop = escalate(probabilities, float(threshold))
        points.append(Simulated(float(threshold), stop, right[rows, stop], cost_at(stop_costs, stop)))
    return points


def staged_candidate(
    at: Situation, plan: StagedPlan, folded: FoldedScores, *, overhead_ms: float = 0.0
) -> tuple[StagedPlan, Candidate]:
    def simulate() -> list[Simulated]:
        return folded_frontier(plan, folded, at.costs, overhead_ms=overhead_ms, stage_ms=at.stage_ms)

    label = "probe" if plan.probe else "learned cascade"
    label += ", committee" if plan.committee and len(plan.chain) > 1 else ""
    label += f", {plan.sees}" if plan.features else ""

    def build() -> FittedPolicy:
        samples = at.every_variant if plan.features and at.every_variant is not None else at.everything
        return fit_plan(plan, samples, at.costs, overhead_ms=overhead_ms, stage_ms=at.stage_ms)

    kind = "probe" if plan.probe else "cascade"
    frontier = at.outline(f"{label}, {plan.rule} {' '.join(plan.chain)}", simulate)
    return plan, Candidate(kind, label, plan.chain, frontier, build)
