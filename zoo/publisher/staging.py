"""Blobs on their way into a publisher's folder: written aside first, moved when all of them are good."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from zoo.errors import PublishError
from zoo.files import sync_folder
from zoo.releases.release import Blob, blob_path

PREFIX = ".staging-"


class Staging:
    """A flat folder of new blobs beside those that are published.

    Attributes
    ----------
    folder
        Where new blobs are written, named by their digests.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.folder = folder

    def add(self, content: bytes) -> Blob:
        """Write content into the folder."""
        blob = Blob.of(content)
        (self.folder / blob.sha256).write_bytes(content)
        return blob

    def published(self, sha256: str, size_bytes: int) -> bool:
        """Whether a blob is published already."""
        path = self.root / blob_path(sha256)
        return path.is_file() and path.stat().st_size == size_bytes

    def move(self, blobs: Mapping[str, int]) -> int:
        """Publish the blobs (digest → bytes) that are not yet, and return how many bytes are new.

        Raises
        ------
        PublishError
            When one of them is neither here nor there.
        """
        new = {digest: size for digest, size in blobs.items() if not self.published(digest, size)}
        lost = [digest for digest in new if not (self.folder / digest).is_file()]
        if lost:
            raise PublishError(
                f"expected the blob {lost[0][:16]}… in {self.root}, got none; it was removed in the "
                "meantime. Run the same command again."
            )
        for digest in new:
            staged, target = self.folder / digest, self.root / blob_path(digest)
            with staged.open("rb") as stream:
                os.fsync(stream.fileno())
            target.parent.mkdir(parents=True, exist_ok=True)
            staged.replace(target)
        for folder in {(self.root / blob_path(digest)).parent for digest in new}:
            sync_folder(folder)
        return sum(new.values())


@contextlib.contextmanager
def staging(root: str | Path) -> Iterator[Staging]:
    """A staging folder that is gone afterwards, with everything in it that was not moved.

    Raises
    ------
    PublishError
        When the disk is full or the folder cannot be written.
    """
    base = Path(root)
    try:
        base.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        try:
            yield Staging(base, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise PublishError(
            f"cannot write in {base}: {error.strerror or error}. What is served stays as it was; free some "
            "space or check the permissions, then run the same command again."
        ) from error
