"""Images that models learned from, known by their content: they are recognised wherever they lie.

A model card names the data that a model was trained on by one digest, which is another one as soon as a file
is added, renamed or sorted into another folder. So the zoo also keeps what each of the images is made of.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from training.data.images import LabelledImages
from training.data.splits import TRAIN, Names, Splits
from zoo.errors import DataError
from zoo.files import read_npz, sha256_bytes, write_atomic
from zoo.models.card import ModelCard, TrainedOn
from zoo.models.zoo import Zoo

FOLDER = "trained-on"  # in a zoo
MAX_BYTES = 2**30  # of one record: 134 million images


def remember(zoo: Zoo, part: TrainedOn, data: LabelledImages) -> None:
    """Keep in `zoo` which images a part of `data` holds, before a model that learned from them is added.

    Parameters
    ----------
    data
        The whole data; which of it belongs to `part` follows from the seed and the share.
    """
    path = _path(zoo, part)
    if path.is_file():
        return
    learned = Splits(seed=part.seed, train=part.share).assign(data.groups) == TRAIN
    content = io.BytesIO()
    np.savez(content, contents=np.unique(data.contents[learned]))
    write_atomic(path, content.getvalue())


def seen_in_training(zoo: Zoo, cards: Iterable[ModelCard], data: LabelledImages) -> NDArray[np.bool_]:
    """Which samples of `data` models learned from as part of other data, bool ``[n]``.

    All samples of an original count as seen when one of them was. An image that was scaled or saved anew is
    another one. Of models that were added before zoos kept this, nothing is known.

    Raises
    ------
    DataError
        When a record in the zoo is broken.
    """
    known = {data.sha256, data.originals_sha256}  # the split by groups leaves these out
    parts = {part for card in cards for part in card.learned_from if part.data_sha256 not in known}
    paths = sorted(path for part in parts if (path := _path(zoo, part)).is_file())
    if not paths:
        return np.zeros(len(data), dtype=np.bool_)
    same = np.isin(data.contents, np.concatenate([_read(path) for path in paths]))
    groups = {data.groups[i] for i in np.flatnonzero(same)}
    return np.array([group in groups for group in data.groups], dtype=np.bool_)


def names_without_seen(splits: Splits, zoo: Zoo, data: LabelledImages) -> Names:
    """The split of every sample, where what models of `zoo` learned from as part of other data is training.

    Raises
    ------
    DataError
        When a split with a share comes out empty, or no image is left to judge with.
    """
    known = seen_in_training(zoo, zoo.cards, data)
    if splits.train == 1 or known.all():
        raise DataError(
            "expected images that no model was trained on, got only training images: the models were "
            "trained on all of them. Profile other images, or train with a smaller --share."
        )
    return splits.divide(data, seen=known)


def _path(zoo: Zoo, part: TrainedOn) -> Path:
    return zoo.folder / FOLDER / f"{sha256_bytes(msgspec.json.encode(part, order='deterministic'))[:12]}.npz"


def _read(path: Path) -> NDArray[np.uint64]:
    try:
        contents = read_npz(path, most_bytes=MAX_BYTES)["contents"]
        if contents.dtype != np.uint64 or contents.ndim != 1:
            raise ValueError(f"{contents.dtype} {list(contents.shape)}")
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path}: expected the images that a model was trained on, uint64 [n], got: {str(error)[:200]}. "
            "Restore the file, or train the model again with --force."
        ) from error
    return contents
