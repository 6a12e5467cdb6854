"""Cross-validation folds by group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError

FOLDS = 4
HALVINGS = 4  # ways to part samples in two
Folds = Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]


def grouped_folds(groups: NDArray[np.str_], count: int = FOLDS) -> Folds:
    """Folds of samples ``[n]`` that never part the variants of one original.

    The originals with the most samples are dealt out first, each to the fold that has the fewest samples so
    far: the split that scikit-learn's ``GroupKFold`` makes, without the second that its import takes.

    Parameters
    ----------
    groups
        The original of every sample ``[n]``.
    count
        How many folds; fewer where there are fewer originals.

    Returns
    -------
    list
        Per fold the rows to fit on and the rows that are held out, each ascending.

    Raises
    ------
    DataError
        When there are fewer than two originals.
    """
    _, original, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    folds = min(count, len(sizes))
    if folds < 2:
        raise DataError(f"expected at least two originals to fit on, got {folds}. Give more labelled images.")
    fold_of, filled = np.empty(len(sizes), np.intp), [0] * folds
    for one in np.argsort(sizes, kind="stable")[::-1].tolist():
        fold_of[one] = least = filled.index(min(filled))
        filled[least] += int(sizes[one])
    held = fold_of[original]
    return [(np.flatnonzero(held != fold), np.flatnonzero(held == fold)) for fold in range(folds)]


def halvings(groups: NDArray[np.str_], count: int = HALVINGS) -> NDArray[np.bool_]:
    """Which samples are in the first half, in several ways ``[count, n]``; those of one original together."""
    names, members = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(0)
    return np.stack([(rng.permutation(len(names)) < len(names) // 2)[members] for _ in range(count)])
