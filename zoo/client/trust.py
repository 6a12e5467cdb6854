"""What a publisher says, believed only as far as The Update Framework lets it be.

The framework (TUF specification 1.0) protects against forged, mixed, replayed and withheld metadata; here its
reference client is used, with our records as its targets and nothing else. A device starts with a root that
it was given, for example with the application.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import MissingExtraError, TrustError, UnreachableError, ZooError
from zoo.files import write_atomic
from zoo.releases.published import MAX_RECORD_BYTES, MAX_RECORDS, index_of
from zoo.releases.release import Index

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile
    from tuf.ngclient import Updater

ROOT_FILE = "first-root.json"  # what the device was given; never replaced
PARALLEL_RECORDS = 8  # records that are fetched at a time
CLOCK_ADVICE = (
    "Check the clock of this device and the connection; if both are right, the publisher has to sign again."
)


@dataclass(frozen=True)
class Refreshed:
    """What one look at the publisher brought."""

    index: Index
    requests: int
    bytes_on_wire: int
    seconds: float


class Trust:
    """Verified knowledge of what a publisher offers, kept in a folder of the device.

    Parameters
    ----------
    folder
        Trusted metadata; written by this class only.
    url
        Root of the published files, ``http`` or ``https``: signatures are trusted, not the connection.
    timeout_s
        Longest wait for a connection or for the next bytes.

    Raises
    ------
    TrustError
        When the folder has no root yet; see :meth:`pin`.
    MissingExtraError
        When ``tuf`` is not installed.
    """

    def __init__(self, folder: str | Path, url: str, *, timeout_s: float = 10.0) -> None:
        self.folder = Path(folder)
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        if not (self.folder / ROOT_FILE).is_file():
            raise TrustError(
                f"expected the publisher's root in {self.folder}, got none. Give the device "
                "metadata/1.root.json of the publisher once, over a way that you trust."
            )
        try:
            import tuf.ngclient  # noqa: F401
        except ImportError as error:
            raise MissingExtraError(
                "fetching models needs python-tuf: pip install 'zooselect[fetch]'"
            ) from error

    @staticmethod
    def pin(folder: str | Path, root: bytes) -> None:
        """Give a device the root that it is to trust, once and for all.

        Raises
        ------
        TrustError
            When `root` is not TUF root metadata signed by its own keys, or the device trusts another one.
        """
        from tuf.api.exceptions import RepositoryError
        from tuf.api.metadata import Metadata, Root

        try:
            metadata = Metadata[Root].from_bytes(root)
            metadata.signed.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
        except (RepositoryError, ValueError, AttributeError) as error:
            raise TrustError(
                f"expected root metadata of a publisher, got something else: {error}. "
                "Use the file metadata/1.root.json that 'zooselect publish' wrote."
            ) from error
        path = Path(folder) / ROOT_FILE
        if path.is_file() and path.read_bytes() != root:
            raise TrustError(
                f"this device trusts another publisher already ({path}). Start a new store for this one."
            )
        write_atomic(path, root)

    def refresh(self, group: str | None = None) -> Refreshed:
        """Ask the publisher what is new; with a `group`, also for its assignment.

        Raises
        ------
        TrustError
            When what is published is not signed as it must be, is older than what was seen before, does not
            fit together, or has expired.
        CardError, SchemaVersionError
            When a record does not validate, or is of a newer zooselect.
        UnreachableError
            When the publisher cannot be reached or answers with something else.
        """
        start = time.perf_counter()
        wire = _Wire(self.timeout_s)
        with self._verified(wire) as updater:
            index = self._index(updater, group)
        return Refreshed(index, wire.requests, wire.bytes_on_wire, time.perf_counter() - start)

    @contextmanager
    def _verified(self, wire: _Wire) -> Iterator[Updater]:
        """The framework after it has verified what is new; what goes wrong, then too, is said as ours."""
        from tuf.api.exceptions import DownloadError, ExpiredMetadataError, RepositoryError

        try:
            updater = self._updater(wire)
            updater.refresh()
            yield updater
        except ExpiredMetadataError as error:
            raise TrustError(f"what {self.url} offers has expired: {error}. {CLOCK_ADVICE}") from error
        except DownloadError as error:
            raise UnreachableError(
                f"expected the published metadata at {self.url}/metadata/, got: {_reason(error)}. "
                "What is installed goes on answering."
            ) from error
        except RepositoryError as error:
            raise TrustError(
                f"what {self.url} offers is not to be trusted: {error}. Nothing was changed; "
                "tell the publisher, or check that this is the right address."
            ) from error
        except OSError as error:
            raise ZooError(
                f"cannot keep the metadata in {self.folder}: {error.strerror or error}. "
                "Free some space or check the permissions."
            ) from error

    def _updater(self, wire: _Wire) -> Updater:
        from tuf.ngclient import Updater, UpdaterConfig

        targets = self.folder / "targets"
        targets.mkdir(parents=True, exist_ok=True)
        return Updater(
            str(self.folder),
            f"{self.url}/metadata/",
            str(targets),
            f"{self.url}/targets/",
            fetcher=wire.fetcher,
            config=UpdaterConfig(max_root_rotations=64, max_delegations=4),
            bootstrap=(self.folder / ROOT_FILE).read_bytes(),
        )

    def _index(self, updater: Updater, group: str | None) -> Index:
        from tuf.api.metadata import Metadata, Targets

        # the updater has verified this file, or has just written it after verifying its content
        signed = Metadata[Targets].from_file(str(self.folder / "targets.json")).signed
        if len(signed.targets) > MAX_RECORDS:
            raise TrustError(f"expected at most {MAX_RECORDS:,} records, got {len(signed.targets):,}.")
        targets = list(signed.targets.values())
        assigned = None if group is None else updater.get_targetinfo(f"assignments/{group}.json")
        files = self._files(updater, targets if assigned is None else [*targets, assigned])
        known = {path for path in signed.targets if path.startswith(("models/", "bundles/"))}
        known |= set() if assigned is None else {assigned.path}
        index = index_of((path, files[path].read_bytes()) for path in sorted(known))
        self._forget({*files})
        return index

    def _files(self, updater: Updater, targets: Sequence[TargetFile]) -> dict[str, Path]:
        """Verified files of some targets, by their paths; those that are not here yet come in parallel."""

        def file(target: TargetFile) -> Path:
            if target.length > MAX_RECORD_BYTES:
                raise TrustError(
                    f"{target.path}: expected at most {MAX_RECORD_BYTES:,} bytes, got {target.length:,}. "
                    "Nothing was changed; tell the publisher."
                )
            return Path(updater.find_cached_target(target) or updater.download_target(target))

        with ThreadPoolExecutor(PARALLEL_RECORDS, "records") as threads:
            return {
                target.path: path for target, path in zip(targets, threads.map(file, targets), strict=True)
            }

    def _forget(self, known: set[str]) -> None:
        from urllib.parse import quote

        kept = {quote(path, "") for path in known}
        for path in (self.folder / "targets").iterdir():
            if path.name not in kept and not path.name.startswith("assignments"):
                path.unlink(missing_ok=True)


class _Wire:
    """A TUF fetcher that counts."""

    def __init__(self, timeout_s: float) -> None:
        from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

        wire = self

        class Counting(Urllib3Fetcher):
            def _fetch(self, url: str) -> Iterator[bytes]:
                with wire.counting:
                    wire.requests += 1
                return wire.count(super()._fetch(url))

        self.requests = 0
        self.bytes_on_wire = 0
        self.counting = threading.Lock()
        self.fetcher = Counting(socket_timeout=timeout_s, chunk_size=65536)  # type: ignore[arg-type]

    def count(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            with self.counting:
                self.bytes_on_wire += len(chunk)
            yield chunk


def _reason(error: BaseException) -> str:
    """The innermost message: the framework wraps what the network said."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
