"""What input features cost: microseconds measured on this machine, of single features and of sets."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from training.features.components import stages_of
from training.features.features import FEATURES, NAMES, feature_graph
from training.features.scout import Scout
from zoo.models.model import open_session

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
    scout: Scout | None = None
    _sets: dict[frozenset[str], float] = field(default_factory=dict)

    def of(self, names: Sequence[str]) -> float:
        """Measured microseconds of the graph that computes these features; 0 for none."""
        key = frozenset(names)
        if not key:
            return 0.0
        if key not in self._sets:
            self._sets[key] = graph_cost_us(names, grid=self.grid, scout=self.scout)
        return self._sets[key]

    def shares_us(self, names: Sequence[str]) -> list[float]:
        """For each of `names` its share of the stages it needs, split evenly among those that need them."""
        stages = [feature_stages(name) for name in names]
        users = Counter(stage for needed in stages for stage in needed)
        return [
            _MIN_FEATURE_US + sum(self.stage_us.get(stage, 0.0) / users[stage] for stage in needed)
            for needed in stages
        ]


def measure_costs(grid: int, *, scout: Scout | None = None) -> FeatureCosts:
    """Costs of the pool, measured once per process and grid, and of `scout` on top."""
    pool = _pool_costs(grid)
    if scout is None:
        return pool
    few, some = ("luma_mean",), ("luma_mean", *scout.names)
    more = graph_cost_us(some, grid=grid, scout=scout) - graph_cost_us(few, grid=grid)
    alone = graph_cost_us(scout.names, grid=grid, scout=scout)
    return FeatureCosts(
        grid,
        {**pool.alone_us, **dict.fromkeys(scout.names, alone)},
        {**pool.stage_us, _SCOUT: max(_MIN_FEATURE_US, more)},
        scout,
    )


def graph_cost_us(
    names: Sequence[str], *, grid: int, scout: Scout | None = None, runs: int = TIMED_RUNS
) -> float:
    """Microseconds of one image through the graph of `names`, one thread; the lower quartile of `runs`.

    The image is 32×32 for grids up to 32 and 224×224 for finer ones. The quartile, not the median: what other
    processes do meanwhile should not decide which features are worth their cost.
    """
    content = feature_graph(names, grid=grid, scout=scout).SerializeToString()
    session = open_session(content, name="features")
    side = 32 if grid <= 32 else 224
    image = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    times = np.empty(_WARM_UP + runs)
    for run in range(len(times)):
        start = time.perf_counter()
        session.run(["features"], {"image": image})
        times[run] = time.perf_counter() - start
    return float(np.quantile(times[_WARM_UP:], 0.25) * 1e6)


def feature_stages(name: str) -> frozenset[str]:
    """The stages that a feature needs; a feature that the pool does not know comes from a scout."""
    return stages_of(FEATURES[name]) if name in FEATURES else frozenset({_SCOUT})


@cache
def _pool_costs(grid: int) -> FeatureCosts:
    alone = {name: graph_cost_us((name,), grid=grid) for name in NAMES}
    whole = graph_cost_us(NAMES, grid=grid, runs=4 * TIMED_RUNS)
    stages = {}
    for stage in sorted({stage for name in NAMES for stage in feature_stages(name)}):
        rest = [name for name in NAMES if stage not in feature_stages(name)]
        without = graph_cost_us(rest, grid=grid, runs=2 * TIMED_RUNS) if rest else 0.0
        stages[stage] = max(_MIN_FEATURE_US, whole - without)
    return FeatureCosts(grid, alone, stages)
