"""Records of cuts: what sending a tensor instead of the image takes, as measured on one machine."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from zoo.errors import CardError, StaleError, ZooError
from zoo.files import encode_record, read_record, read_verified, write_atomic
from zoo.models.card import ModelCard
from zoo.models.timing import Machine
from zoo.types import Name, NonNegative, Positive, Sha256, check_relative

SCHEMA_VERSION = 1
CUTS_FOLDER = "cuts"  # beside zoo.json
PARTS_FILE = "parts.json"

Record = TypeVar("Record", "CutTable", "Parts")
Milliseconds = Annotated[float, Meta(ge=0)]
Bytes = Annotated[float, Meta(ge=0)]  # for one image, the mean over images


class Encoded(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way of putting something into bytes: how many, and what making and reading them takes."""

    encoding: str  # "raw", "png" or "jpeg" of an image; "8-bit" or "packed" of a tensor
    size_bytes: Bytes
    encode_ms: Milliseconds = 0.0
    decode_ms: Milliseconds = 0.0


class Cut(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One place at which a model falls into two parts, and what these take for one image."""

    tensor: str  # name of the tensor that crosses
    shape: Annotated[tuple[Positive, ...], Meta(min_length=1)]  # for one image
    float_bytes: Positive
    macs_before: NonNegative
    head_ms: Milliseconds  # image → 8-bit codes
    tail_ms: Milliseconds  # codes → logits
    encoded: Annotated[tuple[Encoded, ...], Meta(min_length=1)]

    @property
    def shows_image(self) -> bool:
        """Whether the tensor is still the picture, resized and scaled: no layer has seen it yet."""
        return self.macs_before == 0


class CutTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All places of one model, and what the whole of it takes."""

    schema_version: Positive
    model: Name
    sha256: Sha256  # of the model's file
    macs: NonNegative
    images: Positive  # that bytes are means of
    classes: Positive
    whole_ms: Milliseconds
    encoded: Annotated[tuple[Encoded, ...], Meta(min_length=1)]  # of the image
    cuts: tuple[Cut, ...]
    threads: Positive
    machine: Machine

    def share_before(self, cut: Cut) -> float:
        """Share of the multiply-accumulates that are done before a place."""
        return cut.macs_before / self.macs if self.macs else 0.0


def table_path(folder: str | Path, name: str) -> Path:
    """Where a zoo keeps the cuts of a model."""
    return Path(folder) / CUTS_FOLDER / f"{name}.json"


def save_cuts(table: CutTable, folder: str | Path) -> Path:
    """Write the cuts of a model beside its zoo, atomically; gives the path."""
    path = table_path(folder, table.model)
    write_atomic(path, encode_record(table))
    return path


def load_cuts(folder: str | Path, card: ModelCard) -> CutTable:
    """Read the cuts of a model of the zoo in `folder`.

    Raises
    ------
    CardError
        When there are none yet, or the file does not validate.
    StaleError
        When the model has been replaced since.
    """
    measure = f"Measure them with 'zooselect zoo cut {card.name} --data IMAGES --zoo {folder}'."
    return _current(CutTable, "cuts", table_path(folder, card.name), card, measure)


class PartFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One part of a model that was cut, as an ONNX file."""

    file: str  # beside the record
    sha256: Sha256
    size_bytes: Positive


class Parts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The two parts that together answer as one model of a zoo.

    The head takes ``image`` (uint8 ``[N, H, W, 3]``) and returns ``codes`` (`datatype`, ``[N, *shape]``); the
    tail takes these and returns ``logits`` (float32 ``[N, C]``).
    """

    schema_version: Positive
    model: Name  # that they answer as
    sha256: Sha256  # of its file
    parent: Name  # the model that was cut
    parent_sha256: Sha256
    tensor: str  # where
    shape: Annotated[tuple[Positive, ...], Meta(min_length=1)]
    datatype: Literal["UINT8", "INT8"]
    classes: Annotated[tuple[str, ...], Meta(min_length=2)]
    head: PartFile
    tail: PartFile

    def __post_init__(self) -> None:
        for part in (self.head, self.tail):
            check_relative(part.file)


def keeping_images(cards: Iterable[ModelCard]) -> tuple[str, ...]:
    """Names of the models whose answers leave the image on the device, in the same order.

    Examples
    --------
    >>> from zoo.models.cuts import keeping_images
    >>> keeping_images(zoo.cards)
    ('tiny', 'small', 'full')
    """
    return tuple(card.name for card in cards if not card.sends_image)


def parts_folder(folder: str | Path, name: str) -> Path:
    """Where a zoo keeps the parts of a model that was made by cutting another one."""
    return Path(folder) / CUTS_FOLDER / name


def save_parts(parts: Parts, head: bytes, tail: bytes, folder: str | Path) -> Path:
    """Write the parts of a model beside its zoo, their record last; gives their folder."""
    where = parts_folder(folder, parts.model)
    write_atomic(where / parts.head.file, head)
    write_atomic(where / parts.tail.file, tail)
    write_atomic(where / PARTS_FILE, encode_record(parts))
    return where


def load_parts(folder: str | Path, card: ModelCard) -> Parts:
    """Read which parts answer as a model of the zoo in `folder`; the files are not read.

    Raises
    ------
    CardError
        When there are none, or the record does not validate.
    StaleError
        When the model has been replaced since.
    """
    again = f"Cut it again: zooselect zoo cut {card.parent or 'NAME'} --at PLACE --name {card.name}"
    return _current(Parts, "parts", parts_folder(folder, card.name) / PARTS_FILE, card, again)


def read_part(folder: str | Path, parts: Parts, which: Literal["head", "tail"]) -> bytes:
    """The ONNX file of one part, verified; raises :class:`zoo.errors.DigestError`."""
    part = parts.head if which == "head" else parts.tail
    return read_verified(parts_folder(folder, parts.model) / part.file, part.sha256, part.size_bytes)


def rename_cuts(folder: str | Path, old: str, new: str) -> None:
    """Let what is known of the cuts of a model, and of its parts, have the model's new name.

    What is kept under the old name stays until :func:`remove_cuts`. A record that does not validate is of no
    use and does not come along.
    """
    with suppress(ZooError, FileNotFoundError):
        table = read_record(table_path(folder, old), CutTable, schema_version=SCHEMA_VERSION)
        save_cuts(msgspec.structs.replace(table, model=new), folder)
    for path in (Path(folder) / CUTS_FOLDER).glob(f"*/{PARTS_FILE}"):
        with suppress(ZooError, FileNotFoundError):
            parts = read_record(path, Parts, schema_version=SCHEMA_VERSION)
            if parts.model == path.parent.name == old:
                head, tail = (read_part(folder, parts, which) for which in ("head", "tail"))
                save_parts(msgspec.structs.replace(parts, model=new), head, tail, folder)
            elif parts.parent == old:
                write_atomic(path, encode_record(msgspec.structs.replace(parts, parent=new)))


def remove_cuts(folder: str | Path, name: str) -> None:
    """Delete what is known of the cuts of a model, and its parts; files of others stay."""
    table_path(folder, name).unlink(missing_ok=True)
    where = parts_folder(folder, name)
    with suppress(ZooError, FileNotFoundError):
        parts = read_record(where / PARTS_FILE, Parts, schema_version=SCHEMA_VERSION)
        (where / PARTS_FILE).unlink()
        for part in (parts.head, parts.tail):
            (where / part.file).unlink(missing_ok=True)
    for empty in (where, where.parent):
        with suppress(OSError):  # it is not there, or holds files of others
            empty.rmdir()


def _current(kind: type[Record], what: str, path: Path, card: ModelCard, advice: str) -> Record:
    """What is recorded about a model, which must be as it is in the zoo."""
    if not path.is_file():
        raise CardError(f"expected the {what} of model {card.name!r} in {path}, got no file. {advice}")
    record = read_record(path, kind, schema_version=SCHEMA_VERSION)
    if (record.model, record.sha256) != (card.name, card.sha256):
        raise StaleError(
            f"{path}: expected the {what} of model {card.name!r} as it is in the zoo, got those of "
            f"{record.model!r} {record.sha256[:12]}. {advice}"
        )
    return record
