"""Compressed models enter a zoo: quantised, compared with their parent, then recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from zoo.convert.count import add_counted
from zoo.convert.exchange import difference
from zoo.convert.head import has_embedding, with_embedding, without_embedding
from zoo.convert.int8.calibration import GOOD_AGREEMENT, MIN_AGREEMENT, Quantised, quantize_best
from zoo.errors import ModelError
from zoo.inputs.kind import Item
from zoo.models.card import ModelCard, TrainedOn
from zoo.models.model import read_graph
from zoo.models.zoo import Zoo


def add_int8(
    zoo: Zoo,
    parent: str,
    images: Sequence[Item],
    *,
    held_out: Sequence[Item] = (),
    calibrated_on: TrainedOn | None = None,
    name: str | None = None,
    like: str | None = None,
    force: bool = False,
    tell: Callable[[Quantised], None] = lambda _: None,
    embedding: bool = False,
    enough: float = GOOD_AGREEMENT,
    progress: bool = False,
) -> ModelCard:
    """Quantise a model of `zoo` to 8-bit integers and add the result as ``<parent>-int8``.

    The card's source says how ranges were measured and how often the two agree. It ends with the first 12
    digits of the parent's digest, so that a result whose parent has been replaced since can be told.

    Parameters
    ----------
    images
        Calibration images, uint8 ``[H, W, 3]`` each, or inputs of another kind; see
        :func:`zoo.convert.int8.calibration.quantize_best`.
    held_out
        Images on which the result is compared with its parent; by default every fourth of `images`.
    calibrated_on
        The part of the data that holds all these images, so that they do not judge the result. A model that
        was trained on a known part keeps that one.
    like
        For an adapted model: the 8-bit version of its parent, by default ``<its parent>-int8`` where the zoo
        holds it. What the two share then stays the same, byte by byte.
    force
        Replace a different model of the same name, and add the result even where it differs too much.
    tell
        Is called with what was tried, before anything is added or refused.
    embedding
        Also give what goes into the last layer, as a second output; as ever where the parent does.
    enough
        See :func:`zoo.convert.int8.calibration.quantize_best`.
    progress
        Show a bar when it takes longer than two seconds.

    Raises
    ------
    ModelError
        When no calibration keeps the answers: the best one gives the parent's class to less than
        :data:`zoo.convert.int8.calibration.MIN_AGREEMENT` of the held-out images.
    ZooError
        What :func:`zoo.convert.int8.compress.quantize_int8` and :meth:`zoo.Zoo.add` raise.
    """
    card = zoo.card(parent)
    name = name or f"{parent}-int8"
    if name == parent:
        raise ModelError(
            f"expected a name of its own for the compressed model, got that of its parent {parent!r}."
        )
    original = read_graph(card, zoo.folder)
    kin = _kin(zoo, card, like)
    other = None if kin is None else read_graph(kin, zoo.folder)
    if has_embedding(original):  # goes out and in again: it is to be taken before it is rounded
        embedding, original = True, without_embedding(original)
    quantised = quantize_best(
        original,
        images,
        name=name,
        kind=card.kind,
        held_out=held_out,
        like=other,
        enough=enough,
        progress=progress,
    )
    tell(quantised)
    if quantised.too_different and not force:
        raise ModelError(_too_different(quantised, parent))
    content = quantised.content
    if embedding:
        content = with_embedding(content, classes=len(card.classes), name=name)
    adapted = card.adapted
    if adapted is not None and kin is not None and other is not None:
        adapted = msgspec.structs.replace(
            adapted,
            parent=kin.name,
            parent_sha256=kin.sha256,
            changed_bytes=max(1, difference(other, content).changed_bytes),
        )
    return add_counted(
        zoo,
        name,
        content,
        card.classes,
        card.resolution,
        kind=card.kind,
        source=(
            f"static quantisation on {quantised.images} images, {quantised.describe()}, "
            f"of {parent} {card.sha256[:12]}"
        ),
        parent=parent,
        compression="int8",
        trained_on=card.trained_on or calibrated_on,
        adapted=adapted,
        force=force,
    )


def _too_different(quantised: Quantised, parent: str) -> str:
    return (
        f"expected an 8-bit version that gives the class of {parent!r} to at least {MIN_AGREEMENT:.0%} of "
        f"the held-out images, got {quantised.best.agreement:.1%} of {quantised.held_out} with the best of "
        f"{len(quantised.trials)} calibrations ({quantised.best.calibration}). Calibrate on more images like "
        "those of the device, distil a smaller model instead (--method distill), or keep the float one. "
        "To add it all the same: --force (in Python: force=True)."
    )


def _kin(zoo: Zoo, card: ModelCard, like: str | None) -> ModelCard | None:
    """The 8-bit model that the one of an adapted model shares its codes with."""
    if like is None and card.adapted is not None and f"{card.adapted.parent}-int8" in zoo.names:
        like = f"{card.adapted.parent}-int8"
    if like is None:
        return None
    kin = zoo.card(like)
    if kin.compression != "int8":
        raise ModelError(f"expected an 8-bit model to share codes with, got {like!r}. Name another.")
    return kin
