"""Fetching blobs from a publisher: in parallel, over connections that are kept open, largest first."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event

from zoo.client.transfer import Traffic, Transfer
from zoo.client.whole_model import WholeTransfer
from zoo.client.wire import LEAST_BYTES_PER_S, TIMEOUT_S, Patience, Wire
from zoo.errors import FetchError, ZooError
from zoo.releases.release import Blob, ModelRelease
from zoo.store.store import Store

MAX_WORKERS = 16
PROGRESS_INTERVAL_S = 0.1  # how often progress is told
MIN_RATE_SAMPLE_BYTES = 256 * 1024  # below, a rate is that of the round trips


@dataclass(frozen=True)
class Fetched:
    """What a download took."""

    bytes_on_wire: int  # of blobs, thrown away ones included; headers are not counted
    seconds: float
    requests: int
    resumed_bytes: int  # of earlier downloads, which did not have to move again


class Fetcher:
    """Brings blobs from a publisher into a store.

    Parameters
    ----------
    base_url
        Root of the published files. With plain ``http``, others can see which blobs are fetched, but not
        change them unnoticed: what counts are the digests, and these come from signed metadata.
    workers
        Blobs that are fetched at a time, at most 16.
    timeout_s
        Longest wait for a connection, then for the headers of an answer, then for the next bytes.
    tries
        How often one blob is tried without progress.
    pause_s
        Time before the second try; four times as long before each next one.
    least_bytes_per_s
        A transfer is cut and tried again when it brings less for `timeout_s` seconds; the workers share it.
    deadline_s
        Longest time of one call of :meth:`fetch`; None: no limit.
    headers
        Sent with every request, such as ``Authorization``; never to another host.

    Raises
    ------
    MissingExtraError
        When ``urllib3`` is not installed.
    ZooError
        When an argument makes no sense.
    """

    def __init__(
        self,
        base_url: str,
        *,
        workers: int = 8,
        timeout_s: float = TIMEOUT_S,
        tries: int = 4,
        pause_s: float = 0.2,
        least_bytes_per_s: float = LEAST_BYTES_PER_S,
        deadline_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not 1 <= workers <= MAX_WORKERS:
            raise ZooError(f"expected 1 to {MAX_WORKERS} workers, got {workers}.")
        if tries < 1:
            raise ZooError(f"expected at least 1 try, got tries={tries}.")
        self.workers, self.tries, self.pause_s = workers, tries, pause_s
        self.least_bytes_per_s, self.deadline_s = least_bytes_per_s, deadline_s
        self.wire = Wire(base_url, timeout_s=timeout_s, kept=workers, headers=headers)
        self._lost: set[str] = set()  # digests that the publisher did not have lately

    def fetch(
        self,
        blobs: Mapping[str, int],
        store: Store,
        *,
        whole: Sequence[ModelRelease] = (),
        progress: Callable[[int, int], None] | None = None,
        cancel: Event | None = None,
    ) -> Fetched:
        """Bring those of the `blobs` (digest → bytes) that the store does not have.

        What is installed can be changed meanwhile; nobody else can fetch into the store.

        Blobs that arrived stay, also when another one fails, and half of one is gone on with the next time.

        Parameters
        ----------
        whole
            Models to fetch in one request each, where the store has no part of them.
        progress
            Called now and then, in this thread, with the bytes that are there and the bytes in all.
        cancel
            Stops the download when it is set.

        Raises
        ------
        FetchError
            When a blob does not arrive, or `cancel` was set.
        BudgetError
            When the store's budget does not allow it; nothing was fetched.
        StoreFullError, StoreLockedError
            When the disk is full, or another process fetches into the store.
        """
        begin = time.perf_counter()
        with store.fetching():
            missing = store.missing(blobs)
            store.check_room(missing)
            least = self.least_bytes_per_s / min(self.workers, max(len(missing), 1))
            self.wire.patience = Patience(self.deadline_s, cancel, least)
            there = {digest: store.partial_bytes(digest) for digest in missing}
            traffic = Traffic(self.wire, self.tries, self.pause_s, there)
            total, requests = sum(missing.values()), self.wire.requests
            at_once: list[Transfer] = [
                WholeTransfer(release, store, traffic)
                for release in whole
                if release.whole is not None
                and release.blobs.items() <= missing.items()
                and not any(traffic.there[digest] for digest in release.blobs)
            ]
            try:
                if at_once:
                    self._run(at_once, traffic, total, progress)
                    missing = store.missing(missing)
                largest_first = sorted(missing.items(), key=lambda item: (-item[1], item[0]))
                singly = [
                    Transfer(Blob(sha256=digest, size_bytes=size), store, traffic)
                    for digest, size in largest_first
                ]
                if singly or not at_once:
                    self._run(singly, traffic, total, progress)
            finally:
                seconds = time.perf_counter() - begin
                if traffic.bytes_on_wire >= MIN_RATE_SAMPLE_BYTES:
                    store.measured(traffic.bytes_on_wire / seconds)
        requests = self.wire.requests - requests
        return Fetched(traffic.bytes_on_wire, seconds, requests, sum(traffic.kept.values()))

    def bring(
        self,
        blobs: Mapping[str, int],
        store: Store,
        *,
        whole: Sequence[ModelRelease] = (),
        given_up: Collection[str] = (),
        progress: Callable[[int, int], None] | None = None,
        cancel: Event | None = None,
    ) -> None:
        """:meth:`fetch` without what was `given_up`; first what the publisher did not have lately."""
        rest = {digest: size for digest, size in blobs.items() if digest not in given_up}
        first = {digest: size for digest, size in rest.items() if digest in self._lost}
        try:
            for some, models in ((first, ()), (rest, whole)):
                if some or models:
                    self.fetch(some, store, whole=models, progress=progress, cancel=cancel)
        except FetchError as error:
            self._lost = {*self._lost, error.blob} if error.lost else self._lost
            raise
        self._lost -= first.keys()

    def close(self) -> None:
        """Close the connections."""
        self.wire.close()

    def _run(
        self,
        transfers: Iterable[Transfer],
        traffic: Traffic,
        total: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        with ThreadPoolExecutor(self.workers, thread_name_prefix="fetch") as threads:
            left: set[Future[None]] = {threads.submit(transfer.run) for transfer in transfers}
            try:
                while left:
                    done, left = wait(left, PROGRESS_INTERVAL_S, FIRST_EXCEPTION)
                    if progress is not None:
                        progress(sum(traffic.there.values()), total)
                    for future in done:
                        future.result()
            except BaseException:
                self.wire.patience.stop("another blob failed")
                raise
