"""Who may see which sample: splits by a hash of the original, so that variants of one image stay together."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.data.images import LabelledImages
from zoo.errors import DataError
from zoo.models.card import ModelCard

TRAIN, FIT, TUNE, CERTIFY, TEST = "train", "fit", "tune", "certify", "test"
INDEPENDENT = (CERTIFY, TEST)

Names = NDArray[np.str_]


@dataclass(frozen=True)
class Splits:
    """Shares of the originals for each purpose.

    Parameters
    ----------
    seed
        Another seed deals the originals out anew.
    train
        Share of all originals that models are trained on, in [0, 1]; with 1 none is left to judge them.
    fit, tune, certify, test
        Shares of the rest for fitting a selector, tuning it, proving its precision and judging it; they sum
        to 1.

    Raises
    ------
    DataError
        When a share is out of range or the shares of the rest do not sum to 1.

    Examples
    --------
    >>> from training.data.splits import Splits
    >>> splits = Splits(fit=0.3, tune=0.1, certify=0.4, test=0.2)
    >>> set(splits.assign([f"photo {i}" for i in range(100)]).tolist())  == {"fit", "tune", "certify", "test"}
    True
    """

    seed: int = 0
    train: float = 0.0
    fit: float = 0.4
    tune: float = 0.1
    certify: float = 0.25
    test: float = 0.25

    def __post_init__(self) -> None:
        rest = self._rest.values()
        if not 0 <= self.train <= 1:
            raise DataError(f"expected a training share between 0 and 1, got {self.train}.")
        if not all(0 <= share <= 1 for share in rest) or not math.isclose(sum(rest), 1, abs_tol=1e-9):
            raise DataError(
                "expected shares for fit, tune, certify and test between 0 and 1 that sum to 1, got "
                f"{' + '.join(f'{share:g}' for share in rest)} = {sum(rest):g}. Correct one of them."
            )

    def assign(self, groups: Sequence[str]) -> Names:
        """The split of every sample: ``train``, ``fit``, ``tune``, ``certify`` or ``test``.

        A group's split depends on the group, the seed and the shares only, never on the other groups, so it
        stays when samples come or go. Which groups are for training depends on the seed and `train` only.

        Parameters
        ----------
        groups
            The original of every sample.

        Examples
        --------
        >>> Splits().assign(["one photo", "one photo"]).tolist()
        ['fit', 'fit']
        """
        names, shares = list(self._rest), list(self._rest.values())
        edges = np.cumsum(shares[:-1])
        split_of: dict[str, str] = {}
        for group in groups:
            if group not in split_of:
                if _uniform(self.seed, TRAIN, group) < self.train:
                    split_of[group] = TRAIN
                else:
                    place = int(np.searchsorted(edges, _uniform(self.seed, "rest", group), side="right"))
                    while shares[place] == 0:  # rounding in the sum must not lead to a split without a share
                        place -= 1
                    split_of[group] = names[place]
        return np.array([split_of[group] for group in groups], dtype="U7")

    def divide(self, data: LabelledImages, *, seen: NDArray[np.bool_] | None = None) -> Names:
        """Like :meth:`assign` for a data set, after checking that every split can do its work.

        Parameters
        ----------
        seen
            Which samples are training samples whatever their split would be, bool ``[n]``.

        Raises
        ------
        DataError
            When a split with a share comes out empty, or a class is missing where a model learns from it.

        Examples
        --------
        >>> sorted(set(Splits().divide(data).tolist()))
        ['certify', 'fit', 'test', 'tune']
        """
        names = self.assign(data.groups)
        if seen is not None:
            names[seen] = TRAIN
        for split, share in {TRAIN: self.train, **self._rest}.items():
            if share > 0:
                _check_part(data, names == split, split, share)
        return names

    def training_part(self, data: LabelledImages) -> LabelledImages:
        """The samples of `data` that models are trained on.

        Raises
        ------
        DataError
            When there is none, or a class is missing among them.

        Examples
        --------
        >>> 0 < len(Splits(train=0.5).training_part(data)) < len(data)
        True
        """
        if self.train == 0:
            raise DataError("expected a training share above 0, got 0. Give one, such as 0.4.")
        chosen = self.assign(data.groups) == TRAIN
        _check_part(data, chosen, TRAIN, self.train)
        return data.subset(chosen)

    @property
    def _rest(self) -> dict[str, float]:
        return {FIT: self.fit, TUNE: self.tune, CERTIFY: self.certify, TEST: self.test}


def one_environment_per_group(
    groups: Sequence[str], environments: Sequence[str], splits: Sequence[str] | Names, *, seed: int = 0
) -> NDArray[np.bool_]:
    """Mask of the samples to use: in ``certify`` and ``test`` exactly one for each original, elsewhere all.

    Statistics with guarantees need independent draws, which variants of one original are not. The environment
    is chosen by a hash of the seed and the original, uniformly among those it has.

    Parameters
    ----------
    groups, environments, splits
        Original, environment and split of every sample.

    Returns
    -------
    bool ``[n]``.
    """
    used = np.ones(len(groups), dtype=np.bool_)
    best: dict[str, tuple[float, int]] = {}
    for i, (group, environment, split) in enumerate(zip(groups, environments, splits, strict=True)):
        if split in INDEPENDENT:
            used[i] = False
            draw = _uniform(seed, f"environment {environment}", group)
            if group not in best or draw < best[group][0]:
                best[group] = (draw, i)
    used[[i for _, i in best.values()]] = True
    return used


def without_training_images(splits: Splits, cards: Iterable[ModelCard], data: LabelledImages) -> Splits:
    """The same splits with the training share set so that no model is judged on what it was trained on.

    Parameters
    ----------
    cards
        Models that will be run over `data`. Those trained on other data do not matter.

    Raises
    ------
    DataError
        When two of the models were trained on different parts of `data`.
    """
    known = {data.sha256, data.originals_sha256}
    parts = {
        (part.seed, part.share) for card in cards for part in card.learned_from if part.data_sha256 in known
    }
    if len(parts) > 1:
        raise DataError(
            "expected models that were trained on the same part of these images, got parts "
            f"{', '.join(f'(seed {seed}, share {share:g})' for seed, share in sorted(parts))}. "
            "Train them again with one seed and share, or profile them on other images."
        )
    for seed, share in parts:
        return replace(splits, seed=seed, train=share)
    return splits


def _check_part(data: LabelledImages, chosen: NDArray[np.bool_], split: str, share: float) -> None:
    few = f"{len(set(data.groups))} originals are too few"
    advice = "Give more labelled images or a larger share."
    if not chosen.any():
        raise DataError(f"{few}: none of them fell into the split {split!r} (share {share:g}). {advice}")
    missing = sorted(set(range(len(data.classes))) - set(data.labels[chosen].tolist()))
    # a selector can do without: it learns when models are right, not what is shown
    if missing and split == TRAIN:
        names = ", ".join(repr(data.classes[i]) for i in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise DataError(f"{few}: the split {split!r} holds no image of {names}{more}. {advice}")


def _uniform(seed: int, purpose: str, group: str) -> float:
    digest = hashlib.sha256(f"{seed}\0{purpose}\0{group}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
