"""Repeated splits: every method on the same outcomes, dealt out anew many times.

In each repetition all choices (features, policies, chains, thresholds, settings of peers) are made on the fit
and tune samples; certificates come from the certify samples; the figures are those of the test samples.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.peers import PEERS
from benchmarks.peers.peer import Peer
from benchmarks.selection.mixes import Point, point_of, reaching
from selector.policies.constraint import Constraint
from training.certificates.aim import Aim
from training.certificates.certify import Tests
from training.cluster.connection import connected
from training.cluster.pool import spread
from training.data.splits import CERTIFY, FIT, TEST, TUNE, Splits, one_environment_per_group
from training.outcomes.outcomes import ALL_SPLITS, Outcomes, load_outcomes, pixels_of
from training.outcomes.parts import read_profile_record
from training.policies.base import FittedPolicy, Simulator
from training.policies.frontier import Point as FrontierPoint
from training.policies.frontier import Simulated, by_cost
from training.policies.singles import upper_hull
from training.search.candidates import Candidate
from training.search.choice import discount_of, failure_ms, standing
from training.search.search import consider
from zoo.models.latency import LatencyTable
from zoo.models.zoo import Zoo

SIMPLE = ("always-largest", "single", "oracle")  # peers that choose nothing, or with the labels in hand
LEVELS = 16  # accuracies that are aimed at, from that of the cheapest model to the best there is
OFFSETS = (0.0, 0.0025, 0.005, 0.01)  # what is aimed at above the reference model's accuracy
UNLIMITED_SAMPLES = 10**9  # samples: an aim with no allowance for a certificate
DELTA = 0.05
AS_DELIVERED = ", as delivered"  # after the name of a peer that uses the models as they came
LEVELS_TO_CERTIFY = np.arange(0.5, 0.99, 0.01).round(2)


@dataclass(frozen=True)
class CertifiedPoint:
    """A certified precision and what came of it on the test samples."""

    precision: float
    accuracy: float
    mean_ms: float
    samples: int  # test samples


@dataclass(frozen=True)
class Repetition:
    """All figures of one split."""

    seed: int
    reference: Point  # the most accurate single model of fit and tune samples
    named: Point  # the most capable model as delivered
    levels: tuple[float, ...]
    ours: tuple[Point, ...]  # one a level
    expected_ms: tuple[float, ...]  # what ours takes at each level in cross-validation
    settings: tuple[Point, ...]  # ours that no mix of others beats in cross-validation, cheapest first
    at_reference: tuple[Point, ...]  # aiming at the named model's accuracy plus each of OFFSETS
    certified: tuple[CertifiedPoint, ...]
    # one a level, of the peer's settings or a mix of two of them; None where it cannot reach the level
    peers: Mapping[str, tuple[Point | None, ...]]
    frontiers: Mapping[str, tuple[Point, ...]]  # all settings of each peer
    kinds: tuple[str, ...]  # what each of ours is
    seconds: Mapping[str, float]  # to fit


def repeat(
    profile: Path,
    zoo: Zoo,
    table: LatencyTable,
    *,
    named: str,
    seeds: Sequence[int],
    jobs: int,
    peers: Sequence[str] = tuple(PEERS),
    delivered: Sequence[str] = (),
    ray: str | None = None,
) -> list[Repetition]:
    """Figures of one repetition a seed; `jobs` processes share them, or the cluster `ray`.

    Every node of a cluster must see the folders of profile and zoo under the same path.

    Parameters
    ----------
    delivered
        Models of the profile as they came, where those of `zoo` were adapted: peers are fitted on these as
        well, on the same samples and costs, under their name with :data:`AS_DELIVERED`.
    """
    given = profile.absolute(), zoo.folder.absolute(), zoo.names, table, named, tuple(peers), tuple(delivered)
    one = partial(_one, *given)
    if ray is not None:
        with connected(ray):
            done = dict(spread(_as_it_is, [one], ((seed, (seed,)) for seed in seeds), most=len(seeds)))
        return [done[seed] for seed in seeds]
    if jobs == 1:
        return [one(seed) for seed in seeds]
    with _one_thread_each(), ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        return list(pool.map(one, seeds))


def _as_it_is(one: Callable[[int], Repetition]) -> Callable[[int], Repetition]:
    return one


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started inside use one thread for linear algebra: as many again would fight for the cores."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def deal(outcomes: Outcomes, seed: int, shares: Splits | None = None) -> Outcomes:
    """The samples dealt out anew; certify and test keep one environment of every original."""
    splits = replace(shares or Splits(), seed=seed).assign(outcomes.groups.tolist())
    used = one_environment_per_group(
        outcomes.groups.tolist(), outcomes.environments.tolist(), splits.tolist(), seed=seed
    )
    return replace(outcomes, splits=splits).rows(used)


def _one(
    profile: Path,
    folder: Path,
    names: Sequence[str],
    table: LatencyTable,
    named: str,
    peers: Sequence[str],
    delivered: Sequence[str],
    seed: int,
) -> Repetition:
    zoo = Zoo.open(folder).only(names)
    outcomes = deal(load_outcomes(profile, zoo=zoo, splits=ALL_SPLITS), seed)
    costs = table.costs_ms(zoo)
    start = time.perf_counter()
    considered = consider(
        outcomes,
        zoo,
        table,
        ("cascade", "probe", "input"),
        grid=read_profile_record(profile).grid,
        pixels=partial(pixels_of, profile),
        seed=seed,
    )
    outcomes, candidates = considered.outcomes, considered.candidates
    ours = Choices(candidates, considered.situation.outcomes, costs)
    seconds = {"zooselect": time.perf_counter() - start}
    assert considered.input_fit is not None
    overhead_ms = considered.input_fit.cost_ms
    decide_ms = considered.situation.confidence_ms
    development, test = outcomes.split(FIT, TUNE), outcomes.split(TEST)
    order = by_cost(costs, zoo.names)
    accuracy = development.accuracy()
    best = max(point.accuracy for candidate in candidates for point in candidate.frontier)
    levels = _levels(accuracy[order[0]], best)
    reference = max(order, key=lambda name: accuracy[name])
    found: dict[str, tuple[Point | None, ...]] = {}
    frontiers: dict[str, tuple[Point, ...]] = {}

    def ask(
        peer: Peer, label: str, given: Outcomes, prices: Mapping[str, float], wanted: Sequence[float]
    ) -> None:
        start, known, judged = time.perf_counter(), given.split(FIT, TUNE), given.split(TEST)
        peer.fit(known, prices, overhead_ms=overhead_ms, decide_ms=decide_ms, seed=seed)
        seconds[label] = time.perf_counter() - start
        settings = peer.frontier(judged)
        shown = peer.accuracies(judged, settings)
        frontiers[label] = tuple(
            replace(point_of(setting), accuracy=accuracy)
            for setting, accuracy in zip(settings, shown, strict=True)
        )
        chosen_on = peer.development_frontier()
        found[label] = tuple(reaching(level, chosen_on, settings, shown) for level in wanted)

    for name in peers:
        ask(PEERS[name](), name, outcomes, costs, levels)
    if delivered:
        came = Zoo.open(folder).only(delivered)
        others, prices = deal(load_outcomes(profile, zoo=came, splits=ALL_SPLITS), seed), table.costs_ms(came)
        cheapest = others.split(FIT, TUNE).accuracy()[by_cost(prices, came.names)[0]]
        wanted = _levels(cheapest, best)
        for name in peers:
            if name not in SIMPLE:
                ask(PEERS[name](), name + AS_DELIVERED, others, prices, wanted)
    return Repetition(
        seed=seed,
        reference=_single(test, reference, costs),
        named=_single(test, named, costs),
        levels=tuple(levels),
        ours=tuple(point_of(ours.reaching(level, test)) for level in levels),
        expected_ms=tuple(ours.choice(level)[1].mean_ms for level in levels),
        settings=tuple(point_of(setting) for setting in ours.settings(test)),
        at_reference=tuple(point_of(ours.reaching(accuracy[named] + offset, test)) for offset in OFFSETS),
        certified=tuple(_certified(ours, outcomes, levels, reference)),
        peers=found,
        frontiers=frontiers,
        kinds=tuple(ours.choice(level)[0].label for level in levels),
        seconds=seconds,
    )


def _levels(least: float, best: float) -> list[float]:
    """Accuracies to aim at, from that of a cheapest model to the best in cross-validation."""
    levels: list[float] = (np.floor(np.linspace(least, best - 0.002, LEVELS) * 1e4) / 1e4).tolist()
    return levels


class Choices:
    """Our choice for any accuracy, made on fit and tune samples.

    Parameters
    ----------
    compared
        The samples that the candidates were compared on.
    costs
        Milliseconds of every model.
    """

    def __init__(
        self, candidates: Sequence[Candidate], compared: Outcomes, costs: Mapping[str, float]
    ) -> None:
        self.candidates, self.compared, self.costs = candidates, compared, costs
        accuracy = compared.accuracy()
        self.reference = max(accuracy, key=lambda name: (accuracy[name], -costs[name]))
        self.fallback_ms = max(costs[name] for name in compared.models)  # what certifying nothing counts as
        self._failure_ms = failure_ms(candidates, {name: costs[name] for name in compared.models})
        self._nothing = np.zeros(len(compared), dtype=np.bool_)  # no constraint here needs a reference
        self._discount = discount_of(candidates, compared.groups)
        self._built: dict[int, FittedPolicy] = {}
        self._simulators: dict[int, tuple[Outcomes, Simulator]] = {}

    def choice(self, level: float, samples: int = UNLIMITED_SAMPLES) -> tuple[Candidate, FrontierPoint]:
        """The best candidate for a precision, to be certified on so many samples, and its best point."""
        constraint = Constraint(kind="precision", level=min(max(level, 0.001), 0.999))
        aim = Aim(
            constraint,
            samples,
            DELTA,
            self._nothing,
            self._failure_ms,
            candidates=len(self.candidates),
            discount=self._discount,
        )
        chosen = max(self.candidates, key=lambda candidate: standing(candidate, aim))
        return chosen, aim.nearest(chosen.frontier)

    def policy(self, candidate: Candidate) -> FittedPolicy:
        """The candidate, fitted."""
        if id(candidate) not in self._built:
            self._built[id(candidate)] = candidate.build()
        return self._built[id(candidate)]

    def reaching(self, level: float, outcomes: Outcomes) -> Simulated:
        """What is done with `outcomes` when aiming at an accuracy."""
        return self._simulated(*self.choice(level), outcomes)

    def settings(self, outcomes: Outcomes) -> list[Simulated]:
        """What is done with `outcomes` at every setting that may be worth having, cheapest first.

        These are the points of all candidates on the upper hull of mean time and accuracy, doubtful gains
        discounted as in every choice: all that anyone would mix to keep some mean time.
        """
        points = [(candidate, point) for candidate in self.candidates for point in candidate.frontier]
        times = np.array([point.mean_ms for _, point in points])
        worth = np.array([point.accuracy - self._discount * point.doubt for _, point in points])
        return [self._simulated(*points[i], outcomes) for i in upper_hull(times, worth)]

    def _simulated(self, candidate: Candidate, point: FrontierPoint, outcomes: Outcomes) -> Simulated:
        known = self._simulators.get(id(candidate))
        if known is None or known[0] is not outcomes:
            known = outcomes, self.policy(candidate).simulator(outcomes)
            self._simulators[id(candidate)] = known
        return known[1](point.threshold)


def _certified(
    ours: Choices, outcomes: Outcomes, levels: Sequence[float], reference: str
) -> Iterator[CertifiedPoint]:
    development, held, test = outcomes.split(FIT, TUNE), outcomes.split(CERTIFY), outcomes.split(TEST)
    right = held.right[:, held.models.index(reference)]
    for precision in (float(level) for level in LEVELS_TO_CERTIFY if levels[0] - 0.05 <= level <= levels[-1]):
        policy = ours.policy(ours.choice(precision, len(held))[0])
        tests = Tests(
            policy.frontier(held, policy.sequence(development)),
            reference=right,
            top_ms=max(policy.possible_costs_ms()),
        )
        found = tests.certify(Constraint(kind="precision", level=precision), delta=DELTA)
        if found is not None:
            point = policy.simulate(test, found.threshold)
            yield CertifiedPoint(precision, point.accuracy, point.mean_ms, len(test))


def _single(test: Outcomes, name: str, costs: Mapping[str, float]) -> Point:
    return Point(test.accuracy()[name], costs[name], costs[name])
