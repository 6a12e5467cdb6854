"""Times of the paths of a policy: bounds that hold with a confidence of their own, for budgets of time.

A budget is about the clock: which path an input takes is proven on certify samples, how long a path takes on
measured runs. Both can mislead, so the probability of a false certificate is split between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from selector.policies.paths import paths_of, steps_of
from selector.policies.policy import Policy
from training.certificates.pvalues import Costs
from zoo.models.card import ModelCard
from zoo.models.latency import BUSY_SHARE, Latency, LatencyTable

DELTA_SHARE = 0.1  # of delta: probability that the bounds on times mislead; the samples have the rest
LONGEST = 2.0  # no answer that nothing interrupts takes longer than so many times the longest run seen
_RELATIVE = 1e-3  # to which bounds on means are computed
_SEED = 0
_ULPS = 1 + 1e-9  # sums of times are rounded

Source = Literal["measured", "estimated"]


@dataclass(frozen=True)
class PathTimes:
    """Runs of every path of a policy, and what they bound.

    Parameters
    ----------
    costs_ms
        ``[K]``, what simulations charge for each of the K paths.
    runs_ms
        Per path the milliseconds of its runs, ascending.
    delta
        Test level of the certificates; bounds hold all at once with probability 1 - :attr:`lost`.
    source
        ``estimated`` where a path was not measured whole: see :func:`path_times`.
    interrupted
        Largest share of the runs of a path, or of a model that it is estimated from, that other programs
        interrupted.
    """

    costs_ms: tuple[float, ...]
    runs_ms: tuple[NDArray[np.float64], ...]
    delta: float
    source: Source = "measured"
    interrupted: float = 0.0
    _means: dict[int, float] = field(default_factory=dict, repr=False, compare=False)

    @property
    def busy(self) -> bool:
        """Whether the machine was busy: no budget is certified then, for no share of the runs is sure."""
        return self.interrupted > BUSY_SHARE

    @property
    def lost(self) -> float:
        """Probability that some bound misleads."""
        return self.delta * DELTA_SHARE

    @property
    def _each(self) -> float:
        return self.lost / len(self.runs_ms)

    def late(self, budget_ms: float) -> NDArray[np.float64]:
        """Upper bounds ``[K]`` of the probability that an answer on each path takes more than a budget.

        Exact binomial bounds (Clopper and Pearson 1934) on the share of runs that take longer. They also hold
        for a budget that is itself the time of a run with a rank that was fixed beforehand.
        """
        counts = np.array([len(runs) for runs in self.runs_ms], np.float64)
        late = np.array(
            [len(runs) - np.searchsorted(runs, budget_ms * _ULPS, side="right") for runs in self.runs_ms]
        )
        return np.where(
            late >= counts, 1.0, betaincinv(late + 1.0, np.maximum(counts - late, 1), 1 - self._each)
        )

    @cached_property
    def means_ms(self) -> NDArray[np.float64]:
        """Upper bounds ``[K]`` of the mean time of each path.

        By the betting test of :class:`training.certificates.pvalues.Costs`, for times of at most
        :data:`LONGEST` times the longest run seen.
        """
        return np.array([_mean_at_most(runs, self._each) for runs in self.runs_ms])

    def budgets_ms(self) -> list[float]:
        """Budgets of the 95th percentile worth certifying: so that nearly all answers on a path keep them."""
        ranks = [(runs, int(np.ceil(0.985 * len(runs))) - 1) for runs in self.runs_ms]
        return sorted({float(runs[rank]) for runs, rank in ranks})

    def place(self, costs_ms: NDArray[np.floating], values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The value of the path that each sample took ``[n]``, from what it was charged ``[n]``.

        Of paths that are charged the same, the largest value.
        """
        return place(self.costs_ms, costs_ms, values)


def place(
    path_costs_ms: Sequence[float], costs_ms: NDArray[np.floating], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The value ``[n]`` of the path that each sample took, of K paths with `values` ``[K]``.

    Samples are told by what they were charged ``[n]``; of paths that are charged the same, the largest value
    counts.
    """
    charged, places = np.unique(np.array(path_costs_ms), return_inverse=True)
    largest = np.full(len(charged), -np.inf)
    np.maximum.at(largest, places, values)
    found: NDArray[np.float64] = largest[np.searchsorted(charged, costs_ms)]
    return found


def path_times(
    policy: Policy,
    table: LatencyTable,
    costs_ms: Sequence[float],
    delta: float,
) -> PathTimes | None:
    """Times of the paths of a policy from a latency table, or None where it has no single runs.

    A path that was not measured is estimated: runs of its models are added up in random order, and what the
    costs hold beside the models is added to each. The result says ``estimated`` then.

    Parameters
    ----------
    costs_ms
        What simulations charge for each path, in the order of :func:`selector.policies.paths.paths_of`.
    """
    steps = steps_of(policy)
    source: Source = "measured"
    runs, used = [], []
    rng = np.random.default_rng(_SEED)
    for path, cost in zip(paths_of(policy), costs_ms, strict=True):
        whole = table.path(steps, path)
        if whole is not None and whole.times_ms:
            runs.append(np.array(whole.times_ms))
            used.append(whole)
            continue
        parts = [table.models[name].latency for name in path]
        if not all(part.times_ms for part in parts):
            return None
        source = "estimated"
        runs.append(_sum_of(parts, cost, rng))
        used += parts
    interrupted = max((one.share_interrupted or 0.0 for one in used), default=0.0)
    return PathTimes(tuple(costs_ms), tuple(runs), delta, source, interrupted)


def _sum_of(parts: Sequence[Latency], cost: float, rng: np.random.Generator) -> NDArray[np.float64]:
    count = min(len(part.times_ms) for part in parts)
    total = np.full(count, max(0.0, cost - sum(part.typical_ms for part in parts)))
    for part in parts:
        total += rng.permutation(np.array(part.times_ms))[:count]
    return np.sort(total)


def _mean_at_most(runs: NDArray[np.float64], delta: float) -> float:
    """Upper bound of the mean that holds with probability 1 - delta."""
    top = LONGEST * float(runs[-1])
    bets = Costs(runs, top_ms=top)
    low, high = float(runs.mean()), top
    while high - low > _RELATIVE * low:
        middle = (low + high) / 2
        if bets.p_value(middle) <= delta:
            high = middle
        else:
            low = middle
    return high


def tails_known(policy: Policy, table: LatencyTable, cards: Sequence[ModelCard]) -> bool:
    """Whether all paths that ask a server were measured whole.

    The times of a network depend on each other and on the hour, so single runs that are added up say what an
    answer takes in the mean, but nothing of its percentiles.
    """
    remote = {card.name for card in cards if card.remote is not None}
    steps = steps_of(policy)
    asking = (path for path in paths_of(policy) if remote & set(path))
    return all(table.path(steps, path) is not None for path in asking)
