"""The store of a device: verified blobs in a flat folder, and the record of what is installed.

::

    blobs/<sha256>    only verified files, read-only, never changed in place: ONNX Runtime maps them to memory
    partial/<sha256>  downloads under way
    corrupt/          what a check found damaged, until the next clean-up
    installed.json    the only commit point
    usage.json        last use of every model, last rate of the network; may be lost
    reserve           room for the record and other small files on a disk that is full
    lock              who changes what is installed holds this for a moment; readers need not
    fetch-lock        who asks the publisher or brings blobs holds this, as long as the network takes

Nothing that is installed is ever overwritten: a change is a new record, then the removal of the blobs that no
record names any more. POSIX systems keep a removed file as long as a session has it mapped.

Reading needs neither the lock nor the right to write. On a full disk, whoever has to write something small
removes downloads under way and the reserve first, so that removing a model always works.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from zoo.errors import (
    DigestError,
    ModelError,
    ModelNotFoundError,
    StoreLockedError,
    ZooError,
)
from zoo.files import atomic_path, encode_record
from zoo.models.limits import RunLimits
from zoo.models.model import Model
from zoo.releases.release import ModelRelease, fill
from zoo.store.blobs import writing
from zoo.store.externals import external_locations
from zoo.store.installed import (
    INSTALLED_FILE,
    SCHEMA_VERSION,
    Installed,
    InstalledBundle,
    InstalledModel,
    read_installed,
)
from zoo.store.reserve import make_reserve, reserved
from zoo.store.space import Space
from zoo.store.usage import USAGE_FILE, Usage

__all__ = ["INSTALLED_FILE", "Installed", "InstalledBundle", "InstalledModel", "Store"]

_State = tuple[int, int, int]


class Store(Space):
    """The models and bundles of a device; see :meth:`open`.

    Attributes
    ----------
    budget_bytes
        Most that may be stored, downloads under way included; None: as much as there is room for.
    unwritable
        Why the store could not be changed when it was opened; None where it can be. Answers need no more than
        reading, but last uses, for one, are lost at the end.

    Examples
    --------
    >>> from zoo.store.store import Store
    >>> store = Store.open("my-device")
    >>> [item.release.name for item in store.installed.bundles]
    ['colours']
    """

    def __init__(self, folder: Path, budget_bytes: int | None) -> None:
        super().__init__(folder, budget_bytes)
        self.unwritable: ZooError | None = None
        self._usage = Usage(folder / USAGE_FILE)
        self._read: tuple[_State | None, Installed] | None = None
        self._checked: set[tuple[str, ...]] = set()  # graphs with their weights that read nothing else

    @classmethod
    def open(cls, folder: str | Path, *, budget_bytes: int | None = None) -> Store:
        """Open the store in `folder`, or start an empty one; what a crash left half-written is removed.

        One that is there opens on a read-only disk, too, and without the right to write; see `unwritable`.

        Raises
        ------
        CardError, SchemaVersionError
            When the installed record is damaged or of a newer zooselect.
        ZooError
            When there is no such folder and it cannot be made, or every user may write there.

        Examples
        --------
        >>> Store.open("my-device", budget_bytes=20_000_000).budget_bytes
        20000000
        """
        store = cls(Path(folder), budget_bytes)
        try:
            with suppress(StoreLockedError), store.lock(timeout_s=0), writing(store.folder):
                store._sweep()  # else whoever changes it sweeps
        except ZooError as error:
            store.unwritable = error
        _ = store.installed  # a damaged record shows now
        return store

    @property
    def installed(self) -> Installed:
        """What is installed now, whichever process installed it; raises like :meth:`open`."""
        state = self._state()
        held = self._read
        if held is None or held[0] != state:
            held = self._read = (state, read_installed(self.folder, there=state is not None))
        return held[1]

    def lost(self) -> dict[str, int]:
        """Blobs (digest → bytes) that are installed but no longer there; fetching them mends the store.

        Examples
        --------
        >>> store.lost()
        {}
        """
        return self.missing(self.installed.blobs)

    def commit(self, installed: Installed) -> None:
        """Make `installed` what is installed, all at once; takes the lock.

        Raises
        ------
        DigestError
            When a blob of something new is not there.
        ModelError
            When a new graph wants to read other files than its weights; what is installed need not be looked
            through again when it is opened.
        StoreFullError
            When the disk is full; what was installed before still is.

        Examples
        --------
        >>> from msgspec.structs import replace
        >>> store.commit(replace(store.installed, bundles=()))  # no bundle is installed any more
        >>> store.installed.bundles
        ()
        """
        with self.lock():
            before = self.installed.releases
            for release in installed.releases:
                # what was there before may have lost a blob, and must not keep the rest from being changed
                if release not in before:
                    self._complete(release.name, release.blobs)
                    if isinstance(release, ModelRelease):
                        self.graph(release)
            self.keep(lambda: self._write(installed))
            self._read = (self._state(), installed)
            self._usage.flush()

    def collect(self, keep: Collection[str] = (), *, known: Collection[str] = ()) -> int:
        """Remove what no installed model or bundle needs, and return the bytes freed; takes the lock.

        While another thread or process fetches, only those of the `known` blobs go: it needs the others, and
        removes in the end what is left.

        Parameters
        ----------
        keep
            Digests of blobs that are about to be installed; they and their downloads stay.
        known
            Digests of blobs that were installed until now.

        Examples
        --------
        >>> store.collect()  # bytes freed; all is needed
        0
        """
        with self.lock(), writing(self.folder):
            try:
                with self.fetching(timeout_s=0):
                    self._sweep()
                    return self.remove_others({*self.installed.blobs, *keep}, {*self.lost(), *keep})
            except StoreLockedError:
                return self.remove({*known} - {*self.installed.blobs, *keep})

    def verify(self) -> tuple[str, ...]:
        """Read all blobs again, move the damaged ones away and return their digests; takes the lock for that.

        Raises
        ------
        DigestError
            When there are some and they cannot be moved.

        Examples
        --------
        >>> store.verify()  # digests of damaged files
        ()
        """
        damaged = self.damaged()
        if damaged:
            try:
                with self.lock(), writing(self.folder):
                    self.take_out(damaged)
            except ZooError as error:
                raise DigestError(
                    f"{len(damaged)} blobs are damaged: {', '.join(damaged)}. They could not be taken out "
                    f"of use: {error}"
                ) from error
        return damaged

    def touch(self, name: str) -> None:
        """Model `name` was used just now. Cheap, and written to disk once a minute at most.

        Examples
        --------
        >>> store.touch("tiny")
        """
        self._usage.touch(name)

    def usage(self) -> Mapping[str, float]:
        """Model → seconds since 1970 of its last use.

        Examples
        --------
        >>> store.touch("tiny")
        >>> "tiny" in store.usage()
        True
        """
        return self._usage.last_used()

    @property
    def rate_bytes_per_s(self) -> float | None:
        """How fast blobs came the last time; None: none came yet."""
        return self._usage.rate_bytes_per_s()

    def measured(self, rate_bytes_per_s: float) -> None:
        """Blobs came with this rate just now.

        Examples
        --------
        >>> store.measured(2e6)
        >>> store.rate_bytes_per_s
        2000000.0
        """
        self._usage.measured(rate_bytes_per_s)

    def graph(self, release: ModelRelease) -> bytes:
        """The ONNX graph of a model whose blobs are there, to be opened over :attr:`blobs`.

        Raises
        ------
        DigestError
            When a blob is missing or the graph is not the release's.
        ModelError
            When the graph wants to read other files than the release's weights.

        Examples
        --------
        >>> release = store.installed.models[0].release
        >>> len(store.graph(release)) > 100
        True
        """
        graph = self._filled(release)
        key = (release.graph.sha256, *(blob.sha256 for blob in release.weights))
        if key not in self._checked:
            others = external_locations(graph) - set(key[1:])
            if others:
                raise ModelError(
                    f"model {release.name!r}: expected a graph that reads its own weights, got one that "
                    f"wants {min(others)[:100]!r}. Do not install it; tell its publisher."
                )
            self._checked.add(key)
        return graph

    def model(self, name: str, *, threads: int = 1, limits: RunLimits | None = None) -> Model:
        """Open an installed model.

        Raises
        ------
        ModelNotFoundError
            When it is not installed.
        DigestError, ModelError
            When a blob is missing or damaged, or ONNX Runtime cannot open the graph.

        Examples
        --------
        >>> name = store.installed.models[0].release.name
        >>> store.model(name).logits(image[np.newaxis]).shape
        (1, 3)
        """
        while True:
            state = self._state()
            release = self._release(name)
            try:
                # Answers wait while a graph is looked through: that was done before it was committed.
                content = self._filled(release)
                model = Model(release.card, content, threads=threads, weights=self.blobs, limits=limits)
            except ZooError:
                if self._state() == state:  # nobody evicted it meanwhile, and perhaps installed it again
                    raise
            else:
                self.touch(name)
                return model

    def _filled(self, release: ModelRelease) -> bytes:
        """The graph over the store's blobs, which are there; one that reads other files if not installed."""
        graph = fill(self.read(release.graph), release)
        self._complete(release.name, release.blobs)
        return graph

    def _release(self, name: str) -> ModelRelease:
        releases = {item.release.name: item.release for item in self.installed.models}
        if name not in releases:
            raise ModelNotFoundError(
                f"no model {name!r} is installed in {self.folder}. "
                f"Installed: {', '.join(sorted(releases)) or 'nothing yet'}."
            )
        return releases[name]

    def _complete(self, name: str, blobs: Mapping[str, int]) -> None:
        absent = self.missing(blobs)
        if absent:
            raise DigestError(
                f"{name!r}: expected {len(blobs)} blobs in {self.blobs}, got {len(absent)} fewer, such as "
                f"{next(iter(absent))[:16]}…. Fetch what is missing."
            )

    def _state(self) -> _State | None:
        try:
            found = (self.folder / INSTALLED_FILE).stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _write(self, installed: Installed) -> None:
        with writing(self.folder):
            self.sync()
            with atomic_path(self.folder / INSTALLED_FILE) as temporary:
                current = msgspec.structs.replace(installed, schema_version=SCHEMA_VERSION)
                temporary.write_bytes(encode_record(current))

    def _sweep(self) -> None:
        """Remove temporary files and downloads of blobs that are there; mend the reserve."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)
        for path in self._files("partial"):
            if self.has(path.name):
                path.unlink(missing_ok=True)
        if not reserved(self.folder):
            make_reserve(self.folder)
