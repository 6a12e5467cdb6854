"""Certificates for every experiment of a table: what comes before the colon in the names of environments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.selection.repeated import deal
from benchmarks.tables.repeated import DropPoint, certified_drop
from training.data.splits import CERTIFY
from training.outcomes.table_outcomes import TableOutcomes
from training.outcomes.table_profile import TableRecord


@dataclass(frozen=True)
class ExperimentPoint:
    """A router of one experiment's own, fitted and certified on its samples alone."""

    experiment: str
    samples: int  # certify samples
    drop: DropPoint


def by_experiment(record: TableRecord, outcomes: TableOutcomes, seed: int) -> list[ExperimentPoint]:
    """One router for each experiment; none where there is only one.

    Every certificate holds with its own confidence, for inputs like those of its experiment.
    """
    names = np.array([name.partition(":")[0] for name in outcomes.environments.tolist()])
    experiments = sorted(set(names.tolist()))
    if len(experiments) < 2:
        return []
    found = []
    for name in experiments:
        dealt = deal(outcomes.rows(np.flatnonzero(names == name)), seed)
        assert isinstance(dealt, TableOutcomes)
        found.append(ExperimentPoint(name, len(dealt.split(CERTIFY)), certified_drop(record, dealt, seed)))
    return found
