"""What a server says about a model, turned into how it is asked: a pure function of its metadata."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import msgspec

from zoo.errors import ModelError
from zoo.inputs.kind import InputKind, InputRecord
from zoo.inputs.kinds import IMAGE, kind_of
from zoo.remote.arrays import WHOLE, Ends, arrays_for
from zoo.remote.descriptor import ARRAYS, Encoding, InputLayout, OutputKind, Pixels, Remote
from zoo.remote.protocol import BYTES, ModelMetadata, TensorMetadata

_FLOATS = ("FP32", "FP16", "FP64")
UPGRADE = "Install the version of zooselect that the server has."
OTHER_KIND = "Leave --signal and --tensors out, or add it to a zoo of that kind: --zoo FOLDER."
CLASSES = "classes"  # parameter of a model's metadata that names them, where the server is ours
ENCODINGS = "encodings"  # parameter that says that its input takes files as well, as BYTES [N]
INPUT = "input"  # parameter that says what kind of input it takes, as cards do; without: images


@dataclass(frozen=True)
class Wanted:
    """What the user says about a remote model; what is left out is taken from the server.

    Examples
    --------
    >>> from zoo.remote.discover import Wanted
    >>> Wanted(size=(224, 224), scale="0..1").encoding is None
    True
    """

    kind: InputKind | None = None  # of its inputs
    ends: Ends = WHOLE  # what it takes of a signal; of tensors, what fills those that are too short
    tensors: bool = False  # it takes named arrays: those of the zoo, or its own where it is the first model
    length: int | None = None  # of its arrays, where their first axis is free
    classes: tuple[str, ...] = ()
    size: tuple[int, int] | None = None  # height, width
    encoding: Encoding | None = None
    quality: int = 90  # of JPEG
    layout: Literal["nhwc", "nchw"] | None = None
    scale: Literal["0..1", "0..255"] | None = None  # of pixels where the input is of real numbers
    mean: tuple[float, float, float] | None = None  # on the scale 0..1
    std: tuple[float, float, float] | None = None
    crop: float | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None
    channels: Literal["rgb", "bgr"] | None = None
    input: str = ""
    output: str = ""
    output_kind: OutputKind = "logits"


def discover(
    address: str,
    metadata: ModelMetadata,
    wanted: Wanted,
    *,
    version: str = "",
    token_env: str = "",
    token_file: str = "",
    deadline_ms: int = 10_000,
) -> tuple[Remote, tuple[str, ...]]:
    """How to ask the model of `metadata`, and its classes.

    Raises
    ------
    ModelError
        When it is no classifier that can be asked; the message says what is missing.

    Examples
    --------
    >>> from zoo.remote.discover import Wanted, discover
    >>> from zoo.remote.protocol import ModelMetadata, TensorMetadata
    >>> image = TensorMetadata(name="image", datatype="UINT8", shape=(-1, -1, -1, 3))
    >>> logits = TensorMetadata(name="logits", datatype="FP32", shape=(-1, 2))
    >>> metadata = ModelMetadata(name="m", inputs=(image,), outputs=(logits,))
    >>> remote, classes = discover("https://models.example.org", metadata, Wanted(classes=("cat", "dog")))
    >>> remote.input_layout, classes
    ('nhwc', ('cat', 'dog'))
    """
    name = metadata.name
    kind = kind_there(metadata, wanted)
    if kind == IMAGE:
        source = _one(name, "input", metadata.inputs, wanted.input)
        offered = (metadata.parameters or {}).get(ENCODINGS)
        if isinstance(offered, list) and wanted.encoding != "tensor" and wanted.encoding in offered:
            source = TensorMetadata(name=source.name, datatype=BYTES, shape=(-1,))
        facts = (
            _file_input(name, source, wanted) if source.datatype == BYTES else _pixels(name, source, wanted)
        )
        sources = [source]
    else:
        sources = _several(name, metadata.inputs, wanted.input)
        facts = {"input_layout": ARRAYS, "arrays": arrays_for(name, kind, sources, wanted.ends)}
        source = sources[0]
    result = _one(name, "output", metadata.outputs, wanted.output)
    if result.datatype not in _FLOATS:
        raise _no(name, f"an output of {', '.join(_FLOATS)}", f"{result.name!r} {result.datatype}")
    classes = _classes(name, metadata, wanted)
    width = math.prod(size for size in result.shape[1:])
    if len(result.shape) < 2 or (min(result.shape[1:]) > 0 and width != len(classes)):
        raise ModelError(
            f"remote model {name!r}: expected {len(classes)} values for {len(classes)} classes, got an "
            f"output {result.name!r} {list(result.shape)}. Give the names of its own classes with --classes."
        )
    given: dict[str, Any] = {
        "address": address,
        "model": name,
        "version": version,
        "input_name": source.name,
        "input_datatype": source.datatype,
        "input_rank": len(source.shape),
        "output_name": result.name,
        "output_datatype": result.datatype,
        "output_kind": wanted.output_kind,
        "batch": min((one for one in map(partial(_batch, name), sources) if one), default=None),
        "quality": wanted.quality,
        "token_env": token_env,
        "token_file": token_file,
        "deadline_ms": deadline_ms,
        **facts,
    }
    try:
        return msgspec.convert(given, Remote), classes
    except msgspec.ValidationError as error:
        raise ModelError(f"remote model {name!r} cannot be added: {error}. Correct it.") from error


def kind_there(metadata: ModelMetadata, wanted: Wanted) -> InputKind:
    """The kind of input that a model takes, as its server or the user says; images where neither does.

    Raises
    ------
    ModelError
        When they say different ones, or the server one that is not known here.

    Examples
    --------
    >>> from zoo.remote.discover import Wanted, kind_there
    >>> from zoo.remote.protocol import ModelMetadata
    >>> metadata = ModelMetadata(name="m", parameters={"input": {"kind": "signal", "settings": {}}})
    >>> kind_there(metadata, Wanted()).noun
    'signal'
    """
    said = (metadata.parameters or {}).get(INPUT)
    if said is None:
        return wanted.kind or IMAGE
    try:
        kind = kind_of(msgspec.convert(said, InputRecord))
    except ValueError as error:
        raise _no(metadata.name, "a kind of input that is known here", f"{error}", UPGRADE) from error
    if wanted.kind not in (None, kind):
        raise _no(metadata.name, f"{wanted.kind}", f"one of {kind}, as its server says", OTHER_KIND)
    return kind


def _no(name: str, expected: str, got: str, advice: str = "") -> ModelError:
    return ModelError(
        f"remote model {name!r}: expected {expected}, got {got}. "
        + (advice or "A remote model is a classifier that returns one value a class.")
    )


def _one(name: str, what: str, found: tuple[TensorMetadata, ...] | None, wanted: str) -> TensorMetadata:
    names = [item.name for item in found or ()]
    if not names:
        raise _no(name, f"a server that describes its {what}s", "none", "Declare them in its settings there.")
    if wanted:
        names = [item for item in names if item == wanted]
    if len(names) != 1:
        there = ", ".join(repr(item.name) for item in found or ())
        raise _no(
            name, f"one {what}" + f" {wanted!r}" * bool(wanted), there, f"Choose one of them with --{what}."
        )
    return next(item for item in found or () if item.name == names[0])


def _several(name: str, found: tuple[TensorMetadata, ...] | None, wanted: str) -> list[TensorMetadata]:
    """The inputs of a model; the one that is `wanted`, or all."""
    if wanted or not found:
        return [_one(name, "input", found, wanted)]
    return [*found]


def _batch(name: str, source: TensorMetadata) -> int | None:
    first = source.shape[0] if source.shape else 0
    if first not in (-1, 1):
        raise _no(name, "an input for any number of images, or for one", f"{list(source.shape)}")
    return None if first == -1 else 1


def _file_input(name: str, source: TensorMetadata, wanted: Wanted) -> dict[str, Any]:
    if (
        wanted.encoding == "tensor"
        or not 1 <= len(source.shape) <= 2
        or source.shape[1:] not in ((), (1,), (-1,))
    ):
        raise _no(
            name,
            "files of images" if wanted.encoding != "tensor" else "a tensor of pixels",
            f"an input {source.name!r} BYTES {list(source.shape)}",
        )
    pixels = Pixels(size=wanted.size, crop=wanted.crop, interpolation=wanted.interpolation or "bilinear")
    return {"input_layout": "bytes", "encoding": wanted.encoding or "jpeg", "pixels": pixels}


def _pixels(name: str, source: TensorMetadata, wanted: Wanted) -> dict[str, Any]:
    shape = list(source.shape)
    got = f"an input {source.name!r} {source.datatype} {shape}"
    if wanted.encoding not in (None, "tensor"):
        raise _no(name, f"an input of BYTES for {wanted.encoding}", got, "Leave --encoding out.")
    if source.datatype not in ("UINT8", *_FLOATS) or len(shape) != 4:
        wanted_form = f"an input of 4 axes of UINT8 or {', '.join(_FLOATS)}, or of BYTES"
        raise _no(name, wanted_form, got, "For other inputs than images give --signal or --tensors.")
    fits: list[InputLayout] = []
    if shape[3] == 3 or (shape[3] == -1 and wanted.layout == "nhwc"):
        fits.append("nhwc")
    if shape[1] == 3 or (shape[1] == -1 and wanted.layout == "nchw"):
        fits.append("nchw")
    fits = [one for one in fits if wanted.layout in (None, one)]
    if len(fits) != 1:
        raise _no(name, "one axis of 3 colours", got, "Say which with --layout nchw or --layout nhwc.")
    height, width = shape[1:3] if fits[0] == "nhwc" else shape[2:4]
    size = wanted.size
    if height > 0 and width > 0:
        if size not in (None, (height, width)):
            raise _no(name, f"--size {size[0]}x{size[1]}", got, "Leave --size out." if size else "")
        size = (height, width)
    real = source.datatype in _FLOATS
    if size is None and real:
        raise _no(name, "a size", f"{got}, of any size", "Give what the network was trained with: --size.")
    if not real and (wanted.scale or wanted.mean or wanted.std):
        raise _no(name, "an input of real numbers for --scale, --mean and --std", got, "Leave them out.")
    whole = 255.0 if wanted.scale == "0..255" else 1.0
    red, green, blue = (whole * one for one in wanted.mean or (0.0, 0.0, 0.0))
    pixels = Pixels(
        size=size,
        crop=wanted.crop,
        interpolation=wanted.interpolation or "bilinear",
        channels=wanted.channels or "rgb",
        scale=255.0 / whole if real else 1.0,
        mean=(red, green, blue),
        std=wanted.std or (1.0, 1.0, 1.0),
    )
    return {"input_layout": fits[0], "encoding": "tensor", "pixels": pixels}


def _classes(name: str, metadata: ModelMetadata, wanted: Wanted) -> tuple[str, ...]:
    said = (metadata.parameters or {}).get(CLASSES)
    named = tuple(said) if isinstance(said, list) and all(isinstance(one, str) for one in said) else ()
    if named and wanted.classes and named != wanted.classes:
        pairs = zip(wanted.classes, named, strict=False)
        differs = next(
            (f"{ours!r} where it says {theirs!r}" for ours, theirs in pairs if ours != theirs),
            f"{len(wanted.classes)} of its {len(named)}",
        )
        raise _no(name, "the classes that the server names", differs, "Leave --classes out.")
    if not (named or wanted.classes):
        raise _no(name, "class names", "none from the server", "Give them with --classes FILE, one a line.")
    return named or wanted.classes
