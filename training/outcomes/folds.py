"""Cross-validation folds by group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from zoo.errors import DataError

FOLDS = 4
Folds = Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]


def grouped_folds(groups: NDArray[np.str_]) -> Folds:
    """Folds of samples ``[n]`` that never part the variants of one original.

    Raises
    ------
    DataError
        When there are fewer than two originals.
    """
    folds = min(FOLDS, len(set(groups.tolist())))
    if folds < 2:
        raise DataError(f"expected at least two originals to fit on, got {folds}. Give more labelled images.")
    return list(GroupKFold(folds).split(groups, groups=groups))
