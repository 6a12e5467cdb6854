"""What is wrong with a table of outcomes, what is left out of it, and what its owner should know."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.outcomes.table import MAX_COST, OutcomeTable
from zoo.errors import DataError

LEAK_AUC = 0.99  # beyond, one feature alone tells whether a model is right
LEAK_ROWS = 20_000
LEAST_ROWS = 2  # with an outcome, of every model


@dataclass(frozen=True)
class CheckedTable:
    """A table without gaps in outcomes and costs, and what there is to say about it."""

    table: OutcomeTable
    left_out: int  # rows that lack an outcome, a cost or a score of some model
    notes: tuple[str, ...]  # one sentence each
    warnings: tuple[str, ...]


def check_table(table: OutcomeTable) -> CheckedTable:
    """Raise for what cannot be right, leave out rows with gaps, and count them.

    Raises
    ------
    DataError
        When ids repeat, a quality lies outside 0 to 1, a cost is negative or infinite, a score or a feature
        is infinite, or a model has too few outcomes.

    Examples
    --------
    >>> from training.outcomes.table import read_table
    >>> from training.outcomes.table_checks import check_table
    >>> checked = check_table(read_table("answers.csv"))
    >>> checked.left_out, checked.warnings
    (0, ())
    """
    _check_ids(table)
    _check_values(table)
    notes, warnings = [], []
    has_scores = np.isfinite(table.scores).any(axis=0)
    lacking = {
        "an outcome": np.isnan(table.right),
        "a cost": np.isnan(table.paid),
        "a score": np.isnan(table.scores) & has_scores,
        "logits": _without_logits(table),
    }
    for what, missing in lacking.items():
        for j in np.flatnonzero(missing.any(axis=0)):
            known = len(table) - int(missing[:, j].sum())
            notes.append(
                f"{table.models[j]} has {what.removeprefix('a ').removeprefix('an ')} in {known:,} of "
                f"{len(table):,} rows"
            )
            if known < LEAST_ROWS or 2 * known < len(table):
                raise DataError(
                    f"expected {what} of {table.models[j]!r} in most rows, got it in {known:,} of "
                    f"{len(table):,}. "
                    "Only rows with all models count, so leave the model out with --models, or add what is "
                    "missing."
                )
    gaps = np.logical_or.reduce(list(lacking.values())).any(axis=1)
    if gaps.all():
        raise DataError(
            "expected rows with an outcome, a cost and a score of every model, got none. Add what is "
            "missing, or leave models out with --models."
        )
    kept = rows_of(table, ~gaps)
    several = _groups_in_several(kept)
    if several:
        notes.append(
            f"{several:,} groups have samples in several environments: of each group one sample, drawn at "
            "random, counts in certify and test"
        )
    holes = np.isnan(kept.features).mean(axis=0)
    for j in np.flatnonzero(holes):
        notes.append(
            f"feature {kept.feature_names[j]} is missing in {holes[j]:.1%} of the rows, which is a feature "
            "too"
        )
    warnings += _leaks(kept)
    return CheckedTable(kept, int(gaps.sum()), tuple(notes), tuple(warnings))


def rows_of(table: OutcomeTable, chosen: NDArray[np.bool_]) -> OutcomeTable:
    """The samples of a mask."""
    names = ("ids", "groups", "environments", "right", "paid", "scores", "features")
    return replace(
        table,
        **{name: getattr(table, name)[chosen] for name in names},
        labels=None if table.labels is None else table.labels[chosen],
        logits={name: values[chosen] for name, values in table.logits.items()},
    )


def _check_ids(table: OutcomeTable) -> None:
    found, counts = np.unique(table.ids, return_counts=True)
    if len(found) < len(table):
        name = str(found[int(counts.argmax())])
        raise DataError(
            f"expected distinct ids, got {name!r} {int(counts.max())} times, and {len(table) - len(found):,} "
            "rows too many. Give every row an id of its own; variants of one original share a 'group'."
        )


def _check_values(table: OutcomeTable) -> None:
    def check(values: NDArray[np.floating], wrong: NDArray[np.bool_], what: str, advice: str) -> None:
        if wrong.any():
            row, column = (int(place) for place in np.argwhere(wrong)[0])
            raise DataError(
                f"expected {what}, got {values[row, column]:g} for {table.models[column]!r} in the row "
                f"{str(table.ids[row])!r}, and {int(wrong.sum()):,} such values in all. {advice}"
            )

    with np.errstate(invalid="ignore"):
        out = ~np.isnan(table.right) & ~((table.right >= 0) & (table.right <= 1))
        check(table.right, out, "a quality between 0 and 1 in M.right", "Scale it, or write true and false.")
        out = ~np.isnan(table.paid) & ~((table.paid >= 0) & (table.paid <= MAX_COST))
        check(table.paid, out, f"costs from 0 to {MAX_COST:g}", "Correct them, or leave the cells empty.")
        check(table.scores, np.isinf(table.scores), "finite scores", "Cut them off at a large number.")
    if not (np.nan_to_num(table.paid) > 0).any():
        raise DataError(
            "expected costs, got 0 for every answer: nothing could be saved. Give what answers cost."
        )
    infinite = np.isinf(table.features) | (np.abs(np.nan_to_num(table.features)) > np.finfo(np.float32).max)
    if infinite.any():
        row, column = (int(place) for place in np.argwhere(infinite)[0])
        raise DataError(
            f"expected features that are numbers of single precision, got {table.features[row, column]:g} "
            f"for {table.feature_names[column]!r} in the row {str(table.ids[row])!r}. Correct it, or leave "
            "the cell empty."
        )


def _without_logits(table: OutcomeTable) -> NDArray[np.bool_]:
    lacking = np.zeros(table.right.shape, np.bool_)
    for name, values in table.logits.items():
        lacking[:, table.models.index(name)] = ~np.isfinite(values).all(axis=1)
    return lacking


def _groups_in_several(table: OutcomeTable) -> int:
    pairs = np.unique(np.stack([table.groups, table.environments], axis=1), axis=0)
    _, counts = np.unique(pairs[:, 0], return_counts=True)
    return int((counts > 1).sum())


def _leaks(table: OutcomeTable) -> list[str]:
    """A warning for every feature that alone tells whether a model is right."""
    from scipy.stats import rankdata  # here: it takes a second to load, and only new tables are checked

    rows = slice(None)
    if len(table) > LEAK_ROWS:
        rows = np.random.default_rng(0).choice(len(table), LEAK_ROWS, replace=False)  # type: ignore[assignment]
    right, features = table.right[rows] >= 0.5, table.features[rows]
    found = []
    for j, name in enumerate(table.feature_names):
        known = ~np.isnan(features[:, j])
        told = _telling(rankdata(features[known, j]), right[known], table.models)
        what = f"feature {name}"
        if told is None and not known.all():
            told = _telling(rankdata(known), right, table.models)
            what = f"that feature {name} is missing"
        if told is not None:
            model, area = told
            found.append(
                f"{what} alone tells whether {model} is right (area under the ROC curve {area:.3f}): it may "
                "come from the answer or the label, which are not there when a model has to be chosen. Leave "
                "it out with --ignore if so"
            )
    return found


def _telling(
    ranks: NDArray[np.float64], right: NDArray[np.bool_], models: tuple[str, ...]
) -> tuple[str, float] | None:
    """The first model that these ranks ``[n]`` tell all about, right ``[n, M]``, and how well they do."""
    for model, yes in zip(models, right.T, strict=True):
        ones, zeros = int(yes.sum()), int((~yes).sum())
        if min(ones, zeros) < 8:
            continue
        area = (float(ranks[yes].sum()) - ones * (ones + 1) / 2) / (ones * zeros)
        if max(area, 1 - area) > LEAK_AUC:
            return model, max(area, 1 - area)
    return None
