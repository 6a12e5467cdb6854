"""Labelled images in a folder of class folders."""

from __future__ import annotations

import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.images import LabelledImages, PackedImage, content_numbers, digest_of, unreadable
from zoo.cores import allowed_cores
from zoo.errors import DataError, InputError, ZooError
from zoo.files import open_file, sha256_file
from zoo.inputs.image import encoded_pixels
from zoo.inputs.image_files import (
    ending,
    files_below,
    is_hidden,
    is_image_name,
    left_out_words,
)
from zoo.inputs.kind import InputKind, Item
from zoo.inputs.kinds import IMAGE

MOST_PACKED_BYTES = 2**26  # of a file that is sent as it is; of a larger one its pixels are sent
DECODED_AT_A_TIME = 3  # when files are checked: one of 64 megapixels takes 0.6 GB

Grouping = str | Callable[[str], str]

T = TypeVar("T")


class FolderImages(LabelledImages):
    """Images in class folders, decoded when asked for; ids are the paths below the folder."""

    def __init__(
        self,
        root: Path,
        classes: list[str],
        ids: list[str],
        labels: list[int],
        groups: list[str],
        kind: InputKind = IMAGE,
    ) -> None:
        super().__init__(classes, ids, labels, groups=groups, kind=kind)
        self.root = root

    def image(self, index: int) -> Item:
        """One image, uint8 ``[H, W, 3]``; raises :class:`DataError` that names an unreadable file."""
        try:
            return self.kind.load(self.root / self.ids[index])
        except InputError as error:
            raise unreadable(error) from error

    def packed(self, index: int) -> PackedImage:
        """The file's bytes; where they would be more than the pixels are, those."""
        if self.kind != IMAGE:
            return super().packed(index)
        path = f"{self.root}/{self.ids[index]}"  # a third of the time that a Path takes to be made
        try:
            with open_file(path) as stream:
                # not as many as there may be: memory for them would be reserved
                size = os.fstat(stream.fileno()).st_size
                content = stream.read(size) if size <= MOST_PACKED_BYTES else b""
        except (OSError, ZooError):
            return super().packed(index)  # which says what is wrong
        pixels = encoded_pixels(content)
        if pixels is None or len(content) > 3 * pixels:
            return super().packed(index)
        return PackedImage(path, content, pixels)

    def _digest(self) -> str:
        how = () if self.kind == IMAGE else (str(self.kind),)
        digest = digest_of("folder", *how, *self.classes, *self.groups)
        for name, content in zip(self.ids, self._files, strict=True):
            digest.update(digest_of(name, content).digest())
        return digest.hexdigest()

    @cached_property
    def contents(self) -> NDArray[np.uint64]:
        """What the file of every sample holds, uint64 ``[n]``."""
        return content_numbers(self._files)

    @cached_property
    def _files(self) -> list[str]:
        """The SHA-256 of every file."""
        paths = (self.root / name for name in self.ids)
        progress = tqdm(
            total=len(self), desc=f"fingerprint of the {self.kind.noun}s", unit="file", delay=2, disable=None
        )
        found = []
        with ThreadPoolExecutor() as pool, progress:
            for content in _ordered(pool, _file_digest, paths):
                found.append(content)
                progress.update()
        return found


def folder(
    path: str | Path,
    *,
    skip_bad: bool = False,
    groups: Grouping | None = None,
    progress: bool = True,
    kind: InputKind = IMAGE,
) -> LabelledImages:
    """A folder of class folders: every sub-folder is a class, every image file in and below it a sample.

    Only names are read here, so a million files take seconds; an unreadable image raises when it is asked
    for. With `skip_bad` every file is decoded once now, and those that cannot be are left out.

    Parameters
    ----------
    path
        The folder. Hidden files are ignored; other files that are no images by their name are counted in
        ``left_out``.
    skip_bad
        Leave unreadable images out; their paths are in ``skipped``.
    groups
        How to find the original of an image from its path below the folder (``class/name.jpg``): a function,
        or a regular expression whose first group (or whole match) is the original. By default every image
        is an original.
    progress
        Show a progress bar when checking takes longer than two seconds.
    kind
        What the files are read as; for signals of bytes any file is a sample.

    Raises
    ------
    DataError
        When there is no folder, fewer than two classes, a class without images, or a path that `groups`
        does not match.

    Examples
    --------
    >>> from training.data.folder import folder
    >>> photos = folder("photos")
    >>> photos.classes, len(photos)
    (('blue', 'green', 'red'), 6)
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of class folders, got {_kind(root)}. Check the path.")
    classes, ids, labels, left_out = _list(root, kind)
    originals = _groups(ids, groups)
    readable = _readable(root, ids, progress, kind) if skip_bad else np.ones(len(ids), np.bool_)
    kept = np.flatnonzero(readable).tolist()
    gone = sorted(set(classes) - {classes[labels[i]] for i in kept})
    if gone:
        raise DataError(
            f"{root}: expected a readable {kind.noun} of every class, got none of "
            f"{', '.join(map(repr, gone))}. Add {kind.noun}s or remove those folders."
        )
    data = FolderImages(
        root, classes, [ids[i] for i in kept], [labels[i] for i in kept], [originals[i] for i in kept], kind
    )
    data.left_out = left_out
    data.skipped = [str(root / ids[i]) for i in np.flatnonzero(~readable)]
    return data


def loose(
    path: Path, classes: Sequence[str], *, skip_bad: bool = False, kind: InputKind = IMAGE
) -> LabelledImages:
    """The images that lie in a folder itself, of which nobody has said what they show.

    Their labels stand for nothing; `classes` are those of the model that will be asked.

    Raises
    ------
    DataError
        When there is none.
    """
    ids, left_out = files_below(path, kind.is_file_name)
    kept = [name for name in ids if not skip_bad or _is_readable(path / name, kind)]
    if not kept:
        raise DataError(f"{path}: expected {kind.noun}s, got {len(ids)} that can be read. Check the path.")
    data = FolderImages(path, list(classes), kept, [0] * len(kept), kept, kind)
    readable = set(kept)
    data.left_out = left_out
    data.skipped = [str(path / name) for name in ids if name not in readable]
    return data


def is_loose(path: Path) -> bool:
    """Whether a folder holds images, and no folders that could be classes."""
    if not path.is_dir():
        return False
    inside = [item for item in path.iterdir() if not is_hidden(item.name)]
    return any(is_image_name(item.name) for item in inside) and not any(item.is_dir() for item in inside)


def _list(root: Path, kind: InputKind) -> tuple[list[str], list[str], list[int], Counter[str]]:
    inside = [item for item in root.iterdir() if not is_hidden(item.name)]
    classes = sorted(item.name for item in inside if item.is_dir())
    left_out = Counter(ending(item.name) for item in inside if not item.is_dir())
    if not classes:
        loose = sum(kind.is_file_name(item.name) for item in inside)
        got = f"{loose} {kind.noun}s outside of class folders" if loose else "an empty folder"
        raise DataError(
            f"{root}: expected a folder for every class, got {got}. Sort {kind.noun}s into folders."
        )
    ids: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        files, others = files_below(root / name, kind.is_file_name)
        if not files:
            raise DataError(
                f"{root / name}: expected {kind.noun}s ({kind.formats}), got {_held(others, kind)}. "
                f"Add {kind.noun}s, remove the folder, or give the folder that holds the class folders."
            )
        ids += [f"{name}/{file}" for file in files]
        labels += [label] * len(files)
        left_out += others
    if len(classes) < 2:
        raise DataError(
            f"{root}: expected at least two class folders, got only {classes[0]!r}. "
            "Give the folder that holds the class folders."
        )
    for name in ids:
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(f"{root}: expected file names in Unicode, got {name!a}. Rename the file.")
    return classes, ids, labels, left_out


def _groups(ids: list[str], grouping: Grouping | None) -> list[str]:
    if grouping is None:
        return ids
    if callable(grouping):
        return [grouping(name) for name in ids]
    try:
        pattern = re.compile(grouping)
    except re.error as error:
        raise DataError(f"expected a regular expression, got {grouping!r}: {error}. Correct it.") from error
    found = [pattern.search(name) for name in ids]
    if None in found:
        raise DataError(
            f"expected that {grouping!r} finds the original of every image, got no match in "
            f"{ids[found.index(None)]!r}. Correct the expression."
        )
    return [match[min(1, pattern.groups)] or match[0] for match in found if match]


def _held(others: Counter[str], kind: InputKind) -> str:
    return f"no {kind.noun}; {left_out_words(others)}" if others else "none"


def _kind(path: Path) -> str:
    return "a file" if path.is_file() else "nothing there"


def _readable(root: Path, ids: list[str], progress: bool, kind: InputKind) -> NDArray[np.bool_]:
    """Which files can be decoded ``[n]``."""
    with ThreadPoolExecutor(min(allowed_cores(), DECODED_AT_A_TIME)) as pool:
        checked = _ordered(pool, partial(_is_readable, kind=kind), (root / name for name in ids))
        bar = tqdm(
            checked, f"checking {kind.noun}s", len(ids), unit="file", delay=2, disable=not progress or None
        )
        return np.fromiter(bar, np.bool_, len(ids))


def _is_readable(path: Path, kind: InputKind) -> bool:
    try:
        kind.load(path)
    except InputError:
        return False
    return True


def _file_digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise DataError(
            f"{path}: expected a readable file, got: {error.strerror}. Restore or remove it."
        ) from error


def _ordered(pool: ThreadPoolExecutor, work: Callable[[Path], T], paths: Iterable[Path]) -> Iterator[T]:
    # Executor.map would hold a million pending results at once.
    waiting = iter(paths)
    while batch := list(islice(waiting, 1024)):
        yield from pool.map(work, batch)


def unpacked(data: Path, archive: str, name: str, work: Path) -> Path:
    """The folder `name` that an archive in `data` holds, unpacked into `work` when it is in neither.

    Raises
    ------
    DataError
        When there is neither the folder nor the archive.
    """
    for there in (data / name, work / name):
        if there.is_dir():
            return there
    path = data / archive
    if not path.is_file():
        raise DataError(f"expected {path} or a folder {data / name}, got neither. Check --data.")
    unpacking = work / "unpacking"
    with zipfile.ZipFile(path) as opened:
        opened.extractall(unpacking)  # the standard library refuses absolute and parent paths
    (unpacking / name).rename(work / name)
    return work / name
