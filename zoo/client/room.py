"""Room: whether what a device should hold fits into its store, and in which steps it gets there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import msgspec

from zoo.client.plan import Plan, plan
from zoo.client.wanted import Wanted, bridges, to_follow, to_install, to_update, unserved, without
from zoo.errors import BudgetError, StoreFullError, ZooError
from zoo.releases.release import Assignment, Index
from zoo.store.store import Store


class Room:
    """The room of a store: its byte budget, and what is in it at the moment.

    Attributes
    ----------
    on_disk
        Whether the disk counts as well as the budget: it was too full for something.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.on_disk = False

    def newest(self, index: Index) -> Wanted:
        """The newest versions of what is installed."""
        return to_update(index, self._store.installed, budget_bytes=self._store.budget_bytes)

    def plan(self, wanted: Wanted, index: Index) -> Plan:
        """What it takes to have what is wanted."""
        return plan(
            wanted.models,
            index,
            without(self._store.installed, wanted.dropped),
            bundles=wanted.bundles,
            budget_bytes=self._store.budget_bytes,
            rate_bytes_per_s=self._store.rate_bytes_per_s,
            usage=self._store.usage(),
        )

    def fits(self, wanted: Wanted, index: Index) -> bool:
        """Whether what is wanted can be had, with an answer for every task meanwhile."""
        try:
            self.steps(wanted, index)
        except (BudgetError, StoreFullError):
            return False
        return True

    def first_that_fit(self, assignment: Assignment, index: Index) -> Wanted:
        """Of what is assigned, the models that fit, taken one after the other; all where none does."""
        chosen = to_follow(assignment, index, self._store.installed)
        for fits in (lambda *one: self.plan(*one).fits, self.fits):  # a later model may be the bridge
            found = self._greedy(assignment, chosen, index, fits)
            if found.models and self.fits(found, index):
                return found
        return chosen

    def _greedy(
        self, assignment: Assignment, chosen: Wanted, index: Index, fits: Callable[[Wanted, Index], bool]
    ) -> Wanted:
        found, no_room = replace(chosen, models=()), {}
        for name in chosen.models:
            models = (*found.models, name)
            part = to_follow(msgspec.structs.replace(assignment, models=models), index, self._store.installed)
            # what is assigned stays as long as there is room, also in an older version
            part = replace(part, dropped=tuple(one for one in chosen.dropped if one in part.dropped))
            if fits(part, index):
                found = part
            else:
                no_room[name] = (
                    f"model {name!r} version {index.models[name].version} is assigned, and does not fit "
                    f"{self._budget()} beside what comes before it."
                )
        return replace(found, no_room=no_room)

    def too_large(
        self,
        error: BudgetError | StoreFullError,
        decide: Callable[[Mapping[str, ZooError]], tuple[Wanted, Index]],
        failed: Mapping[str, ZooError],
    ) -> dict[str, ZooError]:
        """The fewest large releases, by name, without which an update fits.

        Parameters
        ----------
        error
            Why all of it does not fit; raised where nothing new is left.
        decide
            What is wanted, of which index, when some releases are left out.
        failed
            What is left out already.
        """
        sizes: dict[str, int] = {}
        out: dict[str, ZooError] = {}
        while not self.fits(*decide({**failed, **out})):
            wanted, index = decide({**failed, **out})
            items = self.plan(wanted, index).items
            new = [item for item in items if not item.installed and item.name not in out]
            if not new:
                raise error
            largest = max(new, key=lambda item: (item.missing_bytes, item.name))
            sizes[largest.name] = largest.missing_bytes
            out[largest.name] = type(error)(
                f"{largest.kind} {largest.name!r} version {largest.version} does not fit "
                f"{self._budget()} beside what is installed until it is in use. It was left out; "
                f"{'free some space' if self.on_disk else 'raise the budget'}, or unpin or remove something."
            )
        for name in sorted(out, key=lambda one: (sizes[one], one)):  # it may have been another that was large
            fewer = {other: why for other, why in out.items() if other != name}
            if self.fits(*decide({**failed, **fewer})):
                out = fewer
        if all(item.installed for item in self.plan(*decide({**failed, **out})).items):
            raise error
        return out

    def _budget(self) -> str:
        budget = self._store.budget_bytes
        places = [] if budget is None and self.on_disk else [f"into the budget of {budget or 0:,} bytes"]
        return " or ".join([*places, f"on the disk of {self._store.folder}"] if self.on_disk else places)

    def steps(self, wanted: Wanted, index: Index) -> list[Wanted]:
        """One step, or two where a task would have no model while its new ones are fetched."""
        needed, first = self.room(wanted, index)
        if self.on_disk:
            self.check_disk(needed, first)
        lonely = unserved(self._store.installed, first)
        if not lonely:
            return [wanted]
        for name, bundle in bridges(wanted, index, self._store.installed, lonely):
            bundles = (bundle,) if bundle in wanted.bundles else ()
            bridge = to_install(index, self._store.installed, models=(name,), bundles=bundles)
            found = self.plan(bridge, index)
            if found.fits and not unserved(self._store.installed, found.evict):
                return [bridge, wanted]
        raise BudgetError(
            f"expected room for one of {', '.join(wanted.models)} beside what answers for "
            f"{', '.join(lonely)} now, got {self._store.budget_bytes or 0:,} bytes. Nothing was fetched; "
            "raise the budget, or remove what is installed to let the device be without an answer."
        )

    def check_disk(self, needed: Plan, first: Collection[str]) -> None:
        """Raise :class:`StoreFullError` when the disk has no room for a plan once the `first` have gone."""
        before = self._store.installed.blobs
        rest = without(self._store.installed, first).blobs
        going = sum(size for digest, size in before.items() if digest not in rest)
        self._store.check_disk(needed.missing, freed_bytes=going)

    def room(self, wanted: Wanted, index: Index) -> tuple[Plan, tuple[str, ...]]:
        """The plan, and the models that have to go before anything can come."""
        needed = self.plan(replace(wanted, dropped=()), index)
        dropped: tuple[str, ...] = ()
        if needed.evict or not needed.fits:
            needed, dropped = self.plan(wanted, index), wanted.dropped
        if not needed.fits:
            raise BudgetError(
                f"expected a budget of at least {needed.peak_bytes:,} bytes for "
                f"{', '.join((*wanted.bundles, *wanted.models))}, got {needed.budget_bytes or 0:,}. "
                "Nothing was fetched; raise the budget, unpin or remove something, or want less."
            )
        return needed, (*needed.evict, *dropped)
