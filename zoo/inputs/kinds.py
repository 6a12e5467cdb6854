"""The kinds of input that there are."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from zoo.errors import CardError
from zoo.inputs.image_kind import ImageKind
from zoo.inputs.kind import InputKind, InputRecord, registered
from zoo.inputs.signal import Signal
from zoo.inputs.tensors import Tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from zoo.inputs.image import ImageLike

__all__ = ["IMAGE", "InputLike", "Signal", "Tensors", "check_images", "kind_of"]

IMAGE = ImageKind()
# One input of any kind: for images see ImageLike; of signals an array, bytes or the path of a file;
# of tensors arrays by name, or the path of a file.
InputLike: TypeAlias = "ImageLike | bytes | bytearray | memoryview | NDArray[Any] | Mapping[str, Any]"


def kind_of(record: InputRecord | None) -> InputKind:
    """The kind that a record names; images where there is none.

    Raises
    ------
    ValueError
        For an unknown kind, or settings that it does not have.
    """
    return IMAGE if record is None else _kind_of(msgspec.json.encode(record, order="deterministic"))


def check_images(kind: InputKind, what: str) -> None:
    """Raise :class:`CardError` where models take other inputs, for what is made for images alone.

    Examples
    --------
    >>> from zoo.inputs.kinds import IMAGE, check_images
    >>> check_images(IMAGE, "zoo cut")
    """
    if kind != IMAGE:
        raise CardError(
            f"{what}: expected models that take images, got some that take {kind}. "
            "For these, add models of several sizes with 'zooselect zoo add'."
        )


@lru_cache(maxsize=256)
def _kind_of(encoded: bytes) -> InputKind:
    record = msgspec.json.decode(encoded, type=InputRecord)
    kind = registered(record.kind)
    unknown = set(record.settings) - {field.name for field in msgspec.inspect.type_info(kind).fields}  # type: ignore[attr-defined]
    if unknown:
        raise ValueError(f"input: {record.kind!r} has no settings {', '.join(sorted(unknown))}")
    try:
        return msgspec.convert(record.settings, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"input: {error}") from error
