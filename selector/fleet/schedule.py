"""The schedule: what the service does now and then, beside answering."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from selector.fleet.decide import Decision, decide
from selector.fleet.groups import read_groups
from selector.fleet.tally import GroupDemand, Tally
from selector.worth.best_set import TaskWorth
from zoo.errors import CardError, ServiceError, ZooError
from zoo.releases.catalogue import index_from_folder
from zoo.releases.published import read_role
from zoo.releases.release import Assignment, Index

log = logging.getLogger("zooselect.serve")

Tasks = Callable[[Index, GroupDemand], Sequence[TaskWorth]]
Sign = Callable[[Sequence[Assignment], Sequence[str]], object]


def assign_groups(
    root: str | Path,
    tally: Tally,
    tasks: Tasks,
    *,
    sign: Sign | None,
    settings: str | Path,
    lately_s: float,
) -> list[Decision]:
    """Decide for every group that has reported or that the operator has fixed; sign what has changed.

    Parameters
    ----------
    tasks
        What the bundles gain, for what a group asks.
    sign
        Publishes assignments, and takes away those of the groups that are named second; None: they are
        decided, and nothing is changed.
    settings
        Folder of ``groups.json``.

    Raises
    ------
    ZooError
        When the publisher or the settings cannot be read, the assignments cannot be signed, or a group's
        rule makes no sense; the other groups have been decided then.
    """
    index = index_from_folder(root)
    groups = read_groups(settings)
    fixed = {name for name, rule in groups.groups.items() if rule.models is not None or not rule.assigned}
    decisions = []
    problems = []
    for name in sorted({*tally.groups, *fixed}):
        demand = tally.demand(name, since=time.time() - lately_s)
        try:
            decisions.append(decide(demand, tasks(index, demand), index, groups.rule(name)))
        except ZooError as error:  # one group's bad rule must not stop the others
            problems.append(f"group {name}: {error}")
    changed = [one.assignment for one in decisions if one.changed and one.assignment is not None]
    withdrawn = [one.group for one in decisions if one.changed and one.assignment is None]
    if (changed or withdrawn) and sign is not None:
        sign(changed, withdrawn)
        for one in decisions:
            if one.changed:
                held = ", ".join(one.assignment.models) if one.assignment else "nothing assigned"
                log.info("group %s: %s; %s", one.group, held, one.reason)
    if problems:
        raise ServiceError(" ".join(problems) + " The other groups have been decided.")
    return decisions


def timestamp_left_s(root: str | Path, *, now: float | None = None) -> float:
    """Seconds until the published timestamp expires; 0 where it does not say."""
    try:
        expires = read_role(Path(root) / "metadata" / "timestamp.json").expires
    except CardError:
        return 0.0
    return 0.0 if expires is None else expires.timestamp() - (time.time() if now is None else now)


async def every(seconds: float, work: Callable[[], object], *, first_s: float = 0.0) -> None:
    """Do something again and again, in a thread; what goes wrong is logged, and tried again next time."""
    await asyncio.sleep(first_s)
    while True:
        try:
            await asyncio.to_thread(work)
        except Exception as error:
            log.warning("%s", error)
        await asyncio.sleep(seconds)
