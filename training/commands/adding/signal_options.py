"""Options of ``zoo add`` for models that look at signals or named arrays, not at images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from zoo.errors import ModelError

if TYPE_CHECKING:
    from zoo.convert.signals.signal_front import SignalFront
    from zoo.inputs.signal import Signal
    from zoo.remote.arrays import Ends

SignalName = Literal["bytes", "sound", "samples"]

SignalOption = Annotated[
    SignalName | None,
    typer.Option(
        help="ONNX, remote: it takes no images but bytes of files, sound (16 bits a sample), or samples of "
        "sensors (float32)."
    ),
]
FirstOption = Annotated[
    int, typer.Option(min=0, help="Signal: so many samples of the beginning go into the network.")
]
LastOption = Annotated[int, typer.Option(min=0, help="Signal: so many of the end, after those.")]
PadOption = Annotated[
    float,
    typer.Option(help="Signal, tensors: what fills one that is too short, such as 256 for bytes."),
]
StripOption = Annotated[
    int,
    typer.Option(
        min=0,
        help="Bytes: leave white space at the outer ends of the first and last so many bytes out. 0: none.",
    ),
]
RateOption = Annotated[
    int | None, typer.Option(min=1, help="Sound: samples a second; files of another rate are refused.")
]
SecondsOption = Annotated[
    float | None, typer.Option(help="Sound: its first seconds go into the network, instead of --first.")
]

TensorsOption = Annotated[
    bool,
    typer.Option(
        "--tensors",
        help="ONNX, remote: it takes named arrays, such as rows of a table, tokens or embeddings. The first "
        "model of the zoo says which; others take these, or some of them.",
    ),
]
LengthOption = Annotated[
    int | None,
    typer.Option(min=1, help="Tensors: how long a free axis after that of the batch may be; --pad fills."),
]

TENSOR_OPTIONS = {"length", "pad"}
OPTIONS = {"first", "last", "pad", "strip", "rate", "seconds"}
_TYPES: dict[str, Literal["uint8", "int16", "float32"]] = {
    "bytes": "uint8",
    "sound": "int16",
    "samples": "float32",
}


def signal_kind(signal: SignalName, rate: int | None) -> Signal:
    """The kind of input that the options name."""
    from zoo.inputs.signal import Signal

    if signal == "bytes" and rate is not None:
        raise ModelError("--signal bytes: expected no --rate, which bytes do not have. Leave it out.")
    if signal == "sound" and rate is None:
        raise ModelError("--signal sound: expected --rate as well, the samples a second, such as 16000.")
    return Signal(_TYPES[signal], rate)


def signal_front(
    kind: Signal, *, first: int, last: int, pad: float, strip: int, seconds: float | None
) -> SignalFront:
    """What the network expects of a signal, by the options.

    Raises
    ------
    ModelError
        When they contradict each other, or say of no sample that it is taken.
    """
    from zoo.convert.signals.signal_front import SignalFront

    if seconds is not None:
        if kind.rate is None or first or last:
            raise ModelError(
                "--seconds: expected --rate and neither --first nor --last, got "
                f"{'no rate' if kind.rate is None else 'those as well'}."
            )
        first = round(seconds * kind.rate)
    if not first and not last:
        raise ModelError("--signal: expected --first or --last, or --seconds, got none of them.")
    return SignalFront(kind, first=first, last=last, pad=pad, strip=strip)


def signal_ends(
    kind: Signal | None, *, first: int, last: int, pad: float, strip: int, seconds: float | None
) -> Ends:
    """What a model on a server takes of a signal, by the options; all of it where they do not say.

    Raises
    ------
    ModelError
        When they contradict each other.
    """
    from zoo.remote.arrays import Ends

    if kind is None or not (first or last or strip or seconds is not None):
        return Ends(pad=pad)
    front = signal_front(kind, first=first, last=last, pad=pad, strip=strip, seconds=seconds)
    return Ends(front.first, front.last, front.pad, front.strip)
