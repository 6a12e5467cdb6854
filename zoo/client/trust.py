"""What a publisher says, believed only as far as The Update Framework lets it be.

The framework (TUF specification 1.0) protects against forged, mixed, replayed and withheld metadata; here its
reference client is used, with our records as its targets and nothing else. A device starts with a root that
it was given, for example with the application.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from zoo.client.wire import LATER_ADVICE, LEAST_BYTES_PER_S, TIMEOUT_S, Answer, Broken, Patience, Wire
from zoo.errors import MissingExtraError, TrustError, UnreachableError, ZooError
from zoo.extras import install_command
from zoo.files import open_file, write_atomic
from zoo.releases.published import MAX_METADATA_BYTES, MAX_RECORD_BYTES, MAX_RECORDS, index_of
from zoo.releases.release import Index
from zoo.store.notes import remove_folder

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile
    from tuf.ngclient import FetcherInterface, Updater

ROOT_FILE = "first-root.json"  # what the device was given; never replaced
PARALLEL_RECORDS = 8  # records that are fetched at a time
LOOK_DEADLINE_S = 300.0  # what arrived until then is kept, and not asked for again
LOST = (404, 410)  # statuses of what is not there
MAX_EARLY_BYTES = 2**18  # of the timestamp; the framework takes less
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
    lost: Mapping[str, ZooError] = field(
        default_factory=dict
    )  # published, not in the index: its record is lost


class Trust:
    """Verified knowledge of what a publisher offers, kept in a folder of the device.

    Parameters
    ----------
    folder
        Trusted metadata; written by this class only.
    url
        Root of the published files, ``http`` or ``https``: signatures are trusted, not the connection.
    timeout_s
        Longest wait for a connection, then for the headers of an answer, then for the next bytes; see
        :class:`zoo.client.wire.Wire`.

    Raises
    ------
    TrustError
        When the folder has no root yet; see :meth:`pin`.
    MissingExtraError
        When ``tuf`` or ``urllib3`` is not installed.
    ZooError
        When `url` is no address.
    """

    def __init__(self, folder: str | Path, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.folder = Path(folder)
        self.url = url.rstrip("/")
        if not (self.folder / ROOT_FILE).exists():
            raise TrustError(
                f"expected the publisher's root in {self.folder}, got none. Give the device "
                "metadata/1.root.json of the publisher once, over a way that you trust."
            )
        try:
            import tuf.ngclient  # noqa: F401
        except ImportError as error:
            raise MissingExtraError(
                f"fetching models needs python-tuf: {install_command('fetch')}"
            ) from error
        self.wire = Wire(url, timeout_s=timeout_s, kept=PARALLEL_RECORDS)

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
        if path.exists() and _first_root(path) != root:
            raise TrustError(
                f"this device trusts another publisher already ({path}). Start a new store for this one."
            )
        write_atomic(path, root)

    def refresh(
        self,
        group: str | None = None,
        *,
        deadline_s: float | None = LOOK_DEADLINE_S,
        cancel: Event | None = None,
        news: Callable[[], None] | None = None,
    ) -> Refreshed:
        """Ask the publisher what is new; with a `group`, also for its assignment.

        Parameters
        ----------
        deadline_s
            Longest time of all requests together; None: no limit.
        cancel
            Ends them when it is set.
        news
            Called as soon as it shows that something was published since the last look, some requests before
            it is known what.

        Raises
        ------
        TrustError
            When what is published is not signed as it must be, is older than what was seen before, does not
            fit together, or has expired.
        CardError, SchemaVersionError
            When a record does not validate, or is of a newer zooselect.
        UnreachableError
            When the publisher cannot be reached, answers with something else, or takes too long.
        """
        start, requests, wire = time.perf_counter(), self.wire.requests, self.wire.bytes_on_wire
        self.wire.patience = Patience(deadline_s, cancel)
        try:
            with self._verified(news) as updater:
                index, lost = self._index(updater, group)
        finally:
            self.wire.close()  # until the next look, nobody is to keep a connection for this device
        seconds = time.perf_counter() - start
        return Refreshed(index, self.wire.requests - requests, self.wire.bytes_on_wire - wire, seconds, lost)

    @contextmanager
    def _verified(self, news: Callable[[], None] | None = None) -> Iterator[Updater]:
        """The framework after it has verified what is new; what goes wrong, then too, is said as ours."""
        from tuf.api.exceptions import DownloadError, ExpiredMetadataError, RepositoryError

        try:
            with ThreadPoolExecutor(1, "early") as early:
                try:
                    updater = self._updater(early, news)
                    updater.refresh()
                except BaseException:
                    self.wire.patience.stop("what it was asked for is not needed")
                    raise
            yield updater
        except ExpiredMetadataError as error:
            raise TrustError(f"what {self.url} offers has expired: {error}. {CLOCK_ADVICE}") from error
        except DownloadError as error:
            reason, advice = _reason(error)
            raise UnreachableError(
                f"expected the published metadata at {self.url}/metadata/, got: {reason}. {advice}"
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

    def _updater(self, early: Executor, news: Callable[[], None] | None) -> Updater:
        from tuf.ngclient import Updater, UpdaterConfig

        targets = self.folder / "targets"
        self._heal(targets)
        targets.mkdir(parents=True, exist_ok=True)
        return Updater(
            str(self.folder),
            f"{self.url}/metadata/",
            str(targets),
            f"{self.url}/targets/",
            fetcher=_fetcher(self.wire, early, f"{self.url}/metadata/timestamp.json", news),
            config=UpdaterConfig(max_root_rotations=64, max_delegations=4),
            bootstrap=_first_root(self.folder / ROOT_FILE),
        )

    def _heal(self, targets: Path) -> None:
        """Remove what is in the place of metadata and records and cannot be any; they are fetched again."""
        for path in (targets, self.folder / "root_history"):
            if not path.is_dir():  # also a link to nothing
                path.unlink(missing_ok=True)
        for path in (*self.folder.glob("*.json"), *targets.glob("*")):
            if path.name != ROOT_FILE:
                remove_folder(path)

    def _index(self, updater: Updater, group: str | None) -> tuple[Index, dict[str, ZooError]]:
        """What is published, and of what the publisher has lost the record, with the reason."""
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
        found = ((path, files[path]) for path in sorted(known))
        index = index_of((path, file.read_bytes()) for path, file in found if file is not None)
        self._forget({*files})
        lost: dict[str, ZooError] = {
            Path(path).stem: UnreachableError(
                f"expected the record {path} of {self.url}, got: it is signed, and not there. It was "
                "left out; what is installed of it goes on answering. Tell the publisher."
            )
            for path in sorted(known)
            if files[path] is None
        }
        return index, lost

    def _files(self, updater: Updater, targets: Sequence[TargetFile]) -> dict[str, Path | None]:
        """Verified files of some targets, by their paths; those that are not here yet come in parallel.

        None where the publisher has lost the record of a model or a bundle: the others go on without it.
        """
        from tuf.api.exceptions import DownloadHTTPError

        def fetched(target: TargetFile) -> Path | None:
            try:
                return Path(updater.download_target(target))
            except DownloadHTTPError as error:
                if error.status_code not in LOST or target.path.startswith("assignments/"):
                    raise
                return None

        for target in targets:
            if target.length > MAX_RECORD_BYTES:
                raise TrustError(
                    f"{target.path}: expected at most {MAX_RECORD_BYTES:,} bytes, got {target.length:,}. "
                    "Nothing was changed; tell the publisher."
                )
        here = {target.path: updater.find_cached_target(target) for target in targets}
        files = {path: None if file is None else Path(file) for path, file in here.items()}
        missing = [target for target in targets if here[target.path] is None]
        if not missing:
            return files
        patience = self.wire.patience
        patience.least_bytes_per_s = LEAST_BYTES_PER_S / PARALLEL_RECORDS
        with ThreadPoolExecutor(PARALLEL_RECORDS, "records") as threads:
            try:
                came = threads.map(fetched, missing)
                return files | {target.path: path for target, path in zip(missing, came, strict=True)}
            except BaseException:
                patience.stop("another record failed")
                raise

    def _forget(self, known: set[str]) -> None:
        from urllib.parse import quote

        kept = {quote(path, "") for path in known}
        for path in (self.folder / "targets").iterdir():
            if path.name not in kept and not path.name.startswith("assignments"):
                path.unlink(missing_ok=True)


def _first_root(path: Path) -> bytes:
    """The root that a device was given; it is never replaced without a word."""
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata, Root

    try:
        with open_file(path) as stream:
            content = stream.read(MAX_METADATA_BYTES)
        Metadata[Root].from_bytes(content)
    except (OSError, RepositoryError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else f"something else: {error}"
        raise TrustError(
            f"expected the publisher's root that this device was given in {path}, got {why}. It is never "
            "replaced by itself: move what is there away, and give the device metadata/1.root.json of the "
            "publisher again ('zooselect device init'), over a way that you trust."
        ) from error
    return content


def _fetcher(
    wire: Wire, early: Executor, timestamp: str, news: Callable[[], None] | None
) -> FetcherInterface:
    """The framework's way to the wire.

    The framework asks for a newer root, then for the timestamp. Mostly there is no newer root, so both are
    asked for in one round trip; after a newer root, the timestamp is asked for again. What comes is verified
    in the order of the framework.
    """
    from tuf.api.exceptions import DownloadError, DownloadHTTPError
    from tuf.ngclient import FetcherInterface

    class Fetcher(FetcherInterface):
        begun: Future[list[bytes]] | None = None

        def _fetch(self, url: str) -> Iterator[bytes]:
            if url == timestamp and self.begun is not None:
                return iter(self.begun.result())
            # a snapshot is asked for when the timestamp names another one
            if news is not None and url.endswith("snapshot.json"):
                news()
            if self.begun is None and url != timestamp:
                self.begun = early.submit(lambda: list(body(timestamp, MAX_EARLY_BYTES)))
            chunks = body(url)
            if url.endswith(".root.json"):
                self.begun = None
            return chunks

    def body(url: str, most_bytes: int | None = None) -> Iterator[bytes]:
        answer = _asked(wire, url)
        if answer.status != 200:
            with answer:
                reason = f"status {answer.status} {answer.reason}".strip()
            raise DownloadHTTPError(reason, answer.status)
        return chunks(answer, most_bytes)

    def chunks(answer: Answer, most_bytes: int | None) -> Iterator[bytes]:
        try:
            with answer:
                yield from answer.chunks(most_bytes)
        except Broken as error:
            raise DownloadError(error.reason) from error

    return Fetcher()


def _asked(wire: Wire, url: str) -> Answer:
    """The answer; asked for twice where the first request met a connection that had ended."""
    try:
        return wire.get(url)
    except Broken as error:
        if not error.ended:
            raise
    return wire.get(url)


def _reason(error: BaseException) -> tuple[str, str]:
    """What the wire said and what to do, or the innermost message: the framework wraps both."""
    while error.__cause__ is not None and not isinstance(error, Broken):
        error = error.__cause__
    advice = error.advice if isinstance(error, Broken) else LATER_ADVICE
    return str(error) or type(error).__name__, advice
