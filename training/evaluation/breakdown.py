"""Where answers are wrong: accuracy by class and by environment, and which class is taken for which."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from training.evaluation.records import Breakdown, Confusion, GroupAccuracy, wilson_interval

MAX_MATRIX_CLASSES = 20
MAX_CONFUSIONS = 200  # pairs that are kept

Answers = tuple[NDArray[np.intp], NDArray[np.bool_]]  # the class that was answered [n]; whether it is right


def breakdown(
    classes: tuple[str, ...],
    labels: NDArray[np.int64],
    environments: NDArray[np.str_],
    *,
    ours: Answers,
    single: Answers,
    name: str,
) -> Breakdown:
    """Accuracy by class and environment, and confusions, of the selector beside one single model.

    Parameters
    ----------
    labels
        What is right ``[n]``, indices into `classes`.
    environments
        Where each input is from ``[n]``.
    name
        Of the single model.
    """
    truths = np.array(classes)[labels]
    return Breakdown(
        single=name,
        classes=_by(truths, ours[1], single[1]),
        environments=_by(environments, ours[1], single[1]),
        confusions=_confusions(classes, labels, ours, single),
        names=classes if len(classes) <= MAX_MATRIX_CLASSES else (),
        matrix=_matrix(len(classes), labels, ours[0]) if len(classes) <= MAX_MATRIX_CLASSES else (),
    )


def _by(names: NDArray[np.str_], ours: NDArray[np.bool_], single: NDArray[np.bool_]) -> list[GroupAccuracy]:
    rows = []
    found, places = np.unique(names, return_inverse=True)
    counts = np.bincount(places)
    hits = [np.bincount(places, weights=right, minlength=len(found)).astype(int) for right in (ours, single)]
    for i, group in enumerate(found.tolist()):
        count, right, alone = int(counts[i]), int(hits[0][i]), int(hits[1][i])
        rows.append(
            GroupAccuracy(
                group,
                count,
                right / count,
                *wilson_interval(right, count),
                alone / count,
                *wilson_interval(alone, count),
            )
        )
    return sorted(rows, key=lambda row: (row.accuracy, -row.inputs, row.name))


def _confusions(
    classes: tuple[str, ...], labels: NDArray[np.int64], ours: Answers, single: Answers
) -> list[Confusion]:
    wrong, alone = (
        Counter(zip(labels[~right].tolist(), answered[~right].tolist(), strict=True))
        for answered, right in (ours, single)
    )
    inputs = Counter(labels.tolist())
    pairs = sorted({*wrong, *alone}, key=lambda pair: (-wrong[pair], -alone[pair], pair))
    return [
        Confusion(
            classes[truth],
            classes[answered],
            wrong[truth, answered],
            wrong[truth, answered] / inputs[truth],
            alone[truth, answered],
        )
        for truth, answered in pairs[:MAX_CONFUSIONS]
    ]


def _matrix(classes: int, labels: NDArray[np.int64], answered: NDArray[np.intp]) -> list[list[int]]:
    flat = np.bincount(labels * classes + answered, minlength=classes * classes)
    rows: list[list[int]] = flat.reshape(classes, classes).tolist()
    return rows
