"""The space of a store: who may change it now, what its budget and its disk have room for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from zoo.errors import BudgetError, StoreFullError, ZooError
from zoo.lock import FolderLock
from zoo.store.blobs import Blobs, is_full, writing
from zoo.store.notes import write_note
from zoo.store.reserve import BLOCK_BYTES, RESERVE_BYTES, free_bytes, give_up_reserve, reserved

LOCK_TIMEOUT_S = 10.0
T = TypeVar("T")


class Space(Blobs):
    """Blobs that two locks, a byte budget and the disk's room protect.

    Attributes
    ----------
    budget_bytes
        Most that may be stored, downloads under way included; None: as much as there is room for.
    """

    def __init__(self, folder: Path, budget_bytes: int | None) -> None:
        super().__init__(folder)
        self.budget_bytes = budget_bytes
        self._lock = FolderLock(folder / "lock")
        self._fetch_lock = FolderLock(folder / "fetch-lock")

    def lock(self, timeout_s: float = LOCK_TIMEOUT_S) -> AbstractContextManager[None]:
        """The right to change what is installed, for a ``with``; the same thread may take it again inside.

        Nobody holds it while the network or a new model is waited for.

        Raises
        ------
        StoreLockedError
            When another thread or process holds it for longer than `timeout_s`.

        Examples
        --------
        >>> with store.lock():  # nobody else changes it meanwhile
        ...     used = store.used_bytes()
        >>> used > 0
        True
        """
        return self._lock.hold(timeout_s)

    def fetching(self, timeout_s: float = LOCK_TIMEOUT_S) -> AbstractContextManager[None]:
        """The right to ask the publisher and to bring blobs, for a ``with``; otherwise as :meth:`lock`.

        It is held as long as the network takes; others may remove and pin meanwhile. Whoever needs both
        rights takes this one first.

        Examples
        --------
        >>> with store.fetching():  # nobody else asks the publisher meanwhile
        ...     lost = store.lost()
        >>> lost
        {}
        """
        return self._fetch_lock.hold(timeout_s)

    def check_room(self, missing: Mapping[str, int]) -> None:
        """Raise :class:`BudgetError` when the budget does not allow the `missing` blobs (digest → bytes).

        Raises like :meth:`check_disk`, too.

        Examples
        --------
        >>> store.check_room(store.lost())  # nothing is missing
        """
        begun = sum(map(self.partial_bytes, missing))
        need = self.used_bytes() - begun + sum(missing.values())
        if self.budget_bytes is not None and need > self.budget_bytes:
            raise BudgetError(
                f"expected at most {self.budget_bytes:,} bytes in {self.folder}, got {need:,} with what is "
                f"missing. Nothing was fetched; allow {need:,} bytes, remove a model, or want less."
            )
        self.check_disk(missing)

    def check_disk(self, missing: Mapping[str, int], *, freed_bytes: int = 0) -> None:
        """Whether the disk has room for the `missing` blobs (digest → bytes) when `freed_bytes` have gone.

        Raises
        ------
        StoreFullError
            When it has none for them and a reserve; downloads under way are given up then.

        Examples
        --------
        >>> store.check_disk({"0" * 64: 1000})  # there is room for 1,000 bytes
        """
        if missing and (free := free_bytes(self.folder)) is not None:
            blocks = sum(-(-(size - self.partial_bytes(one)) // BLOCK_BYTES) for one, size in missing.items())
            need = blocks * BLOCK_BYTES + (0 if reserved(self.folder) else RESERVE_BYTES)
            if need > free + freed_bytes:
                self.make_room()
                raise StoreFullError(
                    f"expected {need:,} bytes of room on the disk of {self.folder}, got {free:,}. Nothing "
                    "was fetched; free some space or remove a model, then try again."
                )

    def keep(self, write: Callable[[], T]) -> T:
        """Have something small written: on a full disk with the reserve, and without downloads under way.

        Where another thread or process is at work in the store, its downloads stay. Raises what `write` does.

        Examples
        --------
        >>> store.keep(lambda: (store.folder / "name").write_text("kitchen"))
        7
        """
        try:
            return write()
        except (OSError, ZooError) as error:
            if not is_full(error):
                raise
            self.make_room()
            give_up_reserve(self.folder)
            return write()

    def note(self, name: str, note: msgspec.Struct) -> None:
        """Replace a note in the store's folder; raises ZooError where that is not possible.

        Examples
        --------
        >>> import msgspec
        >>> class Place(msgspec.Struct):
        ...     room: str
        >>> store.note("place.json", Place("kitchen"))
        """

        def write() -> None:
            with writing(self.folder):
                write_note(self.folder / name, note)

        self.keep(write)

    def make_room(self) -> None:
        """Remove downloads under way, which hold space of a full disk, unless somebody is at work here.

        Examples
        --------
        >>> store.make_room()
        """
        with suppress(ZooError), self.fetching(timeout_s=0), writing(self.folder):
            self.remove_downloads()
