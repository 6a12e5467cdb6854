"""Model cards and the zoo manifest: the facts about every model, as frozen, validated records."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from zoo.errors import CardError, ClassMismatchError, ModelNotFoundError
from zoo.files import record_schema
from zoo.inputs.record import InputRecord
from zoo.remote.descriptor import Remote
from zoo.types import Name, NonNegative, Positive, Sha256, Share, check_relative

if TYPE_CHECKING:
    from zoo.inputs.kind import InputKind

SCHEMA_VERSION = 5  # since 2, a card may say that its model was adapted; since 3, that a server holds it;
KINDS_VERSION = 4  # since 4, that it takes another kind of input than images; since 5, both of these
REMOTE_VERSION = 3
LOCAL_VERSION = 2  # the oldest that holds the models is written, so that older readers go on reading

Compression = Literal["none", "int8", "distilled"]
Changed = Literal["normalisation", "biases", "head"]


class TrainedOn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which part of which data set a model was trained on, so that the same images never judge it.

    Examples
    --------
    >>> from zoo import TrainedOn
    >>> TrainedOn(data_sha256="0" * 64, share=0.5, seed=0).share
    0.5
    """

    data_sha256: Sha256  # digest of the labelled images
    share: Share  # share of the groups (originals) used for training
    seed: int  # seed of the split


class Adapted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a model differs from the one that it was adapted from: some small tensors, and nothing else.

    Examples
    --------
    >>> [card.adapted.environment for card in zoo.cards if card.adapted is not None]
    []
    """

    environment: Name  # what its images show, such as "dark"
    parent: Name  # the model that all other tensors are shared with
    parent_sha256: Sha256  # of that model's ONNX file
    changed: Annotated[tuple[Changed, ...], Meta(min_length=1)]
    changed_bytes: Positive  # of the tensors that differ
    samples: Positive  # images that it learned from
    labels: str = "given"  # or the name of the model whose answers were taken for right
    trained_on: TrainedOn | None = None  # the part of the data that holds these images


class ModelCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model's facts.

    Every model takes ``image`` (uint8 ``[N, H, W, 3]``, RGB, any H, W >= 1), or what its
    :attr:`kind` of input says, and returns ``logits`` (float32 ``[N, C]`` with C = ``len(classes)``).

    Examples
    --------
    >>> card = zoo.card("tiny")
    >>> card.name, card.classes, card.compression
    ('tiny', ('red', 'green', 'blue'), 'none')
    """

    name: Name
    classes: Annotated[tuple[str, ...], Meta(min_length=2)]
    # height, width in pixels that the graph resizes to; of other kinds of input 1, and what the graph reads
    resolution: tuple[Positive, Positive]
    file: str  # path of the ONNX file, relative to the manifest, with forward slashes
    sha256: Sha256  # of the ONNX file
    size_bytes: Positive  # of the ONNX file
    parameters: NonNegative
    macs: NonNegative  # multiply-accumulates for one image at `resolution`
    task: str = "classification"
    compression: Compression = "none"
    parent: Name | None = None  # the model that this one was compressed, distilled or adapted from
    source: str = ""  # where the weights come from, in words
    trained_on: TrainedOn | None = None
    adapted: Adapted | None = None
    # Left out of what is written where there is none: older readers know no such field.
    remote_model: Remote | UnsetType = msgspec.field(default=UNSET, name="remote")
    input_record: InputRecord | UnsetType = msgspec.field(default=UNSET, name="input")  # where it is no image

    @property
    def kind(self) -> InputKind:
        """The kind of input that the model takes.

        Examples
        --------
        >>> zoo.card("tiny").kind.noun
        'image'
        """
        from zoo.inputs.kinds import kind_of

        return kind_of(None if self.input_record is UNSET else self.input_record)

    @property
    def remote(self) -> Remote | None:
        """Where the model is asked, if a server holds it; `file` is then a descriptor, no graph."""
        return None if self.remote_model is UNSET else self.remote_model

    @property
    def sends_image(self) -> bool:
        """Whether an answer sends the image itself to a server: what ``--raw-stays`` rules out.

        It does where the server holds the whole model, and where a head without a layer sends the picture,
        resized and scaled. What other codes tell about the image is not judged.

        Examples
        --------
        >>> zoo.card("tiny").sends_image
        False
        """
        remote = self.remote
        return remote is not None and (remote.input_layout != "features" or self.macs == 0)

    @property
    def learned_from(self) -> tuple[TrainedOn, ...]:
        """All known parts of data sets that shaped the model; none of these images may judge it."""
        later = None if self.adapted is None else self.adapted.trained_on
        return tuple(part for part in (self.trained_on, later) if part is not None)

    def __post_init__(self) -> None:
        check_relative(self.file)
        if self.remote is not None:
            _check_sent(self.kind, self.remote)
        if len(set(self.classes)) != len(self.classes):
            twice = [name for name, count in Counter(self.classes).items() if count > 1]
            more = f" and {len(twice) - 3} more" if len(twice) > 3 else ""
            raise ValueError(f"classes must be distinct, got twice: {', '.join(map(repr, twice[:3]))}{more}")


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The models of one zoo, in the order in which they were added.

    Examples
    --------
    >>> zoo.manifest.names
    ('tiny', 'small', 'full')
    """

    schema_version: Positive
    models: tuple[ModelCard, ...]

    def __post_init__(self) -> None:
        names = [card.name for card in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"model names must be distinct, got twice: {', '.join(twice)}")
        kinds = {str(card.kind) for card in self.models}
        if len(kinds) > 1:
            raise ValueError(f"models must take one kind of input, got {' and '.join(sorted(kinds))}")

    @classmethod
    def of(cls, models: tuple[ModelCard, ...]) -> Manifest:
        """The manifest of `models`, of the oldest version that can hold them.

        Examples
        --------
        >>> from zoo import Manifest
        >>> Manifest.of(zoo.cards).schema_version
        2
        """
        remote = any(card.remote is not None for card in models)
        version = REMOTE_VERSION if remote else LOCAL_VERSION
        if any(card.kind.record is not None for card in models):
            version = SCHEMA_VERSION if remote else KINDS_VERSION
        return cls(schema_version=version, models=models)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all models."""
        return tuple(card.name for card in self.models)

    def card(self, name: str) -> ModelCard:
        """The card of the model `name`.

        Raises
        ------
        ModelNotFoundError
            When there is none.

        Examples
        --------
        >>> zoo.manifest.card("small").size_bytes > 0
        True
        """
        for card in self.models:
            if card.name == name:
                return card
        raise ModelNotFoundError(
            f"no model {name!r} in this zoo. It holds: {', '.join(self.names) or 'nothing yet'}."
        )


def _check_sent(kind: InputKind, remote: Remote) -> None:
    """Check that a server is sent what its card says is handed over; raises ValueError."""
    arrays = () if remote.arrays is UNSET else remote.arrays
    if (kind.record is None) != (not arrays):
        raise ValueError(f"remote: expected a layout of {kind.noun}s, got {remote.input_layout!r}")
    known = {one.name for one in kind.inputs}
    if unknown := [one.array for one in arrays if one.array not in known]:
        raise ValueError(f"remote: expected arrays among {', '.join(sorted(known))}, got {unknown[0]!r}")


def manifest_json_schema() -> dict[str, Any]:
    """JSON Schema of the manifest file, for other programs that read or write one."""
    return record_schema(Manifest)


def match_classes(data_classes: tuple[str, ...], model_classes: tuple[str, ...], *, model: str) -> list[int]:
    """For every class of a data set, its index among a model's classes, matched by name.

    Raises
    ------
    ClassMismatchError
        When the data set has a class that the model does not know; the message lists the names.
    """
    index = {name: i for i, name in enumerate(model_classes)}
    missing = [name for name in data_classes if name not in index]
    if missing:
        unused = [name for name in model_classes if name not in set(data_classes)]
        raise ClassMismatchError(
            f"model {model!r} does not know {_some(missing)} of the data set; "
            f"its classes that the data set does not have: {_some(unused) if unused else 'none'}. "
            "Rename the class folders, or give the model's class names in their order when adding it."
        )
    return [index[name] for name in data_classes]


def check_same_classes(cards: tuple[ModelCard, ...]) -> tuple[str, ...]:
    """The classes that all models share, in the first model's order.

    Raises
    ------
    CardError
        When there is no model.
    ClassMismatchError
        When two models answer with different class names.
    """
    if not cards:
        raise CardError("expected at least one model, got an empty zoo. Add one: zooselect zoo add --help")
    first = cards[0]
    for card in cards[1:]:
        if set(card.classes) != set(first.classes):
            only_first = [name for name in first.classes if name not in set(card.classes)]
            only_other = [name for name in card.classes if name not in set(first.classes)]
            raise ClassMismatchError(
                f"models {first.name!r} and {card.name!r} answer with different classes: "
                f"only {first.name!r}: {_some(only_first)}; only {card.name!r}: {_some(only_other)}. "
                "A selector needs models of one task."
            )
    return first.classes


def _some(names: list[str], most: int = 8) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "none"
