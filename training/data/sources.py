"""Data by name: the embedded digits, folders, torchvision data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.data.downloads import TORCHVISION_NAMES
from training.data.images import ArrayImages, LabelledImages
from zoo.errors import DataError, MissingExtraError
from zoo.extras import install_command
from zoo.inputs.kind import InputKind
from zoo.inputs.kinds import IMAGE


def digits(size: int = 32) -> LabelledImages:
    """Scikit-learn's embedded handwritten digits: 1,797 images, classes "0" to "9", no download.

    Parameters
    ----------
    size
        Height and width in pixels that the 8×8 originals are enlarged to (bicubic).
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError(f"digits need scikit-learn: {install_command('train')}") from error
    if size < 1:
        raise DataError(f"expected a size of at least 1 pixel, got {size}.")
    found = load_digits()
    grey = np.rint(found.images * (255 / 16)).astype(np.uint8)
    images = np.empty((len(grey), size, size, 3), dtype=np.uint8)
    for i, small in enumerate(grey):
        large = Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)
        images[i] = np.asarray(large)[:, :, np.newaxis]
    ids = [f"digit-{i:04d}" for i in range(len(images))]
    return ArrayImages(images, [str(i) for i in range(10)], ids, found.target)


def load(spec: str, *, kind: InputKind = IMAGE, **options: Any) -> LabelledImages:
    """The data set that a command line names.

    Parameters
    ----------
    spec
        ``digits``; the path of a folder of class folders; or a torchvision name such as ``cifar10`` (its
        training part) or ``cifar10:test``. A folder that is called like a data set is written ``./digits``.
    kind
        What the files of a folder, or the rows of a table, are read as; data sets that are known by name hold
        images.
    options
        Passed on to :func:`digits`, :func:`training.data.folder.folder` or
        :func:`training.data.downloads.torchvision_dataset`.

    Raises
    ------
    DataError
        When `spec` is none of these, or the data cannot be read.

    Examples
    --------
    >>> from training.data.sources import load
    >>> load("digits").classes[:3]
    ('0', '1', '2')
    """
    from training.data.downloads import torchvision_dataset
    from training.data.folder import folder

    name, _, part = spec.partition(":")
    if kind != IMAGE:
        return _of_kind(spec, kind, options)
    if spec == "digits":
        return digits(**options)
    if name in TORCHVISION_NAMES and part in ("", "train", "test"):
        return torchvision_dataset(name, train=part != "test", **options)
    if Path(spec).exists():
        return folder(Path(spec), **options)
    raise DataError(
        f"expected 'digits', a folder of class folders, or one of {', '.join(TORCHVISION_NAMES)} "
        f"(with ':test' for the test part), got {spec!r}. Check the spelling of the path."
    )


def _of_kind(spec: str, kind: InputKind, options: dict[str, Any]) -> LabelledImages:
    from training.data.folder import folder
    from training.data.labelled_tables import SUFFIXES, labelled_table

    path = Path(spec)
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return labelled_table(path, kind, **options)
    if path.is_dir():
        return folder(path, kind=kind, **options)
    raise DataError(
        f"expected a folder of class folders with {kind.noun}s ({kind.formats}), as the models of the zoo "
        f"take, or a table of them ({', '.join(SUFFIXES)}), got {spec!r}. Check the spelling of the path."
    )
