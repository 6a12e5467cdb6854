"""Repeated splits of a table: every method on the same outcomes, charged for what was really paid."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.peers import PEERS
from benchmarks.peers.peer import Peer
from benchmarks.selection.guarantee import Guarantee, study
from benchmarks.selection.mixes import Point, point_of, reaching, worth_mixing
from benchmarks.selection.repeated import DELTA, LEVELS, OFFSETS, Choices, Repetition, deal
from benchmarks.tables.aiq import aiq
from selector.policies.constraint import Constraint
from training.certificates.certify import Tests
from training.data.splits import CERTIFY, FIT, TEST, TUNE
from training.outcomes.table_outcomes import TableOutcomes
from training.outcomes.table_profile import TableRecord
from training.policies.frontier import Simulated, by_cost
from training.routing.evaluation import oracle
from training.routing.fit import fit_table_outcomes
from training.routing.options import RouteOptions
from training.routing.search import search_table
from training.search.plans import evenly

MAX_DROP = 0.02
TABLE_DRAWS = 1000  # of certify samples: few tell a rate of 5 % from one of 7 %
_ANY_COSTS = (
    "always-largest",
    "single",
    "random-mix",
    "knn-premodel",
    "asf-satzilla",
    "asf-pairwise-classifier",
    "asf-pairwise-regressor",
    "asf-sunny",
    "routerbench-knn",
    "routellm-mf",
)
_ON_SCORES = ("always-largest", "single", "random-mix", "max-softmax-cascade")


@dataclass(frozen=True)
class DropPoint:
    """A router certified for a drop of at most MAX_DROP, or the reference model where none is."""

    certified: bool
    accuracy: float
    reference: float  # accuracy of the reference model
    cost: float
    reference_cost: float


@dataclass(frozen=True)
class TableRepetition:
    """All figures of one split."""

    repetition: Repetition
    drop: DropPoint
    promised: dict[str, float]  # method → cost at which it promises that drop, uncertified
    proven: dict[str, float]  # peer → cost at which that drop is certified for it, or of the reference model
    aiq: dict[str, float]  # method → average improvement in quality
    oracle: Point


def peers_for(outcomes: TableOutcomes, asked: Sequence[str] | None) -> list[str]:
    """Peers that can answer from what a table has."""
    if outcomes.combinable and outcomes.fixed_costs:
        able = [name for name in PEERS if name != "oracle"]
    elif outcomes.feature_names:
        able = [name for name in _ANY_COSTS if name in PEERS]
    else:
        able = [name for name in _ON_SCORES if name in PEERS]
    return [name for name in able if asked is None or name in asked]


def repeat_table(
    record: TableRecord, outcomes: TableOutcomes, seed: int, peers: Sequence[str]
) -> tuple[TableRepetition, tuple[Choices, TableOutcomes]]:
    """Figures of one split, and our choices with the dealt samples for further studies."""
    dealt = deal(outcomes, seed)
    assert isinstance(dealt, TableOutcomes)
    start = time.perf_counter()
    search = search_table(dealt, record.features, seed=seed)
    seen, costs = search.rounded, search.costs
    ours = Choices(search.candidates, search.situation.outcomes, costs)
    seconds = {"zooselect": time.perf_counter() - start}
    development, test = evenly(seen.split(FIT, TUNE), seed), seen.split(TEST)
    accuracy = ours.compared.accuracy()  # of what the frontiers are about: another part has other luck
    reference = max(accuracy, key=lambda name: (accuracy[name], -costs[name]))
    order = by_cost(costs, seen.models)
    best = max(point.accuracy for one in search.candidates for point in one.frontier)
    levels = (np.floor(np.linspace(accuracy[order[0]], best - 0.002, LEVELS) * 1e4) / 1e4).tolist()
    found: dict[str, tuple[Point | None, ...]] = {}
    frontiers: dict[str, tuple[Point, ...]] = {}
    promised: dict[str, float] = {}
    proven: dict[str, float] = {}
    column = test.models.index(reference)
    dear = Point(float(test.right[:, column].mean()), float(test.paid[:, column].mean()), 0.0)
    for name in peers:
        start = time.perf_counter()
        peer = PEERS[name]()
        peer.fit(development, costs, overhead_ms=0.0, seed=seed)
        seconds[name] = time.perf_counter() - start
        settings = [_paid(one, test) for one in peer.frontier(test)]
        shown = peer.accuracies(test, settings)
        frontiers[name] = tuple(
            replace(point_of(one), accuracy=value) for one, value in zip(settings, shown, strict=True)
        )
        chosen_on = peer.development_frontier()
        found[name] = tuple(reaching(level, chosen_on, settings, shown) for level in levels)
        at = reaching(accuracy[reference] - MAX_DROP, chosen_on, settings, shown)
        promised[name] = dear.mean_ms if at is None else at.mean_ms
        last = _proven(peer, seen.split(CERTIFY), reference)
        proven[name] = dear.mean_ms if last is None else settings[last].mean_ms
    promised["zooselect"] = ours.reaching(accuracy[reference] - MAX_DROP, test).mean_ms
    settings = ours.settings(test)
    repetition = Repetition(
        seed=seed,
        reference=dear,
        named=dear,
        levels=tuple(levels),
        ours=tuple(point_of(ours.reaching(level, test)) for level in levels),
        expected_ms=tuple(ours.choice(level)[1].mean_ms for level in levels),
        settings=tuple(point_of(one) for one in settings),
        at_reference=tuple(point_of(ours.reaching(accuracy[reference] + offset, test)) for offset in OFFSETS),
        certified=(),
        peers=found,
        frontiers=frontiers,
        kinds=tuple(ours.choice(level)[0].label for level in levels),
        seconds=seconds,
    )
    alone = [
        Point(float(test.right[:, j].mean()), float(test.paid[:, j].mean()), 0.0)
        for j in range(len(test.models))
    ]
    cheap, top = min(alone, key=lambda one: one.mean_ms), max(one.mean_ms for one in alone)
    methods = {"zooselect": repetition.settings, **frontiers}
    improved = {name: aiq([cheap, *points], cheap.mean_ms, top) for name, points in methods.items()}
    row = oracle(test)
    figures = TableRepetition(
        repetition,
        certified_drop(record, dealt, seed),
        promised,
        proven,
        improved,
        Point(row.accuracy, row.mean_ms, row.p95_ms),
    )
    return figures, (ours, seen)


def certified_drop(record: TableRecord, dealt: TableOutcomes, seed: int) -> DropPoint:
    """What a router does that is fitted to dealt samples and certified for that drop."""
    fitted = fit_table_outcomes(dealt, record, RouteOptions(max_drop=MAX_DROP, seed=seed))
    test = fitted.seen(dealt.split(TEST))
    at, column = fitted.simulate(test), test.models.index(fitted.router.reference)
    return DropPoint(
        fitted.certificate() is not None,
        at.accuracy,
        float(test.right[:, column].mean()),
        at.mean_ms,
        float(test.paid[:, column].mean()),
    )


def _proven(peer: Peer, held: TableOutcomes, reference: str) -> int | None:
    """The cheapest setting of a peer that the certify samples prove the drop for, as they do for ours.

    Settings that no mix of others beats on development samples are tested from the most accurate one on, and
    the testing stops at the first that is not proven.
    """
    settings = [_paid(one, held) for one in peer.frontier(held)]
    order = worth_mixing(peer.development_frontier())[::-1]
    tests = Tests(
        [settings[i] for i in order],
        reference=held.right[:, held.models.index(reference)],
        top_ms=max(float(one.cost_ms.max()) for one in settings),
    )
    asked, last = Constraint(kind="max_drop", level=MAX_DROP), None
    for place, i in enumerate(order):
        if not tests.rejects(place, asked, DELTA):
            break
        last = i
    return last


def violations(choices: Choices, outcomes: TableOutcomes, seed: int) -> list[Guarantee]:
    """What became of certificates of policies of several models in many draws of certify samples."""
    later = [one for one in choices.candidates if len(one.models) > 1] or [*choices.candidates]
    some = Choices(later, choices.compared, choices.costs)
    return study(some, outcomes, seed=seed, only_usual=True, draws=TABLE_DRAWS)


def _paid(point: Simulated, test: TableOutcomes) -> Simulated:
    """The point with what was paid, where every answer has a cost of its own: one model gives each."""
    if test.fixed_costs:
        return point
    return replace(point, cost_ms=test.paid[np.arange(len(test)), point.answered_by])
