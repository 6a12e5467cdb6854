"""Fetching blobs from a publisher: in parallel, over connections that are kept open, largest first."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from socket import SHUT_RDWR, socket
from threading import Event
from typing import TYPE_CHECKING, Any

from zoo.client.transfer import Traffic, Transfer
from zoo.client.whole_model import WholeTransfer
from zoo.errors import MissingExtraError, ZooError
from zoo.releases.release import Blob, ModelRelease
from zoo.store.store import Store

if TYPE_CHECKING:
    from urllib3 import HTTPConnectionPool

MAX_WORKERS = 16
PROGRESS_INTERVAL_S = 0.1  # how often progress is told and a stop is asked for
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
        Longest wait for a connection or the next bytes.
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
        timeout_s: float = 10.0,
        tries: int = 4,
        pause_s: float = 0.2,
        least_bytes_per_s: float = 1000.0,
        deadline_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not 1 <= workers <= MAX_WORKERS:
            raise ZooError(f"expected 1 to {MAX_WORKERS} workers, got {workers}.")
        if tries < 1 or not timeout_s > 0:
            raise ZooError(f"expected a try and a timeout, got tries={tries} and timeout_s={timeout_s}.")
        self.workers, self.timeout_s, self.tries = workers, timeout_s, tries
        self.pause_s, self.least_bytes_per_s = pause_s, least_bytes_per_s
        self.deadline_s = deadline_s
        self.headers = dict(headers or {})
        self._sockets: weakref.WeakSet[socket] = weakref.WeakSet()
        self._pool, self._folder = _pool(base_url, workers, timeout_s, self._sockets)

    def fetch(
        self,
        blobs: Mapping[str, int],
        store: Store,
        *,
        whole: Sequence[ModelRelease] = (),
        progress: Callable[[int, int], None] | None = None,
        cancel: Event | None = None,
    ) -> Fetched:
        """Bring those of the `blobs` (digest → bytes) that the store does not have; holds its lock.

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
            When the disk is full, or another process is at work in the store.
        """
        begin = time.perf_counter()
        with store.lock():
            missing = store.missing(blobs)
            store.check_room(missing)
            traffic = Traffic(
                folder=self._folder,
                tries=self.tries,
                pause_s=self.pause_s,
                window_s=self.timeout_s,
                least_bytes_per_s=self.least_bytes_per_s / min(self.workers, max(len(missing), 1)),
                headers=self.headers,
                there={digest: store.partial_bytes(digest) for digest in missing},
            )
            total = sum(missing.values())
            at_once: list[Transfer] = [
                WholeTransfer(release, store, self._pool, traffic)
                for release in whole
                if release.whole is not None
                and release.blobs.items() <= missing.items()
                and not any(traffic.there[digest] for digest in release.blobs)
            ]
            try:
                if at_once:
                    self._run(at_once, traffic, total, progress, cancel)
                    missing = store.missing(missing)
                largest_first = sorted(missing.items(), key=lambda item: (-item[1], item[0]))
                singly = [
                    Transfer(Blob(sha256=digest, size_bytes=size), store, self._pool, traffic)
                    for digest, size in largest_first
                ]
                if singly or not at_once:
                    self._run(singly, traffic, total, progress, cancel)
            finally:
                seconds = time.perf_counter() - begin
                if traffic.bytes_on_wire >= MIN_RATE_SAMPLE_BYTES:
                    store.measured(traffic.bytes_on_wire / seconds)
        return Fetched(traffic.bytes_on_wire, seconds, traffic.requests, sum(traffic.kept.values()))

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _run(
        self,
        transfers: Iterable[Transfer],
        traffic: Traffic,
        total: int,
        progress: Callable[[int, int], None] | None,
        cancel: Event | None,
    ) -> None:
        patience_s = (self.tries + 1) * self.timeout_s + self.pause_s * 4**self.tries
        watch = _Watch(traffic, self.deadline_s, patience_s, cancel)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="fetch") as threads:
            left: set[Future[None]] = {threads.submit(transfer.run) for transfer in transfers}
            try:
                while left:
                    done, left = wait(left, PROGRESS_INTERVAL_S, FIRST_EXCEPTION)
                    if progress is not None:
                        progress(sum(traffic.there.values()), total)
                    watch.look()
                    for future in done:
                        future.result()
                    if traffic.stopped.is_set():
                        self._shut()
            except BaseException:
                traffic.stop("another blob failed")
                self._shut()
                raise

    def _shut(self) -> None:
        """End all waiting for the network."""
        for one in list(self._sockets):
            with suppress(OSError):
                one.shutdown(SHUT_RDWR)


class _Watch:
    """Stops a download that was cancelled, takes too long, or brings nothing at all."""

    def __init__(
        self, traffic: Traffic, deadline_s: float | None, stall_s: float, cancel: Event | None
    ) -> None:
        self.traffic, self.stall_s, self.cancel = traffic, stall_s, cancel
        self.moved_at, self.moved = time.monotonic(), 0
        self.deadline_s = deadline_s
        self.deadline = None if deadline_s is None else self.moved_at + deadline_s

    def look(self) -> None:
        now = time.monotonic()
        if self.traffic.bytes_on_wire != self.moved:
            self.moved_at, self.moved = now, self.traffic.bytes_on_wire
        if self.cancel is not None and self.cancel.is_set():
            self.traffic.stop("the download was cancelled")
        elif self.deadline is not None and now >= self.deadline:
            self.traffic.stop(f"not all after {self.deadline_s:g} seconds")
        elif now - self.moved_at >= self.stall_s:
            self.traffic.stop(f"nothing for {self.stall_s:g} seconds")


def _pool(
    url: str, workers: int, timeout_s: float, sockets: weakref.WeakSet[socket]
) -> tuple[HTTPConnectionPool, str]:
    """Connections to the publisher, and the path of its root."""
    try:
        import urllib3
    except ImportError as error:
        raise MissingExtraError("fetching models needs urllib3: pip install 'zooselect[fetch]'") from error
    try:
        parts = urllib3.util.parse_url(url)
    except urllib3.exceptions.LocationParseError as error:
        raise ZooError(f"expected the address of a publisher, got {url!r}: {error}.") from error
    if parts.scheme not in ("http", "https") or not parts.host or parts.query or parts.fragment or parts.auth:
        raise ZooError(f"expected an address such as https://models.example.org/zoo, got {url!r}.")
    pool = urllib3.connection_from_url(
        url, maxsize=workers, timeout=urllib3.Timeout(connect=timeout_s, read=timeout_s)
    )
    plain: Any = pool.ConnectionCls

    class Watched(plain):  # type: ignore[misc]
        """Remembers its socket, so that waiting for it can be ended from outside."""

        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    pool.ConnectionCls = Watched
    return pool, (parts.path or "").rstrip("/")
