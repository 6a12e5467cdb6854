"""What the suites of tables run on: a checked table each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from training.data.splits import Splits
from training.outcomes.table import OutcomeTable, read_table
from training.outcomes.table_checks import check_table
from training.outcomes.table_outcomes import TableOutcomes
from training.outcomes.table_profile import TableRecord, load_table_outcomes, read_table_record, store_table
from zoo.errors import DataError

ALL_FIT = Splits(fit=1.0, tune=0.0, certify=0.0, test=0.0)  # suites deal the samples out themselves
MADE_SAMPLES = 12_000
MADE_TRAINING = 2_000


@dataclass(frozen=True)
class Source:
    """Where a table comes from."""

    title: str
    read: Callable[[Path | None], OutcomeTable]


def _three_nets(data: Path | None, *, told: bool = False) -> OutcomeTable:
    folder = _there(data)
    costs = folder / "three-nets.costs.json"
    return read_table(folder / "three-nets.parquet", costs=costs, unit="GFLOPs", told=told)


def _routerbench(data: Path | None) -> OutcomeTable:
    return read_table(_there(data) / "routerbench-train.parquet", unit="usd")


def _mmlu_pro(data: Path | None) -> OutcomeTable:
    return read_table(_there(data) / "mmlu-pro.parquet", unit="characters")


def _estimators(_: Path | None) -> OutcomeTable:
    """Seven classes, 20 columns, as many samples as covtype has for a thousandth of its size."""
    from sklearn.datasets import make_classification
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from training.outcomes.importers.estimators import from_estimators

    X, y = make_classification(
        MADE_SAMPLES + MADE_TRAINING,
        n_features=20,
        n_informative=12,
        n_redundant=4,
        n_classes=7,
        n_clusters_per_class=2,
        class_sep=1.4,
        flip_y=0.03,
        random_state=0,
    )
    known, rest = slice(0, MADE_TRAINING), slice(MADE_TRAINING, None)
    models = {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
        "forest": RandomForestClassifier(100, random_state=0, n_jobs=1),
        "boosting": HistGradientBoostingClassifier(max_iter=100, random_state=0),
    }
    for model in models.values():
        model.fit(X[known], y[known])
    return from_estimators(models, np.round(X[rest], 4), y[rest])


SOURCES: Mapping[str, Source] = {
    "three-nets": Source("Three ImageNet networks on distorted photographs", _three_nets),
    "three-nets-told": Source(
        "The same, where the application tells the distortion", partial(_three_nets, told=True)
    ),
    "routerbench": Source("Eleven language models on questions", _routerbench),
    "mmlu-pro": Source("28 language models on questions of MMLU-Pro", _mmlu_pro),
    "estimators": Source("Three scikit-learn estimators on made data", _estimators),
}


def prepare(name: str, data: Path | None, work: Path) -> tuple[TableRecord, TableOutcomes]:
    """The record and all samples of a suite, every variant of an original among them."""
    folder = work / "tables" / name
    store_table(check_table(SOURCES[name].read(data)), folder, splits=ALL_FIT, restart=True)
    return read_table_record(folder), load_table_outcomes(folder, splits=("fit",))


def _there(data: Path | None) -> Path:
    if data is None:
        raise DataError("expected --data, a folder with the tables of outcomes, got none.")
    return data
