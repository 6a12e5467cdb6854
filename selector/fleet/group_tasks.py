"""What the bundles of a publisher gain, for what the devices of a group ask of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from selector.answering.recent import Answered, Question
from selector.bundle.bundle import decode_bundle
from selector.fleet.tally import BundleDemand, GroupDemand
from selector.policies.constraint import Constraint
from selector.worth.best_set import TaskWorth
from selector.worth.value import task_worth
from zoo.releases.catalogue import read_blob
from zoo.releases.release import Index

MAX_REPRESENTATIVE_ANSWERS = 1000  # that stand for all answers of a group


def tasks_for(root: str | Path, index: Index, demand: GroupDemand) -> list[TaskWorth]:
    """A task for every published bundle that devices of the group have or were asked for.

    How often which constraint was asked is what the group reports; what it gains, what the bundle's certify
    samples say.

    Raises
    ------
    DigestError, CardError
        When a bundle in the publisher's folder is not what its release says.
    """
    known = {name: one.accuracy for name, one in index.models.items() if one.accuracy is not None}
    tasks = []
    for name, asked in demand.bundles.items():
        if name not in index.bundles:
            continue
        bundle = decode_bundle(read_blob(root, index.bundles[name].record), name=f"bundle {name!r}")
        weight = float(max(asked.window, 1))  # an installed bundle that is not asked keeps a little weight
        tasks.append(task_worth(bundle, list(_answers(asked)), name=name, known=known, weight=weight))
    return tasks


def _answers(demand: BundleDemand) -> Iterator[Answered]:
    """Answers in the proportions in which they were asked."""
    total = sum(asked.answers for asked in demand.asked)
    number = 0
    for asked in demand.asked:
        try:
            wanted = Constraint(kind=asked.kind, level=asked.level)
        except ValueError:  # a device may say anything
            continue
        for _ in range(max(1, round(MAX_REPRESENTATIVE_ANSWERS * asked.answers / total))):
            number += 1
            yield Answered(
                number=number,
                asked=Question(wanted, asked.environment),
                certified=False,
                path=(),
                probability=0.0,
                scores=None,
            )
