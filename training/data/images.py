"""Labelled images, or inputs of another kind: one small interface, whatever their source is."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from tqdm import tqdm

from zoo.errors import DataError, ImageError, InputError
from zoo.inputs.image import decode_image
from zoo.inputs.kind import InputKind, Item
from zoo.inputs.kinds import IMAGE

CLEAR = "clear"


class PackedImage(NamedTuple):
    """An image on its way to another machine: pixels, or the bytes of a file, which are fewer.

    Inputs of another kind travel as they are.
    """

    name: str
    content: Item | bytes
    pixels: int

    @property
    def size_bytes(self) -> int:
        """Bytes that are sent."""
        size: int = len(self.content) if isinstance(self.content, bytes) else self.content.nbytes
        return size

    def image(self) -> Item:
        """uint8 ``[H, W, 3]``; raises :class:`DataError` that names an unreadable file."""
        if not isinstance(self.content, bytes):
            return self.content
        try:
            return decode_image(self.content)
        except ImageError as error:
            raise unreadable(ImageError(f"{self.name}: {error}")) from error


def unreadable(error: InputError) -> DataError:
    """What is said of a file that cannot be read as an image, or an input of another kind."""
    return DataError(
        f"{error} Remove or replace the file, or leave out all unreadable ones with skip_bad "
        "(--skip-bad on the command line)."
    )


class LabelledImages(ABC):
    """Images with a class each; pixels are read when asked for, everything else is in memory.

    Attributes
    ----------
    kind
        The kind of input. Where it is not images, "image" stands for one input of that kind.
    classes
        Class names; ``labels`` are indices into them.
    ids
        One unique, stable name for every sample.
    labels
        int64 ``[n]``.
    environments
        The condition each image shows: ``"clear"`` unless one was applied.
    groups
        The id of the original: all variants of one original share it, so that splits keep them together.
    skipped
        Files that were left out because they cannot be read; empty unless that was asked for.
    left_out
        How many files were left out because they are no images by their names, by the ending of the name:
        ``{".heic": 1}``.

    Examples
    --------
    >>> data.classes[data.labels[0]], list(data.environments[:3])
    ('blue', ['clear', 'dark', 'noise'])
    """

    def __init__(
        self,
        classes: Sequence[str],
        ids: Sequence[str],
        labels: ArrayLike,
        *,
        groups: Sequence[str] | None = None,
        environments: Sequence[str] | None = None,
        kind: InputKind = IMAGE,
    ) -> None:
        self.kind = kind
        self.classes = tuple(classes)
        self.ids = list(ids)
        self.labels: NDArray[np.int64] = np.asarray(labels, dtype=np.int64).reshape(-1)
        self.groups = list(self.ids if groups is None else groups)
        self.environments = [CLEAR] * len(self.ids) if environments is None else list(environments)
        self.skipped: list[str] = []
        self.left_out: Mapping[str, int] = {}
        lengths = {len(self.ids), len(self.labels), len(self.groups), len(self.environments)}
        if lengths != {len(self.ids)} or not self.ids:
            raise DataError(
                "expected at least one image, each with a label, group and environment, got "
                f"{len(self.ids)} ids, {len(self.labels)} labels, {len(self.groups)} groups and "
                f"{len(self.environments)} environments. Check where the images come from."
            )
        if len(set(self.ids)) != len(self.ids):
            raise DataError("expected distinct ids, got some twice. Name every sample differently.")
        if self.labels.min() < 0 or self.labels.max() >= len(self.classes):
            raise DataError(
                f"expected labels 0..{len(self.classes) - 1}, got {self.labels.min()}..{self.labels.max()}. "
                "Check the labels and the class names."
            )

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def image(self, index: int) -> Item:
        """One image, uint8 ``[H, W, 3]`` RGB, or an input of another kind; it may be read-only.

        Raises
        ------
        DataError
            When it cannot be read; the file is named.

        Examples
        --------
        >>> data.image(0).shape
        (12, 12, 3)
        """

    def packed(self, index: int) -> PackedImage:
        """One image as it is sent to another machine, where :meth:`PackedImage.image` has the same pixels.

        Raises
        ------
        DataError
            When it cannot be read; the file is named.

        Examples
        --------
        >>> data.packed(0).image().shape
        (12, 12, 3)
        """
        image = self.image(index)
        return PackedImage(self.ids[index], image, self.kind.area(image))

    @abstractmethod
    def _digest(self) -> str: ...

    @cached_property
    def sha256(self) -> str:
        """Digest of all images, labels, ids and settings; computed at the first use."""
        return self._digest()

    @cached_property
    def contents(self) -> NDArray[np.uint64]:
        """What the original of every sample is made of, uint64 ``[n]``: equal where files or pixels are.

        The first 8 bytes of a SHA-256; names do not matter. Computed at the first use.
        """
        images = (self.image(i) for i in range(len(self)))
        return content_numbers(digest_of(*self.kind.content(image)).hexdigest() for image in images)

    @property
    def originals_sha256(self) -> str:
        """Digest of the data set that all samples were derived from; subsets and environments keep it."""
        return self.sha256

    def subset(self, indices: ArrayLike) -> LabelledImages:
        """The samples at `indices` (integers, or a boolean mask over all samples), in that order.

        Examples
        --------
        >>> len(data.subset([0, 1, 2]))
        3
        """
        chosen = np.asarray(indices)
        if chosen.dtype == np.bool_:
            if chosen.shape != (len(self),):
                raise DataError(f"expected a mask over {len(self)} samples, got shape {list(chosen.shape)}.")
            chosen = np.flatnonzero(chosen)
        if chosen.size == 0:
            raise DataError(f"expected at least one of the {len(self)} samples, got none. Choose more.")
        return _Subset(self, chosen.astype(np.int64))

    def stack(self, size: tuple[int, int] | None = None, *, progress: bool = False) -> NDArray[np.uint8]:
        """All images as one array uint8 ``[n, H, W, 3]``.

        Parameters
        ----------
        size
            Height and width in pixels; images of another size are resized (antialiased bilinear). Without
            it, the first image's size.
        progress
            Show a progress bar when it takes longer than two seconds.

        Examples
        --------
        >>> data.stack((8, 10)).shape[1:]
        (8, 10, 3)
        """
        if self.kind != IMAGE:
            raise DataError(f"expected images to stack, got inputs of the kind {self.kind}.")
        height, width = size or self.image(0).shape[:2]
        stacked = np.empty((len(self), height, width, 3), dtype=np.uint8)
        for i in tqdm(
            range(len(self)), desc="reading images", unit="img", delay=2, disable=not progress or None
        ):
            stacked[i] = _resized(self.image(i), height, width)
        return stacked


class ArrayImages(LabelledImages):
    """Labelled images that are in memory already.

    Parameters
    ----------
    images
        uint8 ``[n, H, W, 3]`` RGB.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        classes: Sequence[str],
        ids: Sequence[str],
        labels: ArrayLike,
        *,
        groups: Sequence[str] | None = None,
        environments: Sequence[str] | None = None,
    ) -> None:
        super().__init__(classes, ids, labels, groups=groups, environments=environments)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.size:
            raise DataError(
                f"expected images uint8 [n, H, W, 3], got {images.dtype} {list(images.shape)}. Convert them."
            )
        if len(images) != len(self):
            raise DataError(f"expected {len(self)} images, one for each label, got {len(images)}.")
        self.images = images.view()
        self.images.flags.writeable = False

    def image(self, index: int) -> NDArray[np.uint8]:
        """One image, uint8 ``[H, W, 3]``, a read-only view."""
        image: NDArray[np.uint8] = self.images[index]
        return image

    def _digest(self) -> str:
        digest = digest_of(str(self.images.shape), *self.classes, *self.ids, *self.groups, *self.environments)
        digest.update(self.labels.tobytes())
        digest.update(np.ascontiguousarray(self.images).data)
        return digest.hexdigest()


class _Subset(LabelledImages):
    def __init__(self, whole: LabelledImages, indices: NDArray[np.int64]) -> None:
        super().__init__(
            whole.classes,
            [whole.ids[i] for i in indices],
            whole.labels[indices],
            groups=[whole.groups[i] for i in indices],
            environments=[whole.environments[i] for i in indices],
            kind=whole.kind,
        )
        self._whole, self._indices = whole, indices

    def image(self, index: int) -> Item:
        return self._whole.image(int(self._indices[index]))

    def packed(self, index: int) -> PackedImage:
        return self._whole.packed(int(self._indices[index]))

    @property
    def originals_sha256(self) -> str:
        return self._whole.originals_sha256

    @cached_property
    def contents(self) -> NDArray[np.uint64]:
        found: NDArray[np.uint64] = self._whole.contents[self._indices]
        return found

    def _digest(self) -> str:
        return digest_of("subset", self._whole.sha256, *self.ids).hexdigest()


class ListedInputs(LabelledImages):
    """Labelled inputs of any kind that are in memory already, each of its own shape.

    Parameters
    ----------
    items
        Inputs of the kind, or what it makes of them: for signals of bytes also ``bytes``.

    Raises
    ------
    InputError
        When one of them is no input of the kind; its id is named.

    Examples
    --------
    >>> from training.data.images import ListedInputs
    >>> from zoo.inputs.signal import Signal
    >>> files = ListedInputs(Signal(), [b"a = 1", b"{}"], ["python", "json"], ["one.py", "two.json"], [0, 1])
    >>> files.image(1).tolist()
    [123, 125]
    """

    def __init__(
        self,
        kind: InputKind,
        items: Sequence[Item],
        classes: Sequence[str],
        ids: Sequence[str],
        labels: ArrayLike,
        *,
        groups: Sequence[str] | None = None,
        environments: Sequence[str] | None = None,
    ) -> None:
        super().__init__(classes, ids, labels, groups=groups, environments=environments, kind=kind)
        if len(items) != len(self):
            raise DataError(f"expected {len(self)} inputs, one for each label, got {len(items)}.")
        self._items = []
        for name, item in zip(self.ids, items, strict=True):
            try:
                self._items.append(kind.item(item))
            except InputError as error:
                raise type(error)(f"{name}: {error}") from error

    def image(self, index: int) -> Item:
        """One input, as it was given."""
        return self._items[index]

    def _digest(self) -> str:
        digest = digest_of("inputs", str(self.kind), *self.classes, *self.ids, *self.groups)
        digest.update(digest_of(*self.environments, self.labels.tobytes()).digest())
        for item in self._items:
            digest.update(digest_of(*self.kind.content(item)).digest())
        return digest.hexdigest()


def digest_of(*parts: str | bytes) -> hashlib._Hash:
    """A SHA-256 object over `parts`, each with its length, so that no two lists of parts look alike."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest


def content_numbers(digests: Iterable[str]) -> NDArray[np.uint64]:
    """The first 8 bytes of SHA-256 digests in hexadecimal digits, as numbers."""
    return np.array([int(digest[:16], 16) for digest in digests], dtype=np.uint64)


def _resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if image.shape[:2] == (height, width):
        return image
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR), dtype=np.uint8)
