"""Tails of a sum of n independent draws of (X, Y): quick bounds from both sides, and the exact sum.

Asked is the probability of ``(1 - beta) n11 + n10 >= h(n01)``, where n11, n10, n01, n00 count n draws by
whether X and Y are true, and h is concave where it is not flat. Where a line replaces h, the event is about a
sum of n independent numbers with four values: a bound by tilting costs nearly nothing, and a Fourier series
is within some hundredths of the truth. The exact sum costs far more; it decides where bounds do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc, betainc, gammaln, log_ndtr, rel_entr, xlog1py, xlogy

Floats = NDArray[np.float64]
Line = tuple[Floats, Floats]  # at 0, and slope

ROUNDING = 1e-7  # counts: a sum that is short of what is needed by less counts as enough
WINDOW = 5.5  # standard deviations of counts that are summed over exactly; what is outside counts as tail
CHORD = 4.0  # standard deviations of n01 on which a chord lies below h
# By how many standard deviations of one draw, or of the sum, it is shifted at most, so that its series ends:
# the sum of few draws takes few values. Coarse first; fine for what is close.
SMOOTHING = ((4.0, 0.04), (1.2, 0.012), (0.4, 0.004))
BERRY_ESSEEN = 0.4748  # Shevtsova 2011, for equally distributed summands
_UNIFORMS = 6  # the shift is the sum of so many uniform numbers
_LAST = 10.0  # where the series ends: so many times 2 / (width of one of the uniform numbers)
_TINY = 1e-11  # a weight or a tail that is counted whole, not computed
_NEGLIGIBLE = 1e-9  # of a term of the series; what is left out is added up and counted


@dataclass(frozen=True)
class Draws:
    """Q distributions of one draw of (X, Y): probabilities ``[Q]``, each of n draws."""

    count: int
    p11: Floats
    p10: Floats
    p01: Floats
    p00: Floats

    def at(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> Draws:
        """Some of them."""
        return Draws(self.count, self.p11[chosen], self.p10[chosen], self.p01[chosen], self.p00[chosen])

    def window(self, deviations: float) -> tuple[Floats, Floats]:
        """First and last n01 within so many standard deviations ``[Q]``."""
        centre = self.count * self.p01
        reach = deviations * np.sqrt(centre * (1 - self.p01)) + 1
        return np.maximum(np.floor(centre - reach), 0), np.minimum(np.ceil(centre + reach), self.count)

    def outside(self, first: Floats, last: Floats) -> Floats:
        """Probability that n01 lies outside a window ``[Q]``."""
        below = np.where(first > 0, bdtr(np.maximum(first - 1, 0), self.count, self.p01), 0.0)
        above = np.where(last < self.count, bdtrc(last, self.count, self.p01), 0.0)
        total: Floats = below + above
        return total


@dataclass(frozen=True)
class Sum:
    """``(1 - beta) n11 + n10 - slope n01`` of each of Q distributions of a draw."""

    draws: Draws
    beta: float
    slope: Floats  # [Q]

    @property
    def _values(self) -> tuple[float, float, Floats]:
        return 1 - self.beta, 1.0, -self.slope

    @property
    def mean(self) -> Floats:
        """``[Q]``."""
        p, (v11, v10, v01) = self.draws, self._values
        return p.count * (p.p11 * v11 + p.p10 * v10 + p.p01 * v01)

    @property
    def variance(self) -> Floats:
        """``[Q]``."""
        p, (v11, v10, v01) = self.draws, self._values
        return p.count * (p.p11 * v11**2 + p.p10 * v10**2 + p.p01 * v01**2) - self.mean**2 / p.count

    def tilted(self, least: Floats) -> Floats:
        """A bound on P(sum >= least) from above ``[Q]``.

        Chernoff's, times what is left of the tail of the tilted sum: by the theorem of Berry and Esseen that
        is nearly a normal one's, whatever the tilt.
        """
        p, (v11, v10, v01) = self.draws, self._values
        tilt = np.clip((least - self.mean) / np.maximum(self.variance, 1e-12), 0, 20)
        for step in range(3):  # two of Newton's method
            e11, e10, e01 = p.p11 * np.exp(tilt * v11), p.p10 * np.exp(tilt * v10), p.p01 * np.exp(tilt * v01)
            total = e11 + e10 + e01 + p.p00
            mean = (e11 * v11 + e10 * v10 + e01 * v01) / total
            variance = (e11 * v11**2 + e10 * v10**2 + e01 * v01**2) / total - mean**2
            variance = np.maximum(variance, 1e-12)
            if step < 2:
                tilt = np.clip(tilt + (least / p.count - mean) / variance, 0, 20)
        cubes = e11 * np.abs(v11 - mean) ** 3 + e10 * np.abs(v10 - mean) ** 3
        cubes += e01 * np.abs(v01 - mean) ** 3 + p.p00 * np.abs(mean) ** 3
        deviation = np.sqrt(p.count * variance)
        ahead, decay = (p.count * mean - least) / deviation, tilt * deviation
        normal = np.exp(decay**2 / 2 - decay * ahead + log_ndtr(ahead - decay))
        left = normal + 2 * BERRY_ESSEEN * cubes / total / variance**1.5 / np.sqrt(p.count)
        bound: Floats = np.exp(np.minimum(0, p.count * np.log(total) - tilt * least)) * np.minimum(1, left)
        return bound

    def fourier(self, least: Floats, smoothing: tuple[float, float], *, upper: bool) -> Floats:
        """A bound on P(sum >= least) from above or from below ``[Q]``.

        A small random number is added to the sum, never negative (from above) or never positive (from below).
        Its characteristic function falls so fast that few terms of the Fourier series of the tail are left;
        those that are not computed are bounded and counted, and so is what a period does not hold.
        """
        p, (v11, _, v01) = self.draws, self._values
        mean, variance = self.mean, self.variance
        deviation = float(np.sqrt(variance.max()))
        width = max(smoothing[0] / np.sqrt(p.count), smoothing[1]) * float(
            np.sqrt(np.maximum(variance.min(), 1e-12))
        )
        half = float(np.abs(least - mean).max()) + 9 * deviation + width  # of a period
        end = _LAST * 2 * _UNIFORMS / width
        terms = np.arange(1, max(3, int(end * half / np.pi)) + 2, 2, dtype=np.float64)
        omega = np.pi * terms / half
        weight = 2 / (np.pi * terms) * np.sinc(omega * width / (2 * _UNIFORMS * np.pi)) ** _UNIFORMS
        decay = (p.p11 * p.p10).min() * (1 - np.cos(self.beta * omega))
        decay += (p.p11 * p.p00).min() * (1 - np.cos((1 - self.beta) * omega))
        decay += (p.p10 * p.p00).min() * (1 - np.cos(omega))
        most = np.abs(weight) * np.exp(-p.count * decay)
        kept = most > _NEGLIGIBLE
        left_out = float(most[~kept].sum()) + _LAST**-_UNIFORMS / (2 * _UNIFORMS)
        sign = 1.0 if upper else -1.0
        shift = least - sign * width / 2
        total = np.full(len(least), 0.5)
        for chosen in np.array_split(np.flatnonzero(kept), int(np.ceil(kept.sum() * len(least) / 2e5)) or 1):
            part = omega[chosen]
            turned = np.outer(v01, part)
            real = np.outer(p.p11, np.cos(v11 * part)) + np.outer(p.p10, np.cos(part))
            real += p.p01[:, np.newaxis] * np.cos(turned) + p.p00[:, np.newaxis]
            imaginary = np.outer(p.p11, np.sin(v11 * part)) + np.outer(p.p10, np.sin(part))
            imaginary += p.p01[:, np.newaxis] * np.sin(turned)
            size = np.exp(p.count / 2 * np.log(real**2 + imaginary**2 + 1e-300))
            angle = p.count * np.arctan2(imaginary, real) - np.outer(shift, part)
            total += (size * np.sin(angle)) @ weight[chosen]
        reach = half - np.abs(least - mean) - width
        spread = 1 + np.abs(self.slope)
        missed = np.exp(-(reach**2) / 2 / (variance + reach * spread / 3))  # Bernstein 1924
        bound: Floats = np.clip(total + sign * (missed + left_out + 1e-12), 0, 1)
        return bound


def exact(draws: Draws, beta: float, needed: Callable[[Floats], Floats]) -> float:
    """The probability itself, of one distribution; what lies outside the window counts as tail.

    Parameters
    ----------
    draws
        Of one distribution: all probabilities are ``[1]``.
    needed
        n01 ``[K]`` → the least (1 - beta) n11 + n10 ``[K]``.
    """
    n, t = draws.count, float(draws.p01[0])
    first, last = draws.window(WINDOW)
    k = np.arange(first[0], last[0] + 1)[:, np.newaxis]
    rest = float(draws.p10[0]) / (1 - t)
    centre = n * (1 - t) * rest
    reach = WINDOW * np.sqrt(n * float(draws.p10[0]) * (1 - float(draws.p10[0]))) + 2
    low, high = max(0.0, np.floor(centre - reach)), min(float(n), np.ceil(centre + reach))
    j = np.arange(low, high + 1)[np.newaxis]
    others = np.maximum(n - k - j, 0)
    weights = _binomial(k, n, t) * np.where(j <= n - k, _binomial(np.minimum(j, n - k), n - k, rest), 0.0)
    above = float(draws.p11[0])
    share = above / (above + float(draws.p00[0]))
    least = np.ceil((needed(k[:, 0])[:, np.newaxis] - j) / (1 - beta) - ROUNDING)
    tails = np.where(least <= 0, 1.0, 0.0)
    tails[weights <= _TINY] = 1.0  # together too little to matter; nor do tails that Chernoff bounds do
    some = (least > 0) & (least <= others) & (weights > _TINY)
    at = np.where(some, least / np.maximum(others, 1), share)
    bound = np.where(at > share, np.exp(-others * (rel_entr(at, share) + rel_entr(1 - at, 1 - share))), 1.0)
    tails[some] = bound[some]
    some &= bound > _TINY
    tails[some] = betainc(least[some], (others - least + 1)[some], share)
    return float(min(1.0, (weights * tails).sum() + max(0.0, 1 - weights.sum())))


def _binomial(k: Floats, n: Floats | int, p: float) -> Floats:
    """Probability of k of n ``[...]``."""
    ways = gammaln(np.add(n, 1.0)) - gammaln(k + 1) - gammaln(np.subtract(n, k) + 1)
    value: Floats = np.exp(ways + xlogy(k, p) + xlog1py(np.subtract(n, k), -p))
    return value
