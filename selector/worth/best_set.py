"""Which models are worth their bytes: the set of a byte budget that gains most, over one task or several."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from zoo.errors import ModelNotFoundError
from zoo.releases.release import Index
from zoo.types import Name, NonNegative

MAX_EXHAUSTIVE_MODELS = 12  # up to so many models and so many tasks, every set is tried
MAX_EXHAUSTIVE_TASKS = 4

Gain = Annotated[float, Meta(ge=0, le=1e9)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Way(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A way of answering that needs some models."""

    models: Annotated[tuple[Name, ...], Meta(min_length=1)]
    gain: Gain  # of an answer, in what it serves
    unserved: Share = 0.0  # share of the answers that it cannot serve; the best single model gives them


class TaskWorth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the models of one bundle gain. A device follows the first way whose models are all installed."""

    name: Name  # of the bundle
    ways: tuple[Way, ...]
    singles: dict[Name, Gain]  # best first: what an answer of a model on its own gains where no way serves it
    answers: Annotated[float, Meta(gt=0)] = 1.0  # weight among the tasks: how often it is asked

    def gain(self, models: Iterable[str]) -> float:
        """What an answer gains with these models, on average."""
        held = set(models)
        single = next((gain for name, gain in self.singles.items() if name in held), 0.0)
        way = next((way for way in self.ways if held.issuperset(way.models)), None)
        return single if way is None else way.gain + way.unserved * single

    @property
    def models(self) -> tuple[str, ...]:
        """All models that are of any use."""
        named = itertools.chain(*(way.models for way in self.ways), self.singles)
        return tuple(dict.fromkeys(named))


class Worth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The models that are worth their bytes."""

    models: tuple[str, ...]
    bundles: tuple[str, ...]
    size_bytes: NonNegative  # of all their blobs, each once
    missing_bytes: NonNegative  # of these, what is not held yet
    gain: float  # sum over the tasks, answers times gain of an answer; the price of bytes is taken off
    bound: float  # no other set within the budget gains more than this
    exact: bool  # whether no other set can be better

    @property
    def gain_per_mb(self) -> float:
        """Gain for each million bytes that are held."""
        return self.gain / (self.size_bytes / 1e6) if self.size_bytes else 0.0


def worth(
    tasks: Sequence[TaskWorth],
    index: Index,
    *,
    budget_bytes: int,
    held: Mapping[str, int] | None = None,
    price_per_mb: float = 0.0,
    most_models: int = MAX_EXHAUSTIVE_MODELS,
) -> Worth:
    """Choose models within a byte budget, so that answers gain most.

    A task needs its bundle's files as soon as it has a model. Blobs that several models share count once. Of
    sets that gain the same, the one with fewer bytes to fetch wins, then the one with fewer bytes, then the
    first in alphabetical order.

    Parameters
    ----------
    tasks
        Of different names, each a bundle in `index`. Models that `index` lacks are left out.
    budget_bytes
        Storage for all blobs.
    held
        Digest → bytes of what is on the device.
    price_per_mb
        How much each million bytes to fetch have to gain, for them to be worth it.
    most_models
        Up to so many models, all sets are tried. With more, sets grow by the way that gains most a byte, and
        `bound` says what is possible at most.

    Raises
    ------
    ModelNotFoundError
        When `index` lacks a task's bundle.
    """
    choice = _Choice(tasks, index, budget_bytes, held or {}, price_per_mb)
    if len(choice.models) <= most_models and len(tasks) <= MAX_EXHAUSTIVE_TASKS:
        best = min(filter(choice.fits, range(1 << len(choice.items))), key=choice.rank, default=0)
        bound = choice.gain(best)
    else:
        best = choice.grown()
        bound = max(choice.bound(), choice.gain(best))
    return Worth(
        models=tuple(name for i, name in enumerate(choice.models) if best >> i & 1),
        bundles=choice.bundles(best),
        size_bytes=choice.size(best),
        missing_bytes=choice.missing(best),
        gain=choice.gain(best),
        bound=bound,
        exact=choice.gain(best) == bound,
    )


class _Choice:
    """Sets of models and bundles as bits of one number; the models come first."""

    def __init__(
        self,
        tasks: Sequence[TaskWorth],
        index: Index,
        budget_bytes: int,
        held: Mapping[str, int],
        price_per_mb: float,
    ) -> None:
        for task in tasks:
            if task.name not in index.bundles:
                raise ModelNotFoundError(
                    f"expected the bundle {task.name!r} among those that are published, got: "
                    f"{', '.join(sorted(index.bundles)) or 'none'}."
                )
        self.models = sorted({name for task in tasks for name in task.models if name in index.models})
        self.items = [index.models[name].blobs for name in self.models]
        self.items += [index.bundles[task.name].blobs for task in tasks]
        self._tasks = [_Bits(task, self.models, 1 << len(self.models) + i) for i, task in enumerate(tasks)]
        self._names = [task.name for task in tasks]
        self._budget = budget_bytes
        self._price = price_per_mb / 1e6
        owners: dict[str, int] = {}
        sizes: dict[str, int] = {}
        for i, blobs in enumerate(self.items):
            for digest, size in blobs.items():
                owners[digest] = owners.get(digest, 0) | 1 << i
                sizes[digest] = size
        self._all: dict[int, int] = {}  # set of items → bytes that exactly these share
        self._missing: dict[int, int] = {}
        for digest, shared_by in owners.items():
            self._all[shared_by] = self._all.get(shared_by, 0) + sizes[digest]
            if digest not in held:
                self._missing[shared_by] = self._missing.get(shared_by, 0) + sizes[digest]

        self._users = [  # item → which tasks know it
            [k for k, task in enumerate(self._tasks) if task.known >> i & 1] for i in range(len(self.items))
        ]
        # item → what of its bytes exactly which items share
        self._all_of: list[dict[int, int]] = [
            {one: size for one, size in self._all.items() if one >> i & 1} for i in range(len(self.items))
        ]
        self._missing_of: list[dict[int, int]] = [
            {one: size for one, size in self._missing.items() if one >> i & 1} for i in range(len(self.items))
        ]

    def size(self, chosen: int) -> int:
        return sum(size for shared_by, size in self._all.items() if shared_by & chosen)

    def missing(self, chosen: int) -> int:
        return sum(size for shared_by, size in self._missing.items() if shared_by & chosen)

    def fits(self, chosen: int) -> bool:
        return self.size(chosen) <= self._budget

    def gain(self, chosen: int) -> float:
        earned = sum(task.gain(chosen) for task in self._tasks)
        return round(earned - self._price * self.missing(chosen), 12)  # sums in another order are equal

    def _seen(self, step: int) -> tuple[list[int], int]:
        """Which tasks know something of a step, and all items that its gain and its bytes depend on."""
        users: set[int] = set()
        near, left = step, step
        while left:
            last = left.bit_length() - 1
            users.update(self._users[last])
            for shared_by in self._all_of[last]:
                near |= shared_by
            left ^= 1 << last
        for i in users:
            near |= self._tasks[i].known
        return sorted(users), near

    def _added(self, sizes: Sequence[Mapping[int, int]], both: int, chosen: int) -> int:
        """Bytes of `both` that are not of `chosen`, a part of it."""
        new = both & ~chosen
        parts: dict[int, int] = {}
        while new:
            parts |= sizes[new.bit_length() - 1]
            new &= ~(1 << new.bit_length() - 1)
        return sum(size for shared_by, size in parts.items() if not shared_by & chosen)

    def rank(self, chosen: int) -> tuple[float, int, int, list[str]]:
        names = [name for i, name in enumerate(self.models) if chosen >> i & 1]
        return (-self.gain(chosen), self.missing(chosen), self.size(chosen), [*names, *self.bundles(chosen)])

    def bundles(self, chosen: int) -> tuple[str, ...]:
        chosen >>= len(self.models)
        return tuple(sorted(name for i, name in enumerate(self._names) if chosen >> i & 1))

    def grown(self) -> int:
        """A good set: again and again the step that gains most a byte, or the best single step.

        A step brings what serves one task well, for this task or for all that can use it.
        """
        every = sum(task.bundle for task in self._tasks)
        steps = sorted({step for task in self._tasks for step in task.steps()})
        alone, beside = _Steps(self, steps), _Steps(self, steps)
        chosen, single = 0, 0
        while True:
            gain, size = self.gain(chosen), self.size(chosen)
            offers = list(alone.offers(chosen))
            if chosen | every != chosen:
                offers += beside.offers(chosen | every)
            fitting = [offer for offer in offers if offer[2] <= self._budget and offer[3] != chosen]
            if not chosen and fitting:
                first = min(offer[:3] for offer in fitting)
                single = min((offer[3] for offer in fitting if offer[:3] == first), key=self.rank)
            paying = [
                ((gain + minus) / max(total - size, 1), total - size, both)
                for minus, _, total, both in fitting
                if -minus > gain
            ]
            if not paying:
                break
            chosen = min(paying)[2]
        best = min((chosen, single), key=self.rank) if single else chosen
        for i in range(len(self.items)):  # what a later step made useless goes
            if best >> i & 1:
                best = min(best, best & ~(1 << i), key=self.rank)
        return best

    def bound(self) -> float:
        """As if every task had the whole budget for itself, and bytes had no price."""
        most = (max(map(task.gain, filter(self.fits, task.steps())), default=0.0) for task in self._tasks)
        return round(sum(most), 12)


class _Steps:
    """Steps from one set after another. Only what has changed near a step is worked out again."""

    def __init__(self, choice: _Choice, steps: Sequence[int]) -> None:
        self._choice = choice
        self._steps = [(step, *choice._seen(step)) for step in steps]
        self._known: dict[int, tuple[int, int, int, list[tuple[int, float]]]] = {}

    def offers(self, chosen: int) -> Iterator[tuple[float, int, int, int]]:
        """The set itself, then with each step that changes a gain.

        Of each: its gain with a minus, what is missing of it, its bytes, and the set.
        """
        choice = self._choice
        size, missing = choice.size(chosen), choice.missing(chosen)
        gains = [task.gain(chosen) for task in choice._tasks]
        yield -choice.gain(chosen), missing, size, chosen
        for step, users, near in self._steps:
            known = self._known.get(step)
            if known is None or known[0] != chosen & near:
                both = chosen | step
                after = ((i, choice._tasks[i].gain(both)) for i in users)
                known = self._known[step] = (
                    chosen & near,
                    choice._added(choice._all_of, both, chosen),
                    choice._added(choice._missing_of, both, chosen),
                    [(i, value) for i, value in after if value != gains[i]],
                )
            if not known[3]:  # more bytes and no more gain
                continue
            changed = gains.copy()
            for i, value in known[3]:
                changed[i] = value
            lacking = missing + known[2]
            gain = round(sum(changed) - choice._price * lacking, 12)
            yield -gain, lacking, size + known[1], chosen | step


class _Bits:
    """A task whose models are bits."""

    def __init__(self, task: TaskWorth, models: Sequence[str], bundle: int) -> None:
        bit = {name: 1 << i for i, name in enumerate(models)}
        self.bundle = bundle
        self._answers = task.answers
        self._singles = [(bit[name], gain) for name, gain in task.singles.items() if name in bit]
        self._ways = [
            (sum(bit[name] for name in set(way.models)), way.gain, way.unserved)
            for way in task.ways
            if all(name in bit for name in way.models)
        ]

        self.known = bundle | sum({bit[name] for name in task.models if name in bit})

    def gain(self, chosen: int) -> float:
        if not chosen & self.bundle:
            return 0.0
        single = next((gain for bit, gain in self._singles if bit & chosen), 0.0)
        for needed, gain, unserved in self._ways:
            if needed & chosen == needed:
                return self._answers * (gain + unserved * single)
        return self._answers * single

    def steps(self) -> list[int]:
        """The sets that may serve the task best: a way, a single model, or both."""
        singles = [0, *(bit for bit, _ in self._singles)]
        ways = [0, *(needed for needed, _, _ in self._ways)]
        return [self.bundle | needed | bit for needed in ways for bit in singles if needed | bit]
