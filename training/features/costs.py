"""What input features cost: microseconds measured on this machine, of single features and of sets."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from training.features.feature_kind import ScoutLike
from training.features.kinds import features_of
from zoo.inputs.kind import InputKind
from zoo.inputs.kinds import IMAGE
from zoo.models.session import open_session

TIMED_RUNS = 150
_WARM_UP = 20
_MIN_FEATURE_US = 0.05  # a feature costs at least its column of the last matrix product
_SCOUT = "scout"


@dataclass(frozen=True, eq=False)
class FeatureCosts:
    """Measured costs of the features of a pool, and of a scout where there is one.

    Features share work: the pixels are read once, and a stage that several need runs once. So there are
    three figures: what a feature costs alone, what a stage adds to the pool, and what a set costs.
    """

    grid: int
    alone_us: Mapping[str, float]  # feature → microseconds of the graph that computes only this one
    stage_us: Mapping[str, float]  # stage → what the whole pool costs more because of it
    scout: ScoutLike | None = None
    kind: InputKind = IMAGE
    _sets: dict[frozenset[str], float] = field(default_factory=dict)

    def of(self, names: Sequence[str]) -> float:
        """Measured microseconds of the graph that computes these features; 0 for none."""
        key = frozenset(names)
        if not key:
            return 0.0
        if key not in self._sets:
            self._sets[key] = graph_cost_us(names, grid=self.grid, scout=self.scout, kind=self.kind)
        return self._sets[key]

    def shares_us(self, names: Sequence[str]) -> list[float]:
        """For each of `names` its share of the stages it needs, split evenly among those that need them."""
        stages = [feature_stages(name, self.kind) for name in names]
        users = Counter(stage for needed in stages for stage in needed)
        return [
            _MIN_FEATURE_US + sum(self.stage_us.get(stage, 0.0) / users[stage] for stage in needed)
            for needed in stages
        ]


def measure_costs(grid: int, *, scout: ScoutLike | None = None, kind: InputKind = IMAGE) -> FeatureCosts:
    """Costs of the pool, measured once per process and grid, and of `scout` on top."""
    pool = _pool_costs(grid, kind)
    if scout is None:
        return pool
    few = features_of(kind).names[:1]
    some = (*few, *scout.names)
    more = graph_cost_us(some, grid=grid, scout=scout, kind=kind) - graph_cost_us(few, grid=grid, kind=kind)
    alone = graph_cost_us(scout.names, grid=grid, scout=scout, kind=kind)
    return FeatureCosts(
        grid,
        {**pool.alone_us, **dict.fromkeys(scout.names, alone)},
        {**pool.stage_us, _SCOUT: max(_MIN_FEATURE_US, more)},
        scout,
        kind,
    )


def graph_cost_us(
    names: Sequence[str],
    *,
    grid: int,
    scout: ScoutLike | None = None,
    runs: int = TIMED_RUNS,
    kind: InputKind = IMAGE,
) -> float:
    """Microseconds of one input through the graph of `names`, one thread; the lower quartile of `runs`.

    An image is 32×32 for grids up to 32 and 224×224 for finer ones. The quartile, not the median: what other
    processes do meanwhile should not decide which features are worth their cost.
    """
    features = features_of(kind)
    content = features.graph(names, grid=grid, scout=scout).SerializeToString()
    session = open_session(content, name="features")
    feeds = kind.feeds(kind.one(kind.random(features.timed_size(grid), np.random.default_rng(0))))
    times = np.empty(_WARM_UP + runs)
    for run in range(len(times)):
        start = time.perf_counter()
        session.run(["features"], feeds)
        times[run] = time.perf_counter() - start
    return float(np.quantile(times[_WARM_UP:], 0.25) * 1e6)


def feature_stages(name: str, kind: InputKind = IMAGE) -> frozenset[str]:
    """The stages that a feature needs; a feature that the pool does not know comes from a scout."""
    return features_of(kind).stages(name)


@cache
def _pool_costs(grid: int, kind: InputKind) -> FeatureCosts:
    names = features_of(kind).names
    alone = {name: graph_cost_us((name,), grid=grid, kind=kind) for name in names}
    whole = graph_cost_us(names, grid=grid, runs=4 * TIMED_RUNS, kind=kind)
    stages = {}
    for stage in sorted({stage for name in names for stage in feature_stages(name, kind)}):
        rest = [name for name in names if stage not in feature_stages(name, kind)]
        without = graph_cost_us(rest, grid=grid, runs=2 * TIMED_RUNS, kind=kind) if rest else 0.0
        stages[stage] = max(_MIN_FEATURE_US, whole - without)
    return FeatureCosts(grid, alone, stages, kind=kind)
