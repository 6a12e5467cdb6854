"""A model in one request: for a device that has no part of it, round trips take longer than bytes.

It is a short cut and nothing else. Each part becomes a blob only when its own digest is right; what does not
come this way is fetched part by part.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import BinaryIO

from zoo.client.transfer import Traffic, Transfer
from zoo.client.wire import Broken
from zoo.errors import DigestError
from zoo.releases.release import Blob, ModelRelease
from zoo.store.blobs import Blobs, writing

VERIFIERS = 4  # threads that verify and sync parts while the next ones arrive


class WholeTransfer(Transfer):
    """Brings all parts of one model into a store.

    Parameters
    ----------
    release
        With a whole; none of its parts is in the store.
    """

    def __init__(self, release: ModelRelease, store: Blobs, traffic: Traffic) -> None:
        assert release.whole is not None
        super().__init__(release.whole, store, traffic)
        self._parts = [Blob(sha256=digest, size_bytes=size) for digest, size in release.blobs.items()]

    def run(self) -> None:
        """Fetch once; what fails is left to be fetched part by part.

        Raises
        ------
        StoreFullError
            When the disk is full.
        """
        with suppress(Broken), ThreadPoolExecutor(VERIFIERS, "verify") as threads:
            adopted: list[Future[None]] = []
            try:
                with self._request(0) as answer:
                    self._check(answer, 0)
                    for part in self._split(self._chunks(answer, 0)):
                        adopted.append(threads.submit(self._adopt, part))
            finally:
                for future in adopted:
                    future.result()

    def _split(self, chunks: Iterator[bytes]) -> Iterator[Blob]:
        """Write what arrives to one partial file after another, and give each part that is complete."""
        left = b""
        for part in self._parts:
            with writing(self.store.folder), self.store.collecting(part.sha256, resume=False) as stream:
                left = self._fill(stream, part, left, chunks)
            yield part

    def _fill(self, stream: BinaryIO, part: Blob, left: bytes, chunks: Iterator[bytes]) -> bytes:
        there = 0
        while True:
            piece, left = left[: part.size_bytes - there], left[part.size_bytes - there :]
            stream.write(piece)
            there += len(piece)
            self.traffic.received(part.sha256, there, len(piece))
            if there == part.size_bytes:
                return left
            left = next(chunks, b"")
            if not left:
                raise Broken("the connection ended")

    def _adopt(self, part: Blob) -> None:
        with suppress(DigestError):  # another content under its name: the part is fetched on its own
            self.store.adopt(part.sha256, part.size_bytes)
