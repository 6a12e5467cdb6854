"""Assignments: what the devices of a group are to hold, from what they were asked. Rules without IO."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import msgspec

from selector.fleet.groups import Rule
from selector.fleet.tally import GroupDemand
from selector.worth.best_set import TaskWorth, worth
from zoo.errors import ModelNotFoundError
from zoo.releases.release import SCHEMA_VERSION, Assignment, Index


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided for a group, and why."""

    group: str
    assignment: Assignment | None  # None: nothing is assigned, devices keep what they have
    changed: bool  # whether it has to be signed
    reason: str
    budget_bytes: int | None
    size_bytes: int = 0  # of all blobs, each once
    gain: float = 0.0  # of an answer on average, with it
    gain_before: float = 0.0


def decide(demand: GroupDemand, tasks: Sequence[TaskWorth], index: Index, rule: Rule) -> Decision:
    """Choose the models that gain most within the budget of a group.

    A change has to gain more than `rule` says and than what chance explains: the mean of n answers, each of
    which gains between 0 and 1 more or less, has a standard deviation of at most ``0.5 / sqrt(n)``. What is
    not published any more or has grown over the budget is changed at once.

    Parameters
    ----------
    demand
        Of the group, lately.
    tasks
        What the bundles gain, weighted by how often the group asks them.
    index
        What is published, with the assignment so far.

    Raises
    ------
    ModelNotFoundError
        When the operator fixed what is not published.
    """
    if not rule.assigned:
        return Decision(
            group=demand.group,
            assignment=None,
            changed=demand.group in index.assignments,
            reason="withdrawn by the operator",
            budget_bytes=None,
        )
    if rule.models is not None:
        return _fixed(demand.group, rule, index)
    group, answers = demand.group, demand.window
    budget = rule.budget_bytes if rule.budget_bytes is not None else demand.budget(rule.quantile)
    limit = sys.maxsize if budget is None else budget
    current = index.assignments.get(group)
    found = worth(tasks, index, budget_bytes=limit) if tasks else None
    before = _gain(tasks, current.models, current.bundles) if current else 0.0
    held = size_of(current.models, current.bundles, index) if current else 0
    kept = Decision(
        group=group,
        assignment=current,
        changed=False,
        reason="",
        budget_bytes=budget,
        size_bytes=held,
        gain=before,
        gain_before=before,
    )
    replace = msgspec.structs.replace
    if answers < rule.least_answers:
        reason = f"{answers} answers, {rule.least_answers} are needed to decide"
        if demand.withdrawn:
            reason += f"; {demand.withdrawn} devices do not count, their token is no longer valid"
        return replace(kept, reason=reason)
    if found is None or not found.models:
        return replace(kept, reason="no published model gains anything within the budget")
    models = by_importance(found.models, tasks, demand)
    bundles = tuple(sorted(found.bundles))
    gain = _gain(tasks, models, bundles)
    least = max(rule.least_gain, rule.deviations * 0.5 / math.sqrt(max(answers, 1)))
    if current is None:
        reason = "the first for this group"
    elif not published(current, index):
        reason = "something of the last one is not published any more"
    elif held > limit:
        reason = f"the last one takes {held:,} bytes, the budget is {limit:,}"
    elif gain - before > least:
        reason = f"an answer gains {gain - before:.3g} more, which is over {least:.3g}"
    else:
        return replace(
            kept, reason=f"another one would gain {gain - before:.3g}, at least {least:.3g} is asked"
        )
    made = _next(current, group, models, bundles)
    return replace(
        kept, assignment=made, changed=made != current, reason=reason, size_bytes=found.size_bytes, gain=gain
    )


def by_importance(
    models: Collection[str], tasks: Sequence[TaskWorth], demand: GroupDemand
) -> tuple[str, ...]:
    """Models so that the first ones gain most, whatever the number that a device can hold.

    Among equals the one that was missed most comes first.
    """
    missed: Counter[str] = Counter()
    for bundle in demand.bundles.values():
        missed.update(bundle.models)
    users = {name: [i for i, task in enumerate(tasks) if name in task.models] for name in models}
    ordered: list[str] = []
    left = set(models)

    def gain(name: str, before: Sequence[float]) -> float:
        after = [*before]
        for i in users[name]:
            after[i] = tasks[i].answers * tasks[i].gain([*ordered, name])
        return sum(after)

    while left:
        before = [task.answers * task.gain(ordered) for task in tasks]
        gains = {name: gain(name, before) for name in left}
        best = min(left, key=lambda name: (-gains[name], -missed[name], name))
        ordered.append(best)
        left.remove(best)
    return tuple(ordered)


def published(assignment: Assignment, index: Index) -> bool:
    """Whether everything that is assigned can be fetched."""
    return set(assignment.models) <= set(index.models) and set(assignment.bundles) <= set(index.bundles)


def size_of(models: Collection[str], bundles: Collection[str], index: Index) -> int:
    """Bytes of all blobs, each once; what is not published has none."""
    blobs: dict[str, int] = {}
    for names, releases in ((models, index.models), (bundles, index.bundles)):
        for name in names:
            if name in releases:
                blobs |= releases[name].blobs
    return sum(blobs.values())


def _fixed(group: str, rule: Rule, index: Index) -> Decision:
    models = rule.models or ()
    bundles = rule.bundles
    if bundles is None:
        bundles = tuple(sorted(n for n, one in index.bundles.items() if set(one.models) & set(models)))
    _check(models, index.models, "model")
    _check(bundles, index.bundles, "bundle")
    current = index.assignments.get(group)
    made = _next(current, group, models, bundles)
    return Decision(
        group=group,
        assignment=made,
        changed=made != current,
        reason="fixed by the operator",
        budget_bytes=rule.budget_bytes,
        size_bytes=size_of(models, bundles, index),
    )


def _check(names: Collection[str], there: Mapping[str, object], kind: str) -> None:
    for name in names:
        if name not in there:
            raise ModelNotFoundError(
                f"expected published {kind}s in groups.json, got {name!r}. "
                f"Published: {', '.join(sorted(there)) or 'none'}."
            )


def _next(
    current: Assignment | None, group: str, models: tuple[str, ...], bundles: tuple[str, ...]
) -> Assignment:
    if current is not None and (current.models, current.bundles) == (models, bundles):
        return current
    version = 1 if current is None else current.version + 1
    return Assignment(
        schema_version=SCHEMA_VERSION, version=version, group=group, bundles=bundles, models=models
    )


def _gain(tasks: Sequence[TaskWorth], models: Collection[str], bundles: Collection[str]) -> float:
    """Of an answer, on average over the tasks."""
    total = sum(task.answers for task in tasks)
    earned = sum(task.answers * task.gain(models) for task in tasks if task.name in bundles)
    return earned / total if total else 0.0
