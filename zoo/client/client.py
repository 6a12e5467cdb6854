"""The client of a device: what is published, what it takes to have it, and having it.

An installation goes in this order, so that at any time the device answers with a complete, verified set:
refresh, plan, make room, fetch what is missing, test the new models, replace the installed record (the only
commit point), clean up. Others may remove or pin something while the network is waited for; then it is
decided anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from threading import Event

from zoo.client.change import Change, Freshness, Progress
from zoo.client.fetch import Fetcher
from zoo.client.rejected import REJECTED_FILE, Rejected
from zoo.client.room import Room
from zoo.client.selftest import Trials
from zoo.client.trust import Refreshed, Trust
from zoo.client.wanted import Wanted, to_begin, usable, with_pins, with_releases, without
from zoo.closing import Closing
from zoo.errors import (
    BudgetError,
    FetchError,
    SelfTestError,
    StoreFullError,
    StoreLockedError,
    ZooError,
)
from zoo.releases.release import Index
from zoo.store.store import Store

MAX_DECISIONS = 5  # of one installation, while others change what is installed
Decide = Callable[[Index, Collection[str]], Wanted]  # from what may be wanted, and names of what may not


class _ChangedError(Exception):
    """Somebody else has changed what is installed."""


class _FailedError(Exception):
    """Releases cannot be had, by their names; the rest has to be planned anew."""


class Client(Closing):
    """Keeps a store in line with what a publisher offers.

    Parameters
    ----------
    store
        Where blobs and the installed record are kept; its byte budget is obeyed.
    url
        Root of the published files.
    group
        Of devices that a server controls together; whose assignment :meth:`follow` follows.
    workers
        Blobs that are fetched at a time.
    timeout_s
        Longest wait for a connection, then for the headers of an answer, then for the next bytes; see
        :class:`zoo.client.wire.Wire`.

    Raises
    ------
    TrustError
        When the store was not given a publisher's root; see :meth:`zoo.client.trust.Trust.pin`.
    MissingExtraError
        When ``tuf`` or ``urllib3`` is not installed.

    Examples
    --------
    >>> from zoo.client.client import Client
    >>> with Client(store, url) as client:
    ...     published = sorted(client.refresh().index.models)
    >>> published
    ['full', 'small', 'tiny']
    """

    def __init__(
        self, store: Store, url: str, *, group: str | None = None, workers: int = 8, timeout_s: float = 10.0
    ) -> None:
        self.store = store
        self.group = group
        self.index: Index | None = None
        self.freshness = Freshness(True, "not looked yet", None)
        self._trust = Trust(store.folder / "tuf", url, timeout_s=timeout_s)
        self.fetcher = Fetcher(url, workers=workers, timeout_s=timeout_s)
        self._room = Room(store)
        self._lost_records: Mapping[str, ZooError] = {}  # releases whose record the publisher did not have
        self._rejected = Rejected(store.folder / REJECTED_FILE)

    @property
    def assigned(self) -> bool:
        """Whether there was an assignment for the group when the publisher was looked at last."""
        return self.index is not None and self.group in self.index.assignments

    def refresh(self, *, cancel: Event | None = None) -> Refreshed:
        """Look at what is published, until `cancel` is set; raises TrustError or UnreachableError.

        Examples
        --------
        >>> refreshed = client.refresh()
        >>> sorted(refreshed.index.bundles)
        ['colours']
        """
        return self._refresh(cancel)

    def _refresh(self, cancel: Event | None, news: Callable[[], None] | None = None) -> Refreshed:
        look = partial(self._trust.refresh, self.group, cancel=cancel, news=news)
        try:
            with self.store.fetching():
                refreshed = self.store.keep(look)
        except ZooError as error:
            self.freshness = replace(self.freshness, stale=True, reason=str(error))
            raise
        self.index, self._lost_records = refreshed.index, refreshed.lost
        self.freshness = Freshness(False, None, time.time())
        return refreshed

    def usable(self) -> Index | None:
        """What was published when the publisher was looked at last, without what failed on this device.

        Examples
        --------
        >>> refreshed = client.refresh()
        >>> sorted(client.usable().models)
        ['full', 'small', 'tiny']
        """
        return None if self.index is None else self._usable(self.index, {})[0]

    def install(
        self,
        *,
        models: Collection[str] = (),
        bundles: Collection[str] = (),
        start: bool = True,
        progress: Progress | None = None,
        cancel: Event | None = None,
    ) -> Change:
        """Install the newest version of models and bundles.

        A bundle of which no model is wanted or installed brings the most accurate of its models that fits,
        unless `start` is False.

        Raises
        ------
        ModelNotFoundError, BundleError
            When something is not published.
        BudgetError
            When the byte budget does not allow it; nothing was fetched.
        TrustError, UnreachableError, FetchError
            When the publisher is not to be trusted or cannot be reached.
        SelfTestError, ModelError, FetchError
            When something of what is named does not answer on this device as it must, or needs a model that
            does not; everything else is installed then.
        StoreFullError, StoreLockedError
            When the disk is full or another process is at work.

        Examples
        --------
        >>> client.install(models=["tiny"]).installed
        ('tiny',)
        """

        def wanted(index: Index, left_out: Collection[str]) -> Wanted:
            return to_begin(
                index,
                self.store.installed,
                models=[name for name in models if name not in left_out],
                bundles=[name for name in bundles if name not in left_out],
                start=start,
                budget_bytes=self.store.budget_bytes,
            )

        there = {release.name for release in self.store.installed.releases}
        named = {*models, *bundles}
        return self._bring(wanted, progress, cancel, named=named, news=not there >= named)

    def update(self, *, progress: Progress | None = None, cancel: Event | None = None) -> Change:
        """Bring everything that is installed to its newest version; raises like :meth:`install`.

        What cannot be had stays as it is, with what needs it, and stands in the result: a model that does not
        answer on this device as it must, a release of which the publisher has lost the record or a blob, one
        that does not fit into the budget or on the disk. Only where nothing else is new it is raised.

        Examples
        --------
        >>> client.update().nothing  # all is of the newest version
        True
        """
        return self._bring(lambda index, _: self._room.newest(index), progress, cancel)

    def follow(self, *, progress: Progress | None = None, cancel: Event | None = None) -> Change:
        """Do what the group's signed assignment says; without a group or an assignment, :meth:`update`.

        Where budget or disk does not allow all assigned models, each is taken, in their order, that fits
        beside those before it; the others stand in the result under ``no_room``. Raises like :meth:`update`.

        Examples
        --------
        >>> client.follow().no_room
        {}
        """

        def wanted(index: Index, _: Collection[str]) -> Wanted:
            assignment = index.assignments.get(self.group or "")
            if assignment is None:
                return self._room.newest(index)
            return self._room.first_that_fit(assignment, index)

        return self._bring(wanted, progress, cancel)

    def remove(self, names: Collection[str]) -> Change:
        """Take models and bundles off the device, and all bytes that nothing else needs.

        Examples
        --------
        >>> client.remove(["colours"]).removed
        ('colours',)
        """
        start = time.perf_counter()
        with self.store.lock():
            installed = self.store.installed
            there = {release.name for release in installed.releases}
            gone = tuple(name for name in names if name in there)
            self.store.commit(without(installed, gone))
            self.store.collect(known=installed.blobs)
        return Change((), gone, (), 0, 0, time.perf_counter() - start)

    def pin(self, names: Collection[str], *, pinned: bool = True) -> None:
        """Keep models and bundles from being evicted, or let them be evicted again.

        Raises
        ------
        ModelNotFoundError
            When one of them is not installed; nothing is changed then.

        Examples
        --------
        >>> client.pin(["colours"])
        >>> client.store.installed.bundles[0].pinned
        True
        """
        with self.store.lock():
            installed = self.store.installed
            self.store.commit(with_pins(installed, names, pinned=pinned))

    def close(self) -> None:
        """Close the connections.

        Examples
        --------
        >>> client.close()  # at the end of a ``with`` this happens by itself
        """
        self.fetcher.close()

    def _bring(
        self,
        decide: Decide,
        progress: Progress | None,
        cancel: Event | None,
        *,
        named: Collection[str] = (),
        news: bool = False,
    ) -> Change:
        """Install what is decided, from an index without what was left out, whose names are given as well.

        To leave out what is `named` is an error; `news`: most likely a new model will have to be tested.
        """
        start, changes = time.perf_counter(), 0  # of others
        evicted: list[str] = []
        failed: dict[str, ZooError] = {}
        self._room.on_disk = False
        with self.store.fetching(), Trials(self.store.folder) as trials:
            if news:
                trials.prepare()  # loads ONNX Runtime while the publisher is asked
            refreshed = self._refresh(cancel, trials.prepare)
            before = self.store.installed
            wire = self.fetcher.wire
            wire_before, requests_before = wire.bytes_on_wire, wire.requests
            while True:
                index, left_out = self._usable(refreshed.index, failed)
                wanted = decide(index, left_out)
                try:
                    steps = self._room.steps(wanted, index)
                except (BudgetError, StoreFullError) as error:
                    if named or self.assigned:
                        raise
                    failed |= self._room.too_large(error, partial(self._decided, decide), failed)
                    continue
                try:
                    for step in steps:
                        self._step(step, index, trials, evicted, failed, progress, cancel)
                    break
                except _FailedError as error:
                    failed |= error.args[0]
                except StoreFullError:
                    if named or self._room.on_disk:
                        raise
                    self._room.on_disk = True
                except _ChangedError as error:
                    changes += 1
                    if changes == MAX_DECISIONS:
                        raise StoreLockedError(
                            f"expected to install into {self.store.folder}, got: others changed what is "
                            f"installed {MAX_DECISIONS} times meanwhile. Try again when they have finished."
                        ) from error
            after = self.store.installed
        for name in left_out.keys() & {*named}:
            raise failed.get(name) or refreshed.lost.get(name) or SelfTestError(left_out[name])
        versions = {release.name: release for release in before.releases}
        return Change(
            installed=tuple(one.name for one in after.releases if versions.get(one.name) != one),
            removed=tuple(name for name in wanted.dropped if name in versions),
            evicted=tuple(dict.fromkeys(evicted)),
            bytes_on_wire=refreshed.bytes_on_wire + wire.bytes_on_wire - wire_before,
            requests=refreshed.requests + wire.requests - requests_before,
            seconds=time.perf_counter() - start,
            left_out=left_out,
            no_room=dict(wanted.no_room),
        )

    def _decided(self, decide: Decide, failed: Mapping[str, ZooError]) -> tuple[Wanted, Index]:
        """What is wanted without what has failed, and of which index."""
        assert self.index is not None
        index, left_out = self._usable(self.index, failed)
        return decide(index, left_out), index

    def _usable(self, index: Index, failed: Mapping[str, ZooError]) -> tuple[Index, dict[str, str]]:
        """The index without what fails here, now or lately, and why each of these is left out."""
        before = self._rejected.among(index, self.store.installed)
        lost = {name: str(why) for name, why in self._lost_records.items()}
        now = {name: str(why) for name, why in failed.items()}
        return usable(index, self.store.installed, before | now, lost=lost)

    def _step(
        self,
        wanted: Wanted,
        index: Index,
        trials: Trials,
        evicted: list[str],
        failed: Mapping[str, ZooError],
        progress: Progress | None,
        cancel: Event | None,
    ) -> None:
        """Make room, fetch, test and commit; notes what was `evicted`.

        Raises :class:`_ChangedError` or :class:`_FailedError` when it is to be decided anew.
        """
        with self.store.lock():
            needed, first = self._room.room(wanted, index)
            before = self.store.installed
            tested = {item.release.card.sha256 for item in before.models}
            new = [
                index.models[name] for name in wanted.models if index.models[name].card.sha256 not in tested
            ]
            self.store.collect(keep=needed.missing)  # also what an installation that was given up has left
            self._room.check_disk(needed, first)  # before anything goes
            if first:
                self.store.commit(without(before, first))
                self.store.collect(keep=needed.missing)
            evicted += needed.evict
            now = self.store.installed
        after = without(with_releases(now, wanted, index), wanted.dropped)
        missing = self.store.missing(after.blobs)  # also what was lost or damaged since it was installed
        self.store.check_room(missing)
        if new:
            trials.prepare()
        try:
            given_up = {error.blob for error in failed.values() if isinstance(error, FetchError)}
            self.fetcher.bring(
                missing, self.store, whole=new, given_up=given_up, progress=progress, cancel=cancel
            )
        except FetchError as error:
            lost = {one.name: error for one in after.releases if error.blob in one.blobs}
            others = [one for one in after.releases if one not in now.releases and one.name not in lost]
            if error.lost and others:
                raise _FailedError(lost) from error
            raise
        except StoreFullError:  # somebody else has filled it: a part of a model is of no use to anybody
            self.store.make_room()
            raise
        try:
            tests = ((release.name, self._rejected.test(release, self.store, trials)) for release in new)
            failed_now = {name: error for name, error in tests if error is not None}
        except ZooError as error:
            if self.store.installed != now:  # a blob that the model needs may have been removed
                raise _ChangedError from error
            raise
        with self.store.lock():
            if self.store.installed != now:
                raise _ChangedError
            if after != now and not failed_now:
                self.store.commit(after)
            self.store.collect()
        if failed_now:
            raise _FailedError(failed_now)
