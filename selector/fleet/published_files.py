"""The published files over HTTP: parts, validators, and nothing outside of what is published.

Follows RFC 9110 (ranges and conditional requests). One range is served; a request for several gets the whole
file, as the standard allows.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from selector.fleet.replies import refusal

CHUNK_BYTES = 256 * 1024
IMMUTABLE = "public, max-age=31536000, immutable"
_BLOB = re.compile(r"blobs/([0-9a-f]{2})/(\1[0-9a-f]{62})")
_TARGET = re.compile(r"targets/(?:models|bundles|assignments)/[0-9a-f]{64}\.[a-z0-9][a-z0-9._-]{0,63}\.json")
_METADATA = re.compile(r"metadata/(?:[0-9]{1,12}\.(?:root|snapshot|targets|assignments)|timestamp)\.json")
_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))", re.IGNORECASE)


class Part(NamedTuple):
    """Bytes of a file, from `start` to before `stop`."""

    start: int
    stop: int


def part_of(asked: str | None, size: int) -> Part | None:
    """Which bytes of a file of `size` the header Range asks for; None: it can be ignored, all of them.

    Raises
    ------
    ValueError
        When the file has none of the bytes that are asked for.
    """
    match = _RANGE.fullmatch((asked or "").strip())
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, stop = max(size - int(suffix), 0), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= stop:
        raise ValueError(f"bytes */{size}")
    return Part(start, stop)


class PublishedFiles:
    """Answers GET and HEAD for what is published under a folder."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)

    async def get(self, request: Request) -> Response:
        """What is asked for, a part of it, or why not."""
        path = request.scope["path"][1:]  # a route parameter would lack a line break at its end
        caching = _caching(path)
        file = None if caching is None else await asyncio.to_thread(self._open, path)
        if file is None or caching is None:
            return refusal(
                404,
                expected="a published file, such as metadata/timestamp.json",
                got=path,
                do="Look at metadata/timestamp.json first",
                headers={"cache-control": "no-store"},
            )
        status = os.fstat(file.fileno())
        digest = _BLOB.fullmatch(path)
        tag = f'"{digest[2] if digest else f"{status.st_mtime_ns:x}-{status.st_size:x}"}"'
        headers = {"etag": tag, "cache-control": caching, "accept-ranges": "bytes"}
        headers["content-type"] = "application/octet-stream" if digest else "application/json"
        headers["x-content-type-options"] = "nosniff"
        if _names(request.headers.get("if-none-match"), tag):
            file.close()
            return Response(status_code=304, headers=headers)
        asked = request.headers.get("range") if request.method == "GET" else None
        if request.headers.get("if-range", tag) != tag:
            asked = None
        try:
            part = part_of(asked, status.st_size)
        except ValueError as error:
            file.close()
            return refusal(
                416,
                expected=f"a range within {status.st_size} bytes",
                got=asked or "",
                do="Fetch the file from its beginning",
                headers={"content-range": str(error)},
            )
        if part is not None:
            headers["content-range"] = f"bytes {part.start}-{part.stop - 1}/{status.st_size}"
        return _Content(file, part, status.st_size, headers)

    def _open(self, path: str) -> BinaryIO | None:
        """The file, unless it or a folder on the way from the root is missing or a link."""
        *folders, name = path.split("/")
        try:
            here = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
            try:
                for folder in folders:
                    inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                    os.close(here)
                    here = inside
                handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
            finally:
                os.close(here)
        except OSError:
            return None
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            return None
        return os.fdopen(handle, "rb", buffering=0)


class _Content(Response):
    """A file or a part of it, never in memory as a whole."""

    def __init__(self, file: BinaryIO, part: Part | None, size: int, headers: dict[str, str]) -> None:
        self._file = file
        self._part = part or Part(0, size)
        length = {"content-length": str(self._part.stop - self._part.start)}
        super().__init__(status_code=200 if part is None else 206, headers=headers | length)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file as file:
            start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            await send(start)
            left = 0 if scope["method"] == "HEAD" else self._part.stop - self._part.start
            file.seek(self._part.start)
            while left:
                chunk = await asyncio.to_thread(file.read, min(left, CHUNK_BYTES))
                if not chunk:
                    raise OSError("a published file became shorter while it was sent")
                left -= len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _caching(path: str) -> str | None:
    """How long a file may be kept by others; None: it is not one that is published."""
    if _METADATA.fullmatch(path):
        return "no-store" if path.endswith("/timestamp.json") else IMMUTABLE
    return IMMUTABLE if _BLOB.fullmatch(path) or _TARGET.fullmatch(path) else None


def _names(header: str | None, tag: str) -> bool:
    tags = {one.strip().removeprefix("W/") for one in (header or "").split(",")}
    return "*" in tags or tag in tags
