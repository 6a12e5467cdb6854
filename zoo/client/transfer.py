"""The transfer of one blob over HTTP: resumed where it stopped, tried again, and never longer than it may be.

What arrives is collected in a partial file and becomes a blob only when its digest is right, so that a
connection without encryption, a cache or a login page in between can do no more harm than to waste time.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zoo.errors import DigestError, FetchError
from zoo.releases.release import Blob
from zoo.store.blobs import Blobs, writing

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool

CHUNK_BYTES = 65536
MAX_RETRY_PAUSE_S = 30.0
LATER_ADVICE = "What is installed goes on answering; try again later."
REPUBLISH_ADVICE = "Nothing of it was kept. Tell the publisher, or check that this is the right address."
SIGN_IN_ADVICE = "Perhaps the network wants you to sign in first, or this is not the publisher's address."


class Broken(Exception):
    """A try that failed: whether another one can help, and what to do if not."""

    def __init__(self, reason: str, *, advice: str = LATER_ADVICE, again: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.advice, self.again = reason, advice, again


@dataclass
class Traffic:
    """What all transfers of a download share."""

    folder: str  # URL path of the publisher's root
    tries: int  # without progress
    pause_s: float  # before the second try; four times as long before each next one
    window_s: float  # within which a transfer has to bring the least
    least_bytes_per_s: float
    headers: dict[str, str] = field(default_factory=dict)
    there: dict[str, int] = field(default_factory=dict)  # digest → bytes collected so far
    kept: dict[str, int] = field(default_factory=dict)  # digest → of these, from an earlier download
    bytes_on_wire: int = 0
    requests: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    why: str = ""
    counting: threading.Lock = field(default_factory=threading.Lock)

    def stop(self, why: str) -> None:
        """Let all transfers end soon."""
        self.why = self.why or why
        self.stopped.set()

    def received(self, digest: str, there: int, new: int) -> None:
        """Note that `new` bytes of a blob came; `there` are collected now."""
        with self.counting:
            self.bytes_on_wire += new
            self.there[digest] = there


class Transfer:
    """Brings one blob into a store."""

    def __init__(self, blob: Blob, store: Blobs, pool: HTTPConnectionPool, traffic: Traffic) -> None:
        self.blob, self.store, self.pool, self.traffic = blob, store, pool, traffic
        self.partial = store.partial(blob.sha256)
        self.path = f"{traffic.folder}/{blob.path}"
        self.url = f"{pool.scheme}://{pool.host}{f':{pool.port}' if pool.port else ''}{self.path}"
        self.kind = ""  # content type of the last answer

    def run(self) -> None:
        """Fetch and adopt the blob.

        Raises
        ------
        FetchError
            When it did not arrive after several tries, or is not what it should be.
        StoreFullError
            When the disk is full.
        """
        best = self._there()
        self.traffic.kept[self.blob.sha256] = best
        tried = wrong = 0
        while True:
            try:
                self._receive()
                self.store.adopt(self.blob.sha256, self.blob.size_bytes)
                return
            except DigestError:
                wrong += 1  # once: a part of an earlier download may have been bad, or one on the way
                self._restart()
                broken = Broken(f"{self._what()} with another digest", advice=self._advice(), again=wrong < 2)
            except Broken as error:
                broken = error
            there = self._there()
            if there - best >= max(1, self.blob.size_bytes // 20):
                best, tried = there, 0
            tried += 1
            if self.traffic.stopped.is_set():
                raise self._error(Broken(self.traffic.why)) from None
            if not broken.again or tried >= self.traffic.tries:
                raise self._error(broken) from broken
            pause = min(self.traffic.pause_s * 4 ** (tried - 1), MAX_RETRY_PAUSE_S)
            # devices that failed together spread out
            self.traffic.stopped.wait(pause * random.uniform(0.5, 1))

    def _receive(self) -> None:
        """Collect what is missing, in one request."""
        from urllib3.exceptions import HTTPError

        if self._there() > self.blob.size_bytes:
            self._restart()
        start = self._there()
        if start == self.blob.size_bytes:
            return
        response = self._request(start)
        try:
            start = self._check(response, start)
            file = self.store.collecting(self.blob.sha256, resume=start > 0)
            with writing(self.store.folder), file as stream:
                there = start
                for chunk in self._chunks(response, start):
                    stream.write(chunk)
                    there += len(chunk)
                    self.traffic.received(self.blob.sha256, there, len(chunk))
        except HTTPError as error:
            raise Broken(_words(error)) from error
        except BaseException:
            response.close()
            raise
        response.release_conn()

    def _request(self, start: int) -> BaseHTTPResponse:
        from urllib3.exceptions import HostChangedError, HTTPError, MaxRetryError, SSLError
        from urllib3.util import Retry

        if self.traffic.stopped.is_set():
            raise Broken(self.traffic.why, again=False)
        headers = {**self.traffic.headers, "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with self.traffic.counting:
            self.traffic.requests += 1
        try:
            return self.pool.urlopen(
                "GET",
                self.path,
                headers=headers,
                preload_content=False,
                decode_content=False,
                retries=Retry(connect=0, read=0, redirect=3, status=0, other=0),
            )
        except HostChangedError as error:
            raise Broken("a redirection to another host", advice=SIGN_IN_ADVICE, again=False) from error
        except HTTPError as error:
            cause = error.reason if isinstance(error, MaxRetryError) else error
            if isinstance(cause, SSLError):
                advice = "Check the address, the clock of this device and its certificates."
                raise Broken(_words(cause), advice=advice, again=False) from error
            raise Broken(_words(cause or error)) from error

    def _check(self, response: BaseHTTPResponse, start: int) -> int:
        """Where the answer goes on in the file: at `start`, or at 0 where it begins anew."""
        size = self.blob.size_bytes
        self.kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()[:100]
        if response.status == 206 and start:
            stated = response.headers.get("Content-Range", "").strip().lower()
            if stated not in (f"bytes {start}-{size - 1}/{size}", f"bytes {start}-{size - 1}/*"):
                self._restart()
                raise Broken(f"another part than was asked for ({stated[:60] or 'unnamed'})")
        elif response.status == 200:
            if start:
                self._restart()
            start = 0
        elif response.status == 416:
            self._restart()
            raise Broken("status 416, the server has no such part")
        else:
            again = response.status in (408, 425, 429) or response.status >= 500
            reason = f"status {response.status} {response.reason or ''}".strip()
            raise Broken(reason, advice=LATER_ADVICE if again else REPUBLISH_ADVICE, again=again)
        coding = response.headers.get("Content-Encoding", "identity").lower()
        if coding != "identity":
            raise Broken(f"content encoded with {coding[:20]}", advice=self._advice(), again=False)
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) != size - start:
            what = self._what(int(length))
            raise Broken(f"{what} instead of {size - start:,}", advice=self._advice(), again=False)
        return start

    def _chunks(self, response: BaseHTTPResponse, there: int) -> Iterator[bytes]:
        size = self.blob.size_bytes
        since, brought = time.monotonic(), 0
        while True:
            chunk = response.read1(min(CHUNK_BYTES, size - there + 1))
            if not chunk:
                break
            there += len(chunk)
            if there > size:
                self._restart()
                raise Broken(f"more than {size:,} bytes", advice=self._advice(), again=False)
            yield chunk
            if self.traffic.stopped.is_set():
                raise Broken(self.traffic.why, again=False)
            brought += len(chunk)
            now = time.monotonic()
            if now - since >= self.traffic.window_s:
                rate = brought / (now - since)
                if rate < self.traffic.least_bytes_per_s:
                    raise Broken(f"only {rate:,.0f} bytes a second")
                since, brought = now, 0
        if there < size:
            raise Broken(f"the connection ended after {there:,} of {size:,} bytes")

    def _there(self) -> int:
        return self.store.partial_bytes(self.blob.sha256)

    def _restart(self) -> None:
        with writing(self.store.folder):
            self.partial.unlink(missing_ok=True)
        self.traffic.kept[self.blob.sha256] = 0
        self.traffic.received(self.blob.sha256, 0, 0)

    def _what(self, size: int | None = None) -> str:
        what = "a web page (text/html)" if self.kind == "text/html" else "content"
        return what if size is None else f"{what} of {size:,} bytes"

    def _advice(self) -> str:
        return SIGN_IN_ADVICE if self.kind == "text/html" else REPUBLISH_ADVICE

    def _error(self, broken: Broken) -> FetchError:
        return FetchError(self.blob.sha256, self.url, broken.reason, broken.advice)


def _words(error: BaseException) -> str:
    """What the network said, without the addresses of objects in it."""
    text = str(error).split(">: ", 1)[-1]
    return text.split("): ", 1)[-1][:200] if text else type(error).__name__
