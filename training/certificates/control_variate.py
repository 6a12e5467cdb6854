"""A more powerful test of an accuracy: right answers, less what the luck of the draw did to single models.

Whether most models of the zoo are right on a sample says much about whether a policy is, and nobody chose it.
A draw of certify samples on which most models do well by luck flatters every policy; fit and tune samples say
how well they do as a rule. The test subtracts what that explains (a linear control variate). Fit and tune
samples are a draw with luck of its own, so the test has to hold in every cell of that luck, each at a level
that is fixed beforehand. The proof is in docs/guarantees.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr, ndtri

from training.certificates.linear_tails import CHORD, ROUNDING, SMOOTHING, Draws, Floats, Sum, exact
from zoo.errors import PrecisionError

CORRELATION = 0.65  # between the policy and most models, for which the slope is best
_WIDEST_CELL = 0.1  # standard deviations of luck
# Shares of delta: both tails of luck; that the nuisance lies outside its interval; the least level of a cell.
_TAILS, _NUISANCE, _LEAST_LEVEL = 0.02, 0.004, 0.01
_BETAS = (0.02, 0.9)
_GRID, _FINE_GRID = 9, 25  # values of the nuisance that are tried; the finer ones where it is close
_SUSPECTS = 8  # of the tails that may be above their level, so many are bounded from below
_CLOSE = 0.8  # of the level


def most_right(right: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether at least half of all models are right ``[n]``, from who is right ``[n, K]``.

    Examples
    --------
    >>> import numpy as np
    >>> most_right(np.array([[True, True, False], [True, False, False]])).tolist()
    [True, False]
    """
    most: NDArray[np.bool_] = 2 * right.sum(axis=1) >= right.shape[1]
    return most


@dataclass(frozen=True)
class Counts:
    """Certify samples by whether the policy is right, and whether most models are."""

    both: int
    policy: int  # the policy only
    most: int  # most models only
    neither: int

    @classmethod
    def of(cls, policy: NDArray[np.bool_], most: NDArray[np.bool_]) -> Counts:
        """Counts of samples ``[n]``."""
        both = int((policy & most).sum())
        one, other = int(policy.sum()) - both, int(most.sum()) - both
        return cls(both, one, other, len(policy) - both - one - other)

    @property
    def samples(self) -> int:
        """All of them."""
        return self.both + self.policy + self.most + self.neither


@dataclass(frozen=True)
class ControlVariate:
    """The test for one draw of fit and tune samples and one number of certify samples.

    Parameters
    ----------
    samples
        n, of certify samples.
    development
        m, of fit and tune samples.
    most_right
        On how many of these most models are right.
    delta
        Test level.

    Raises
    ------
    PrecisionError
        When there are no samples, or `delta` is not between 0 and 1.

    Examples
    --------
    >>> test = ControlVariate(samples=1223, development=2446, most_right=2200, delta=0.05)
    >>> counts = Counts(both=1080, policy=70, most=20, neither=53)
    >>> test.p_value(counts, 0.92, 0.5) <= 0.05, test.p_value(counts, 0.935, 0.5) <= 0.05
    (True, False)
    """

    samples: int
    development: int
    most_right: int
    delta: float = 0.05

    def __post_init__(self) -> None:
        if min(self.samples, self.development) < 1 or not 0 <= self.most_right <= self.development:
            raise PrecisionError(
                "expected fit, tune and certify samples, and at most all of the former with most models "
                f"right, got {self.samples} certify samples and {self.most_right} of {self.development}."
            )
        if not 0 < self.delta < 1:
            raise PrecisionError(f"expected delta between 0 and 1, such as 0.05, got {self.delta!r}.")

    @cached_property
    def slope(self) -> float:
        """By how many standard deviations a bound on C gives way for one of luck on D, preset."""
        ratio = self.samples / self.development
        k = self.development / (self.development + self.samples)
        square = CORRELATION**2
        return math.sqrt(k**2 * square * ratio / (1 - square + square * (1 - k) ** 2))

    @cached_property
    def edges(self) -> Floats:
        """Edges of the cells of luck, in standard deviations."""
        last = -float(ndtri(_TAILS * self.delta))
        return np.linspace(-last, last, math.ceil(2 * last / _WIDEST_CELL - 1e-9) + 1)

    @cached_property
    def means(self) -> Floats:
        """For each cell the least share of samples on which most models are right that it allows."""
        g, m = self.most_right, self.development
        if g == 0:
            return np.zeros(len(self.edges) - 1)
        least: Floats = betaincinv(g, m - g + 1, ndtr(-self.edges[1:]))
        return least

    @cached_property
    def _lean(self) -> Floats:
        middles = (self.edges[1:] + self.edges[:-1]) / 2
        return self.slope * middles + min(0.05, self.slope / 4) * np.abs(middles)

    def spent(self, start: float) -> float:
        """Test level that levels of cells with this start (C) add up to."""
        return float(np.diff(ndtr(self.edges)) @ self._levels(start)) + 2 * _TAILS * self.delta

    def _levels(self, start: float) -> Floats:
        levels: Floats = np.maximum(_LEAST_LEVEL * self.delta, ndtr(self._lean - start))
        return levels

    @cached_property
    def start(self) -> float:
        """C: the normal quantile of a level without luck that the whole of delta pays for."""
        low, high = -10.0, 40.0  # where more than delta is spent, and where less is
        while high - low > 1e-12:
            middle = (low + high) / 2
            low, high = (middle, high) if self.spent(middle) > self.delta else (low, middle)
        return high  # of both the one that is within delta

    @cached_property
    def levels(self) -> Floats:
        """Test level of each cell."""
        return self._levels(self.start)

    def beta(self, policy: NDArray[np.bool_], most: NDArray[np.bool_]) -> float:
        """How much of the luck of most models a policy shares, from fit and tune samples ``[m]``.

        The root at which luck on D moves the bound by the preset slope.
        """
        x, y = policy.astype(np.float64), most.astype(np.float64)
        shared = float(np.mean(x * y) - x.mean() * y.mean())
        square = self.slope**2
        a = float(y.var()) * (self.samples / self.development - square)
        b, c = 2 * square * shared, -square * float(x.var())
        if a <= 0:  # most models are always right, or never
            return _BETAS[0]
        return float(np.clip((-b + math.sqrt(b**2 - 4 * a * c)) / (2 * a), *_BETAS))

    def p_value(self, counts: Counts, level: float, beta: float) -> float:
        """Of "the accuracy is at most `level`"; 1 where it is above :attr:`delta`.

        A bound from above that is at most :attr:`delta` exactly where the test rejects: where every cell's
        p-value is at most its level.
        """
        if counts.samples != self.samples:
            raise PrecisionError(f"expected counts of {self.samples} samples, got {counts.samples}.")
        cells = _Cells(self, counts, level, beta)
        middle = np.argsort(np.abs(self.edges[1:] + self.edges[:-1]), kind="stable")
        values = np.ones(len(middle))
        for chosen in (middle[:1], middle[1:9], middle[9:]):
            values[chosen] = cells.p_values(chosen)
            if (values[chosen] > self.levels[chosen]).any():
                return 1.0
        some = values > _LEAST_LEVEL * self.delta
        start = (self._lean - ndtri(values))[some].min(initial=40.0)
        return min(self.delta, self.spent(float(start)))


@dataclass(frozen=True)
class Control:
    """The test with what it needs of the samples, to test a sequence of thresholds."""

    test: ControlVariate
    most: NDArray[np.bool_]  # [n]: on which certify samples most models are right
    betas: tuple[float, ...]  # one a threshold

    @classmethod
    def of(
        cls,
        development: NDArray[np.bool_],
        policies: Sequence[NDArray[np.bool_]],
        simulated_on: NDArray[np.bool_],
        certify: NDArray[np.bool_],
        *,
        delta: float,
    ) -> Control:
        """From who is right: models on all fit and tune samples ``[m, K]``, the policy at each threshold.

        Parameters
        ----------
        policies
            Whether the policy is right at each threshold ``[s]``, on s of the fit and tune samples.
        simulated_on
            Which models are right on these ``[s, K]``.
        certify
            Which models are right on the certify samples ``[n, K]``.
        """
        test = ControlVariate(
            samples=len(certify),
            development=len(development),
            most_right=int(most_right(development).sum()),
            delta=delta,
        )
        most = most_right(simulated_on)
        return cls(test, most_right(certify), tuple(test.beta(right, most) for right in policies))

    def p_value(self, place: int, right: NDArray[np.bool_], level: float) -> float:
        """Of "the accuracy at a threshold is at most `level`"; `right` on certify samples ``[n]`` or not."""
        return self.test.p_value(Counts.of(right, self.most), level, self.betas[place])


class _Cells:
    """P-values of the cells of luck for one policy, threshold and level."""

    def __init__(self, test: ControlVariate, counts: Counts, level: float, beta: float) -> None:
        n, mu = test.samples, test.means
        self.n, self.level, self.beta, self.mu = n, level, beta, mu
        self.nuisance = _NUISANCE * test.delta
        self.allowed = test.levels - self.nuisance
        self.mean = level - beta * mu  # of X - beta Y
        sums = (1 - beta) * counts.both + counts.policy - beta * counts.most - n * self.mean
        # the variance of X - beta Y at n01 = 0, and its growth with n01
        self.still = level + beta**2 * mu - self.mean**2 - 2 * beta * mu + beta / (n + 1)
        self.growth = 2 * beta / (n + 1)
        seen = self.still + self.growth * counts.most
        with np.errstate(divide="ignore", invalid="ignore"):
            self.z = np.where(seen > 0, sums / np.sqrt(n * np.maximum(seen, 0)), 0.0)
        k, half = counts.most, self.nuisance / 2
        self.high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - half))
        low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, half))
        self.low = np.maximum(low, np.maximum(mu - level, 0))
        # no share within the interval leaves the accuracy at the level, so the interval missed the share
        self.impossible = (sums > 0) & (self.low >= self.high)
        lost = (sums <= 0) | (seen <= 0) | (self.high >= 1 - level) | (self.high >= mu)
        self.hopeless = ~self.impossible & lost

    def p_values(self, chosen: NDArray[np.intp]) -> Floats:
        """Of some cells ``[c]``: bounds from above, at most the levels where the p-values are."""
        values = np.where(self.hopeless[chosen], 1.0, self.nuisance)
        if self.hopeless[chosen].any():
            return values
        open_ = np.flatnonzero(~self.impossible[chosen])
        if not len(open_):
            return values
        cells = chosen[open_]
        tails = self._tails(cells, np.linspace(0, 1, _GRID))
        close = (tails > _CLOSE * self.allowed[cells]) & (tails <= self.allowed[cells])
        if (tails <= self.allowed[cells]).all() and close.any():
            finer = np.setdiff1d(np.arange(_FINE_GRID), np.arange(0, _FINE_GRID, 3)) / (_FINE_GRID - 1)
            tails[close] = np.maximum(tails[close], self._tails(cells[close], finer))
        values[open_] = np.minimum(1.0, tails + self.nuisance)
        return values

    def _tails(self, cells: NDArray[np.intp], grid: Floats) -> Floats:
        """The greatest tail over shares of n01, for each cell; 1 where it is known to be above its level."""
        of = np.repeat(cells, len(grid))
        t = (self.low[cells][:, np.newaxis] * (1 - grid) + self.high * grid).ravel()
        mu = self.mu[of]
        draws = Draws(
            self.n, np.maximum(mu - t, 0), np.maximum(self.level - mu + t, 0), t, 1 - self.level - t
        )
        allowed = self.allowed[of]
        first, last = draws.window(CHORD)
        straight = self.still[of] + self.growth * first > 0  # h is concave on the whole window
        at_first, at_last = self._needed(of, first), self._needed(of, last)
        slope = (at_last - at_first) / np.maximum(last - first, 1)
        above = Sum(draws, self.beta, slope)
        least = at_first - slope * first - ROUNDING
        outside = draws.outside(first, last)
        tails = np.where(straight, above.tilted(least) + outside, 1.0)
        for smoothing in SMOOTHING:
            unsure = np.flatnonzero(straight & (tails > allowed))
            if len(unsure):
                total = Sum(draws.at(unsure), self.beta, slope[unsure])
                bound = total.fourier(least[unsure], smoothing, upper=True)
                tails[unsure] = np.minimum(tails[unsure], bound + outside[unsure])
            unsure = np.flatnonzero(tails > allowed)
            unsure = unsure[np.argsort(-(tails / allowed)[unsure], kind="stable")]
            top = unsure[:_SUSPECTS]
            if len(top) and self._surely_above(of[top], draws.at(top), allowed[top], smoothing):
                return np.ones(len(cells))
        for i in unsure:
            tails[i] = exact(draws.at(np.array([i])), self.beta, partial(self._needed, of[[i]]))
            if tails[i] > allowed[i]:
                return np.ones(len(cells))
        greatest: Floats = tails.reshape(len(cells), len(grid)).max(axis=1)
        return greatest

    def _needed(self, of: NDArray[np.intp], k: Floats) -> Floats:
        """The least (1 - beta) n11 + n10 at n01 = k that is at least as favourable as what was seen."""
        root = np.sqrt(self.n * np.maximum(self.still[of] + self.growth * k, 0))
        needed: Floats = self.z[of] * root + self.n * self.mean[of] + self.beta * k
        return needed

    def _surely_above(
        self, of: NDArray[np.intp], draws: Draws, allowed: Floats, smoothing: tuple[float, float]
    ) -> bool:
        """Whether some tail exceeds its level, by bounds from below: a tangent lies above h."""
        if (self.still[of] <= 0).any():
            return False
        k = self.n * draws.p01
        value = self.still[of] + self.growth * k
        slope = self.z[of] * np.sqrt(self.n / value) * self.growth / 2 + self.beta
        least = self._needed(of, k) - slope * k
        return bool((Sum(draws, self.beta, slope).fourier(least, smoothing, upper=False) > allowed).any())
