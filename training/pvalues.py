"""P-values for the mean of a bounded quantity, valid for every number of samples.

Each is the probability, or a bound on it, of samples at least as favourable as those seen if the mean only
just failed to be good enough.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc
from scipy.stats import beta, binom

NUISANCE = 0.002  # probability that the share of disagreements lies above the bound that is used
_POINTS = 5  # the tail grows with the share, so the interval's upper end decides


def binomial(right: int, samples: int, share: float) -> float:
    """Of "the true share is at most `share`", after `right` of `samples`: the exact binomial test."""
    return 1.0 if right < 1 else float(bdtrc(right - 1, samples, share))


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
    differ = better + worse
    high = 1.0 if differ == samples else float(beta.ppf(1 - NUISANCE / 2, differ + 1, samples - differ))
    low = 0.0 if differ == 0 else float(beta.ppf(NUISANCE / 2, differ, samples - differ + 1))
    low = max(low, abs(drop))  # a difference of `drop` needs at least that share
    if high < low:
        return NUISANCE if drop > 0 else 1.0
    shares = np.linspace(low, high, _POINTS)
    return min(1.0, max(_tail(better - worse, samples, share, drop) for share in shares) + NUISANCE)


def budget(costs_ms: NDArray[np.float64], most_ms: float, *, top_ms: float) -> float:
    """Of "the mean cost is more than `most_ms`", for costs between 0 and `top_ms`.

    A betting test (Waudby-Smith and Ramdas 2024): the capital of someone who bets against that statement
    grows when it is false; by Ville's inequality it exceeds 1/p with probability at most p otherwise. The
    bets are placed in a random order, because images often come sorted by class.
    """
    if top_ms <= most_ms * (1 + 1e-9):
        return 0.0  # no answer can cost more
    saved, edge = 1 - costs_ms[_shuffled(len(costs_ms))] / top_ms, 1 - most_ms / top_ms
    count = np.arange(1, len(saved) + 1)
    # what is bet on a sample depends only on the samples before it
    mean = (0.5 + np.concatenate([[0.0], np.cumsum(saved)[:-1]])) / count
    spread = (saved - mean) ** 2
    variance = (0.25 + np.concatenate([[0.0], np.cumsum(spread)[:-1]])) / count
    lean = np.clip((mean - edge) / (variance + (mean - edge) ** 2), 0.0, 0.5 / edge)
    capital = np.cumsum(np.log1p(lean * (saved - edge)))
    return float(min(1.0, np.exp(-max(0.0, float(capital.max())))))


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
    counts = np.arange(
        max(0, int(centre - 9 * spread)), min(samples, int(centre + 9 * spread) + 1) + 1, dtype=np.int64
    )
    counts = counts[counts <= samples]
    weights = binom.pmf(counts, samples, worse)
    rest = better / (1 - worse) if worse < 1 else 0.0
    tails = binom.sf(lead + counts - 1, samples - counts, min(1.0, rest))
    return float(np.dot(weights, tails))
