"""Conformal test martingales over binned numbers: many side by side, in constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_CAPITAL = 1e100  # capital beyond this is given away, which leaves a martingale below what it may be

_P_VALUE_CELLS = 512  # in which bets on p-values are constant
_PARTS = 4  # of all p-values; one bet on each
_RANDOM_BLOCK = 64  # numbers whose random order is drawn together
_MOST_TOGETHER = 64  # numbers of a block: what bets on more of them gain or lose may be no number any more

Bins = tuple[Sequence[float], Sequence[int]]  # ascending edges; calibration numbers per bin, one more


class MartingaleState(NamedTuple):
    """Of one martingale."""

    edges: NDArray[np.float32]
    least: NDArray[np.float64]
    capital: NDArray[np.float64]


def _bets() -> NDArray[np.float64]:
    """Densities of p-values to bet on ``[_P_VALUE_CELLS, B]``: small, large, both, average ones, any part."""
    p = np.linspace(0, 1, _P_VALUE_CELLS + 1)
    shares = []
    for power in (0.3, 0.6):
        small, large = p**power, 1 - (1 - p) ** power
        shares += [small, large, (small + large) / 2]
    # none of the others stakes all: a surprise must not ruin it
    shares += [p + slope * p * (1 - p) for slope in (0.8, -0.8)]
    shares.append(0.2 * p + 0.8 * p**2 * (3 - 2 * p))
    shares += [(p + np.clip(p * _PARTS - part, 0, 1)) / 2 for part in range(_PARTS)]
    return np.diff(np.stack(shares, axis=1), axis=0) * _P_VALUE_CELLS


@lru_cache(maxsize=64)
def _until(count: int) -> NDArray[np.bool_]:
    """Whether the second of two numbers came no later than the first ``[count, count, 1]``."""
    return np.tri(count, dtype=np.bool_)[:, :, np.newaxis]


_BETS = _bets()
_BET_SHARE = 1 / _BETS.shape[1]


class Martingales:
    """Martingales that bet on some numbers not being exchangeable with calibration numbers, one a row.

    A number's p-value is the share of the calibration numbers and of those so far, itself included, that lie
    in higher bins, or in its own and come before it in a random order. Then the number joins them.

    Parameters
    ----------
    bins
        Of each row.
    seed
        Of the random order.
    """

    def __init__(self, bins: Sequence[Bins], *, seed: int = 0) -> None:
        rows, width = len(bins), 1 + max(len(edges) for edges, _ in bins)
        # bin b of row r begins at _edges[r, b], and _least[r, b] numbers lie in it or above
        self._edges = np.empty((rows, width), np.float32)
        self._least = np.zeros((rows, width + 1))
        self._capital = np.zeros((rows, _BETS.shape[1]))
        for row, one in enumerate(bins):
            self._fill(row, one)
        self._rng = np.random.default_rng(seed)
        self._random = np.empty((0, rows))
        self._drawn = 0
        self._mask = np.zeros((rows, width), np.bool_)
        self._factors = np.empty((rows, _BETS.shape[1]))
        self._start = np.arange(rows) * (width + 1) - 1
        self._above = self._least.ravel()[1:]
        self._lanes = {k: self._lane(k) for k in (rows - 1, rows)}

    def _lane(self, k: int) -> tuple[NDArray[Any], ...]:
        """Views of the first k rows: making them takes longer than using them."""
        return (
            self._edges[:k],
            self._mask[:k],
            self._least[:k, :-1],
            self._start[:k],
            self._least[:k, 0],
            self._factors[:k],
            self._capital[:k],
        )

    def _fill(self, row: int, bins: Bins) -> None:
        edges, counts = bins
        self._edges[row] = np.inf
        self._edges[row, 0] = -np.inf
        self._edges[row, 1 : len(counts)] = edges
        self._least[row] = 0
        self._least[row, : len(counts)] = np.cumsum(counts[::-1])[::-1]
        self._capital[row] = 0

    def exchange(self, row: int, other: Bins | MartingaleState) -> MartingaleState:
        """Go on with another martingale in this row, new or as it was put aside; returns the present one."""
        present = MartingaleState(self._edges[row].copy(), self._least[row].copy(), self._capital[row].copy())
        if isinstance(other, MartingaleState):
            self._edges[row], self._least[row], self._capital[row] = other
        else:
            self._fill(row, other)
        return present

    def update(self, values: NDArray[np.float32], stake: float) -> float:
        """Stake so much more on each row, then bet on its next number; the capital of all rows together.

        Parameters
        ----------
        values
            Finite float32 of all rows, or of all but the last, which then stays as it is.
        """
        edges, mask, least, start, count, factors, capital = self._lanes[len(values)]
        np.greater_equal(values[:, np.newaxis], edges, out=mask)
        least += mask
        bins: NDArray[np.intp] = np.add.reduce(mask, axis=1, dtype=np.intp)
        bins += start
        above: NDArray[np.float64] = self._above.take(bins)
        place: NDArray[np.float64] = self._least.ravel().take(bins)
        place -= above
        place *= self._order()[: len(values)]
        place += above
        place /= count
        place *= _P_VALUE_CELLS
        # clip: rounding may lift the largest p-value to 1
        _BETS.take(place.astype(np.intp), axis=0, out=factors, mode="clip")
        capital += stake * _BET_SHARE
        capital *= factors
        total = float(np.add.reduce(self._capital, axis=None))
        return self._bounded(total)

    def _bounded(self, total: float) -> float:
        if total > MAX_CAPITAL:
            self._capital *= MAX_CAPITAL / total
            return MAX_CAPITAL
        return total

    def update_block(
        self, values: NDArray[np.float32], stakes: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """:meth:`update` for several numbers of each row, one after the other, in fewer calls.

        Parameters
        ----------
        values
            Finite float32 ``[n, R]`` of all rows, or ``[n, R - 1]`` of all but the last.
        stakes
            ``[n]``.

        Returns
        -------
        tuple
            The capital of all rows together after each ``[n]``, and of each row ``[n, R]``.
        """
        count, rows = values.shape
        if count > _MOST_TOGETHER:
            firsts = range(0, count, _MOST_TOGETHER)
            some = [slice(first, first + _MOST_TOGETHER) for first in firsts]
            totals_, each_ = zip(*(self.update_block(values[i], stakes[i]) for i in some), strict=True)
            return np.concatenate(totals_), np.concatenate(each_)
        edges, _, least, start, total, _, capital = self._lanes[rows]
        masks = values[:, :, np.newaxis] >= edges
        bins = np.add.reduce(masks, axis=2, dtype=np.intp)
        until = _until(count)
        earlier = bins >= bins[:, np.newaxis]  # [n, n, R]: whether the bin of the second is as high
        higher = bins > bins[:, np.newaxis]
        earlier &= until
        higher &= until
        cells = bins + start
        place, above = self._least.ravel().take(cells), self._above.take(cells)
        above += np.add.reduce(higher, axis=1, dtype=np.float64)
        place += np.add.reduce(earlier, axis=1, dtype=np.float64)
        place -= above
        place *= self._orders(count)[:, :rows]
        place += above
        place /= total + np.arange(1.0, count + 1)[:, np.newaxis]
        place *= _P_VALUE_CELLS
        # clip: rounding may lift the largest p-value to 1
        after: NDArray[np.float64] = _BETS.take(place.astype(np.intp), axis=0, mode="clip")  # [n, R, B]
        least += np.add.reduce(masks, axis=0, dtype=np.float64)
        growth = np.multiply.accumulate(after, axis=0)  # of what was there before the block
        after /= growth
        after *= (stakes * _BET_SHARE)[:, np.newaxis, np.newaxis]  # what is staked grows from there on
        grown: NDArray[np.float64] = np.add.accumulate(after, axis=0)
        grown += capital
        grown *= growth
        each: NDArray[np.float64] = np.add.reduce(grown, axis=2)
        if rows < len(self._capital):
            each = np.concatenate([each, np.full((count, 1), self._capital[rows:].sum())], axis=1)
        totals: NDArray[np.float64] = np.add.reduce(each, axis=1)
        capital[:] = grown[-1]
        totals[-1] = self._bounded(float(totals[-1]))
        return totals, each

    @property
    def capital(self) -> NDArray[np.float64]:
        """Capital ``[R]`` of each row."""
        every: NDArray[np.float64] = self._capital.sum(axis=1)
        return every

    def _order(self) -> NDArray[np.float64]:
        row: NDArray[np.float64] = self._orders(1)[0]
        return row

    def _orders(self, count: int) -> NDArray[np.float64]:
        """The next random numbers ``[count, R]``; the same, whether they are asked for together or not."""
        first, self._drawn = self._drawn, self._drawn + count
        while self._drawn > len(self._random):
            fresh = self._rng.random((_RANDOM_BLOCK, len(self._start)))
            self._random = np.concatenate([self._random[first:], fresh])
            first, self._drawn = 0, self._drawn - first
        return self._random[first : self._drawn]
