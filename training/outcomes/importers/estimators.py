"""Outcomes of scikit-learn estimators: their probabilities as logits, timed one row at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selector.routing.record import MAX_FEATURES
from training.outcomes.table import ONE_ENVIRONMENT, OutcomeTable
from zoo.errors import DataError

TIMED_ROWS = 200
LEAST_PROBABILITY = 1e-12  # before its logarithm


def from_estimators(
    models: Mapping[str, Any],
    X: Any,
    y: Any,
    *,
    groups: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
) -> OutcomeTable:
    """What fitted estimators say of samples that they did not learn from, and how long one answer takes.

    The columns of X are the features, and the milliseconds of one row in ``predict_proba`` the costs.

    Parameters
    ----------
    models
        Name → fitted classifier with ``predict_proba`` and the same ``classes_``.
    X
        Samples ``[n, F]``, an array or a data frame of numbers.
    y
        Their true classes ``[n]``.
    groups
        Original of every sample; by default each is its own.
    ids
        Names of the samples; by default their places.

    Raises
    ------
    DataError
        When there are no models, classes differ, or a label is none of them.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from training.outcomes import from_estimators
    >>> X, y = np.arange(40.0).reshape(-1, 1), np.arange(40) % 2
    >>> from_estimators({"line": LogisticRegression().fit(X, y)}, X, y).models
    ('line',)
    """
    if not models:
        raise DataError("expected at least one estimator, got none. Give some by name.")
    names = [str(name) for name in getattr(X, "columns", [])]
    values = np.asarray(X, dtype=np.float64)
    truth = np.asarray(y)
    if values.ndim != 2 or len(values) != len(truth) or not len(values) > 0:
        raise DataError(
            f"expected samples [n, F] and n classes, got {list(values.shape)} and {list(truth.shape)}. "
            "Correct one."
        )
    if values.shape[1] > MAX_FEATURES:
        raise DataError(f"expected at most {MAX_FEATURES:,} features, got {values.shape[1]:,}. Choose some.")
    classes = np.asarray(next(iter(models.values())).classes_)
    logits, paid = {}, []
    for name, model in models.items():
        if sorted(model.classes_.tolist()) != sorted(classes.tolist()):
            raise DataError(
                f"expected estimators of the same classes, got other ones of {name!r}. Fit them on the same "
                "labels."
            )
        order = [model.classes_.tolist().index(one) for one in classes.tolist()]
        shares = np.asarray(model.predict_proba(X))[:, order]
        logits[name] = np.log(np.maximum(shares, LEAST_PROBABILITY)).astype(np.float32)
        paid.append(np.full(len(values), _row_ms(model, X)))
    places = {one: i for i, one in enumerate(classes.tolist())}
    unknown = [one for one in np.unique(truth).tolist() if one not in places]
    if unknown:
        raise DataError(
            f"expected labels among the classes of the estimators, got {unknown[0]!r}. Leave it out."
        )
    labels = np.array([places[one] for one in truth.tolist()], dtype=np.int64)
    found = np.array([str(one) for one in (range(len(values)) if ids is None else ids)])
    return OutcomeTable(
        models=tuple(models),
        ids=found,
        groups=found if groups is None else np.array([str(one) for one in groups]),
        environments=np.full(len(values), ONE_ENVIRONMENT),
        right=np.stack([one.argmax(axis=1) == labels for one in logits.values()], axis=1).astype(np.float64),
        paid=np.stack(paid, axis=1),
        scores=np.full((len(values), len(models)), np.nan),
        labels=labels,
        logits=logits,
        features=values,
        feature_names=tuple(names) or tuple(f"x{i}" for i in range(values.shape[1])),
        unit="ms",
    )


def _row_ms(model: Any, X: Any) -> float:
    """Milliseconds of one row: the lower quartile of single calls, which others hardly touch."""
    rows: NDArray[np.intp] = np.linspace(0, len(X) - 1, min(TIMED_ROWS, len(X))).astype(np.intp)
    frame = hasattr(X, "iloc")
    times = []
    for row in rows.tolist():
        one = X.iloc[[row]] if frame else np.asarray(X)[row : row + 1]
        start = time.perf_counter()
        model.predict_proba(one)
        times.append((time.perf_counter() - start) * 1e3)
    return float(np.quantile(times, 0.25))
