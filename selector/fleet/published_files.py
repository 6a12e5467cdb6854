"""The published files over HTTP: parts, validators, and nothing outside of what is published."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from selector.fleet.replies import refusal, retry_later
from zoo.errors import ServiceError

_OPENS_WITHOUT_LINKS = hasattr(os, "O_NOFOLLOW") and os.open in os.supports_dir_fd
IMMUTABLE = "public, max-age=31536000, immutable"
_BLOB = re.compile(r"blobs/([0-9a-f]{2})/(\1[0-9a-f]{62})")
_TARGET = re.compile(r"targets/(?:models|bundles|assignments)/[0-9a-f]{64}\.[a-z0-9][a-z0-9._-]{0,63}\.json")
_METADATA = re.compile(r"metadata/(?:[0-9]{1,12}\.(?:root|snapshot|targets|assignments)|timestamp)\.json")


class PublishedFiles:
    """Answers GET and HEAD for what is published under a folder.

    Raises
    ------
    ServiceError
        Where the system cannot open files without following links, as on Windows.
    """

    def __init__(self, root: str | Path) -> None:
        if not _OPENS_WITHOUT_LINKS:
            raise ServiceError(
                f"expected Linux or macOS to serve files on, got {sys.platform}, where nothing keeps links "
                f"from leading out of {root}. Serve the folder with a web server, without links."
            )
        self._root = Path(root)

    async def get(self, request: Request) -> Response:
        """What is asked for, a part of it, or why not."""
        path = request.scope["path"][1:]  # a route parameter would lack a line break at its end
        caching = _caching(path)
        try:
            file = None if caching is None else await asyncio.to_thread(self._open, path)
        except OSError as error:
            return retry_later(503, 10, expected="a file that can be opened", got=error.strerror or "")
        if file is None or caching is None:
            return refusal(
                404,
                expected="a published file, such as metadata/timestamp.json",
                got=path,
                do="Look at metadata/timestamp.json first",
                headers={"cache-control": "no-store"},
            )
        digest = _BLOB.fullmatch(path)
        kind = "application/octet-stream" if digest else "application/json"
        headers = {"cache-control": caching, "x-content-type-options": "nosniff"}
        if digest:
            headers["etag"] = f'"{digest[2]}"'
        response = _Opened(file, headers, kind)
        if _names(request.headers.get("if-none-match"), response.headers["etag"]):
            file.close()
            return Response(status_code=304, headers=headers | {"etag": response.headers["etag"]})
        return response

    def _open(self, path: str) -> BinaryIO | None:
        """The file, unless it or a folder on the way from the root is missing or a link.

        Raises
        ------
        OSError
            When too many files are open.
        """
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
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            return None
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            return None
        return os.fdopen(handle, "rb", buffering=0)


class _Opened(FileResponse):
    """A file or a part of it, never in memory as a whole.

    What was opened is what is sent, with its own size and validators, also when another file takes its place
    meanwhile: the path is that of the handle.
    """

    chunk_size = 64 * 1024  # a client that does not read holds two of them
    max_ranges = 1  # a request for several gets the whole file

    def __init__(self, file: BinaryIO, headers: dict[str, str], kind: str) -> None:
        self._file = file
        handle = file.fileno()
        super().__init__(f"/dev/fd/{handle}", headers=headers, media_type=kind, stat_result=os.fstat(handle))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


def _caching(path: str) -> str | None:
    """How long a file may be kept by others; None: it is not one that is published."""
    if _METADATA.fullmatch(path):
        return "no-store" if path.endswith("/timestamp.json") else IMMUTABLE
    return IMMUTABLE if _BLOB.fullmatch(path) or _TARGET.fullmatch(path) else None


def _names(header: str | None, tag: str) -> bool:
    tags = {one.strip().removeprefix("W/") for one in (header or "").split(",")}
    return "*" in tags or tag in tags
