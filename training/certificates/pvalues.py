"""P-values for the mean of a bounded quantity, valid for every number of samples.

Each is the probability, or a bound on it, of samples at least as favourable as those seen if the mean only
just failed to be good enough.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, betainc, betaincinv, gammaln

NUISANCE_PROBABILITY = 0.002  # probability that the share of disagreements lies above the bound that is used
_INTERVAL_POINTS = 5  # the tail grows with the share, so the interval's upper end decides


def binomial(right: int, samples: int, share: float) -> float:
    """Of "the true share is at most `share`", after `right` of `samples`: the exact binomial test."""
    return 1.0 if right < 1 else float(bdtrc(right - 1, samples, share))


@lru_cache(maxsize=10_000)
def least_right(samples: int, share: float, delta: float) -> int:
    """Right answers out of `samples` for which :func:`binomial` is at most `delta`; beyond all: none is."""
    counts = range(1, samples + 1)
    return 1 + bisect_left(counts, True, key=lambda right: binomial(right, samples, share) <= delta)


def two_valued(values: NDArray[np.floating], possible: tuple[float, float], most: float) -> float:
    """Of "the mean is more than `most`", where a value ``[n]`` is one of two `possible` ones: exact.

    The mean is at most `most` when the smaller value has at least a certain share, which the binomial tests.
    """
    low, high = possible
    if high <= most * (1 + 1e-9):
        return 0.0
    if low > most:
        return 1.0
    return binomial(int((values <= low).sum()), len(values), (high - most) / (high - low))


@lru_cache(maxsize=20_000)  # neighbouring thresholds and levels ask for the same again and again
def paired(better: int, worse: int, samples: int, drop: float) -> float:
    """Of "the accuracy lies `drop` or more below the reference's", judged on the same samples.

    Only samples on which exactly one of the two is right count: `better` where the policy is, `worse` where
    the reference is. The share of such samples is not known; the p-value is the largest over an interval
    that contains it with probability 0.998, plus the remaining 0.002 (Berger and Boos 1994). For a known
    share, the tail of better - worse is computed exactly.
    """
    if better - worse <= -drop * samples:
        return 1.0  # not even the samples themselves are good enough
    shares = _shares(better + worse, samples, drop)
    tails = (_tail(better - worse, samples, float(share), drop) for share in shares)
    return min(1.0, max(tails, default=1.0 - (drop > 0)) + NUISANCE_PROBABILITY)


def paired_at_most(better: int, worse: int, samples: int, drop: float) -> float:
    """A bound on :func:`paired` from above that costs a fraction of it (Chernoff 1952)."""
    lead = better - worse
    shares = _shares(better + worse, samples, drop)
    if lead <= -drop * samples or lead >= samples or not len(shares) or shares[0] <= abs(drop):
        return 1.0
    down, up = (shares + drop) / 2, (shares - drop) / 2  # of samples that are worse, and better
    same = 1 - shares
    # the tilt at which the tilted mean is the lead that was seen
    root = np.sqrt((lead * same) ** 2 + 4 * (samples**2 - lead**2) * up * down)
    tilt = (lead * same + root) / (2 * (samples - lead) * up)
    logs = samples * np.log(same + up * tilt + down / tilt) - lead * np.log(tilt)
    return float(min(1.0, np.exp(min(0.0, float(logs.max()))) + NUISANCE_PROBABILITY))


def _shares(differ: int, samples: int, drop: float) -> NDArray[np.float64]:
    """Shares of disagreements to try; none where that many rule out a difference of `drop`."""
    high = (
        1.0
        if differ == samples
        else float(betaincinv(differ + 1, samples - differ, 1 - NUISANCE_PROBABILITY / 2))
    )
    low = 0.0 if differ == 0 else float(betaincinv(differ, samples - differ + 1, NUISANCE_PROBABILITY / 2))
    low = max(low, abs(drop))  # a difference of `drop` needs at least that share
    return np.linspace(low, high, _INTERVAL_POINTS) if high >= low else np.empty(0)


class Costs:
    """What n answers cost, to be held against budgets of mean time.

    Parameters
    ----------
    costs_ms
        ``[n]``, between 0 and `top_ms`.
    """

    def __init__(self, costs_ms: NDArray[np.floating], *, top_ms: float) -> None:
        self._top_ms = top_ms
        if top_ms <= 0:  # nothing costs anything, which keeps every budget
            return
        # images often come sorted by class
        self._saved = 1 - costs_ms[_shuffled(len(costs_ms))].astype(np.float64) / top_ms
        count = np.arange(1, len(costs_ms) + 1)
        # what is bet on a sample depends only on the samples before it
        self._mean = (0.5 + _before(self._saved)) / count
        self._variance = (0.25 + _before((self._saved - self._mean) ** 2)) / count

    def p_value(self, most_ms: float) -> float:
        """Of "the mean cost is more than `most_ms`".

        A betting test (Waudby-Smith and Ramdas 2024): the capital of someone who bets against that statement
        grows when it is false; by Ville's inequality it exceeds 1/p with probability at most p otherwise.
        The bets are placed in a random order.
        """
        if self._top_ms <= most_ms * (1 + 1e-9):
            return 0.0  # no answer can cost more
        edge = 1 - most_ms / self._top_ms
        ahead = self._mean - edge
        lean = np.clip(ahead / (self._variance + ahead**2), 0.0, 0.5 / edge)
        lean *= self._saved - edge
        capital = np.cumsum(np.log1p(lean, out=lean), out=lean)
        return float(min(1.0, np.exp(-max(0.0, float(capital.max())))))


def _before(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of all values before each."""
    sums: NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(values)[:-1]])
    return sums


@lru_cache(maxsize=8)
def _shuffled(count: int) -> NDArray[np.intp]:
    return np.random.default_rng(0).permutation(count)


def _tail(lead: int, samples: int, differ: float, drop: float) -> float:
    """Probability of a lead of at least `lead` when `differ` of the samples differ and the mean is -drop."""
    worse = (differ + drop) / 2
    better = differ - worse
    if better < 0:
        return 0.0
    spread = np.sqrt(samples * worse * (1 - worse)) + 1
    centre = samples * worse
    first, last = max(0, int(centre - 9 * spread)), min(samples, int(centre + 9 * spread) + 1)
    counts = np.arange(first, last + 1, dtype=np.float64)  # of samples on which only the reference is right
    if worse > 0:
        ways = gammaln(samples + 1) - gammaln(counts + 1) - gammaln(samples - counts + 1)
        weights = np.exp(ways + counts * np.log(worse) + (samples - counts) * np.log1p(-worse))
    else:
        weights = (counts == 0).astype(np.float64)
    rest = min(1.0, better / (1 - worse)) if worse < 1 else 0.0
    needed, others = lead + counts, samples - counts  # of the others, so many have to be better
    tails = np.where(needed <= 0, 1.0, 0.0)
    some = (needed > 0) & (needed <= others)
    tails[some] = betainc(needed[some], others[some] - needed[some] + 1, rest)
    return float(np.dot(weights, tails))
