"""The schedule: what the service does now and then, beside answering, with a fair turn for every group."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from selector.fleet.decide import Decision, decide
from selector.fleet.groups import read_groups
from selector.fleet.tally import GroupDemand, Tally
from selector.fleet.tokens import Token
from selector.worth.best_set import TaskWorth
from zoo.errors import CardError, PublishError, ServiceError, ZooError
from zoo.releases.catalogue import index_from_folder
from zoo.releases.published import read_role
from zoo.releases.release import Assignment, Index

SLOW_S = 1.0  # a group that took longer waits until the quick ones have been decided and signed
ROUND_S = 60.0  # for the slow groups of a round
MAX_PROBLEMS = 20  # that are told in words

log = logging.getLogger("zooselect.serve")

Tasks = Callable[[Index, GroupDemand], Sequence[TaskWorth]]
Sign = Callable[[Sequence[Assignment], Sequence[str]], object]


class Turns:
    """Whose turn it is: no group makes others wait.

    Groups that were decided quickly the last time come first in every round, then new ones. The slow ones of
    a round share a time that does not depend on their number; those that it does not suffice for are the
    first slow ones of the next round.

    Parameters
    ----------
    slow_s
        From this time on a group is slow.
    round_s
        For the slow groups of one round; at least one has its turn.
    """

    def __init__(self, *, slow_s: float = SLOW_S, round_s: float = ROUND_S) -> None:
        self._slow_s, self._round_s = slow_s, round_s
        self._took: dict[str, float] = {}  # group → seconds of its last turn; whose turn is longest ago first

    def take(self, groups: Collection[str]) -> Iterator[tuple[str, bool]]:
        """The groups of a round, and whether each is slow; a turn lasts until the next one is asked for."""
        known = {name: took for name, took in self._took.items() if name in groups}
        self._took = known | dict.fromkeys(sorted(set(groups) - set(known)), 0.0)
        slow_s = 0.0
        for name, took in sorted(self._took.items(), key=lambda one: one[1] > self._slow_s):
            slow = took > self._slow_s
            if slow and slow_s > self._round_s:
                return
            start = time.perf_counter()
            yield name, slow
            seconds = time.perf_counter() - start
            slow_s += seconds if slow else 0.0
            del self._took[name]
            self._took[name] = seconds


def assign_groups(
    root: str | Path,
    tally: Tally,
    tasks: Tasks,
    *,
    sign: Sign | None,
    settings: str | Path,
    lately_s: float,
    tokens: Callable[[], Collection[Token]] | None = None,
    turns: Turns | None = None,
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
    tokens
        Reads those that are valid; reports that came with others do not count. None: all reports count.
    turns
        Of a service, from one round to the next; None: all groups are decided, however long it takes.

    Raises
    ------
    ZooError
        When the publisher, the tokens or the settings cannot be read.
    ServiceError
        When a group cannot be decided or its assignment cannot be signed; the other groups have been then.
    """
    index = index_from_folder(root)
    groups = read_groups(settings)
    valid = None if tokens is None else tokens()
    since = time.time() - lately_s
    fixed = {name for name, rule in groups.groups.items() if rule.models is not None or not rule.assigned}
    turns = turns or Turns(round_s=float("inf"))
    signing = _Batch(sign)
    decisions: list[Decision] = []
    problems: list[str] = []
    for name, slow in turns.take({*tally.groups, *fixed}):
        if slow or signing.waits_s() > SLOW_S:
            problems += signing.sign()
        try:
            demand = tally.demand(name, since=since, published=index, tokens=valid)
            decided = decide(demand, tasks(index, demand), index, groups.rule(name))
        except Exception as error:  # whatever is wrong with one group must not stop the others
            problems.append(f"group {name}: {error}")
        else:
            decisions.append(decided)
            signing.add(decided)
    problems += signing.sign()
    if problems:
        more = f" {len(problems) - MAX_PROBLEMS} more groups failed." if len(problems) > MAX_PROBLEMS else ""
        told = " ".join(problems[:MAX_PROBLEMS])
        raise ServiceError(f"{told}{more} The other groups have been decided.")
    return sorted(decisions, key=lambda one: one.group)


class _Batch:
    """Decisions that have changed something and wait to be signed together."""

    def __init__(self, sign: Sign | None) -> None:
        self._sign = sign
        self._waiting: list[Decision] = []
        self._since = 0.0

    def add(self, decision: Decision) -> None:
        if decision.changed and self._sign is not None:
            self._since = self._since if self._waiting else time.perf_counter()
            self._waiting.append(decision)

    def waits_s(self) -> float:
        return time.perf_counter() - self._since if self._waiting else 0.0

    def sign(self) -> list[str]:
        """Sign what waits; what is wrong with a group is returned, and the others are signed without it."""
        batch, self._waiting = self._waiting, []
        try:
            self._publish(batch)
        except PublishError as error:  # such as a model that was removed meanwhile
            if len(batch) == 1:
                return [str(error)]
            problems = []
            for one in batch:
                self._waiting = [one]
                problems += self.sign()
            return problems
        except ZooError as error:
            return [f"groups {', '.join(one.group for one in batch[:MAX_PROBLEMS])}: {error}"]
        return []

    def _publish(self, batch: Sequence[Decision]) -> None:
        if not batch or self._sign is None:
            return
        self._sign(
            [one.assignment for one in batch if one.assignment is not None],
            [one.group for one in batch if one.assignment is None],
        )
        for one in batch:
            held = ", ".join(one.assignment.models) if one.assignment else "nothing assigned"
            log.info("group %s: %s; %s", one.group, held, one.reason)


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
