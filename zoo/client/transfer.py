"""The transfer of one blob over HTTP: resumed where it stopped, tried again, and never longer than it may be.

What arrives is collected in a partial file and becomes a blob only when its digest is right, so that a
connection without encryption, a cache or a login page in between can do no more harm than to waste time.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from zoo.client.wire import LATER_ADVICE, REPUBLISH_ADVICE, SIGN_IN_ADVICE, Answer, Broken, Wire
from zoo.errors import DigestError, FetchError
from zoo.releases.release import Blob
from zoo.store.blobs import Blobs, writing

MAX_RETRY_PAUSE_S = 30.0


@dataclass
class Traffic:
    """What all transfers of a download share."""

    wire: Wire
    tries: int  # without progress
    pause_s: float  # before the second try; four times as long before each next one
    there: dict[str, int] = field(default_factory=dict)  # digest → bytes collected so far
    kept: dict[str, int] = field(default_factory=dict)  # digest → of these, from an earlier download
    bytes_on_wire: int = 0
    counting: threading.Lock = field(default_factory=threading.Lock)

    def received(self, digest: str, there: int, new: int) -> None:
        """Note that `new` bytes of a blob came; `there` are collected now."""
        with self.counting:
            self.bytes_on_wire += new
            self.there[digest] = there


class Transfer:
    """Brings one blob into a store."""

    def __init__(self, blob: Blob, store: Blobs, traffic: Traffic) -> None:
        self.blob, self.store, self.traffic = blob, store, traffic
        self.partial = store.partial(blob.sha256)
        self.url = f"{traffic.wire.url}/{blob.path}"
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
            why = self.traffic.wire.patience.over()
            if why:
                raise self._error(Broken(why)) from None
            if not broken.again or tried >= self.traffic.tries:
                raise self._error(broken) from broken
            pause = min(self.traffic.pause_s * 4 ** (tried - 1), MAX_RETRY_PAUSE_S)
            # devices that failed together spread out
            self.traffic.wire.patience.pause(pause * random.uniform(0.5, 1))

    def _receive(self) -> None:
        """Collect what is missing, in one request."""
        if self._there() > self.blob.size_bytes:
            self._restart()
        start = self._there()
        if start == self.blob.size_bytes:
            return
        with self._request(start) as answer:
            start = self._check(answer, start)
            file = self.store.collecting(self.blob.sha256, resume=start > 0)
            with writing(self.store.folder), file as stream:
                there = start
                for chunk in self._chunks(answer, start):
                    stream.write(chunk)
                    there += len(chunk)
                    self.traffic.received(self.blob.sha256, there, len(chunk))

    def _request(self, start: int) -> Answer:
        return self.traffic.wire.get(self.url, headers={"Range": f"bytes={start}-"} if start else None)

    def _check(self, answer: Answer, start: int) -> int:
        """Where the answer goes on in the file: at `start`, or at 0 where it begins anew."""
        size = self.blob.size_bytes
        self.kind = answer.kind
        if answer.status == 206 and start:
            stated = answer.headers.get("Content-Range", "").strip().lower()
            if stated not in (f"bytes {start}-{size - 1}/{size}", f"bytes {start}-{size - 1}/*"):
                self._restart()
                raise Broken(f"another part than was asked for ({stated[:60] or 'unnamed'})")
        elif answer.status == 200:
            if start:
                self._restart()
            start = 0
        elif answer.status == 416:
            self._restart()
            raise Broken("status 416, the server has no such part")
        else:
            again = answer.status in (408, 425, 429) or answer.status >= 500
            reason = f"status {answer.status} {answer.reason}".strip()
            raise Broken(reason, advice=LATER_ADVICE if again else REPUBLISH_ADVICE, again=again)
        if answer.length not in (None, size - start):
            what = f"{self._what()} of {answer.length:,} bytes instead of {size - start:,}"
            raise Broken(what, advice=self._advice(), again=False)
        return start

    def _chunks(self, answer: Answer, there: int) -> Iterator[bytes]:
        size = self.blob.size_bytes
        for chunk in answer.chunks(size - there + 1):
            there += len(chunk)
            if there > size:
                self._restart()
                raise Broken(f"more than {size:,} bytes", advice=self._advice(), again=False)
            yield chunk
        if there < size:
            raise Broken(f"the connection ended after {there:,} of {size:,} bytes")

    def _there(self) -> int:
        return self.store.partial_bytes(self.blob.sha256)

    def _restart(self) -> None:
        with writing(self.store.folder):
            self.partial.unlink(missing_ok=True)
        self.traffic.kept[self.blob.sha256] = 0
        self.traffic.received(self.blob.sha256, 0, 0)

    def _what(self) -> str:
        return "a web page (text/html)" if self.kind == "text/html" else "content"

    def _advice(self) -> str:
        return SIGN_IN_ADVICE if self.kind == "text/html" else REPUBLISH_ADVICE

    def _error(self, broken: Broken) -> FetchError:
        lost = not broken.again and broken.advice == REPUBLISH_ADVICE
        return FetchError(self.blob.sha256, self.url, broken.reason, broken.advice, lost=lost)
