"""Which options of ``zoo add`` apply to which kind of source."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from selector.commands.say import say
from training.commands.adding.added_model import tell
from training.commands.adding.signal_options import OPTIONS as SIGNAL_OPTIONS
from training.commands.adding.signal_options import TENSOR_OPTIONS
from zoo.errors import CardError, ModelError

if TYPE_CHECKING:
    from zoo.remote.discover import Wanted

ClassesOption = Annotated[
    Path | None,
    typer.Option("--classes", help="Text file with one class name a line, in the order of the outputs."),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--weights", help="Weights: a torch state dict, .safetensors or .npz. Nothing in it is executed."
    ),
]
SizeOption = Annotated[
    str, typer.Option("--size", help="What the network sees, in pixels: 224 or HEIGHTxWIDTH.")
]
CropOption = Annotated[
    float | None,
    typer.Option("--crop", help="Share of the short side that a centre crop keeps, e.g. 0.875. ONNX: none."),
]

TimmOption = Annotated[
    str | None,
    typer.Option("--timm", help="A timm classifier, e.g. resnet18.a1_in1k; --pretrained or --weights."),
]
HuggingfaceOption = Annotated[
    Path | None,
    typer.Option(
        "--huggingface",
        help="A local snapshot of the hub: its folder (an ONNX export or weights), or one of its ONNX files.",
    ),
]

RemoteOption = Annotated[
    str | None,
    typer.Option(help="Address of a server of the Open Inference Protocol, version 2; needs --model."),
]
ModelOption = Annotated[str, typer.Option(help="Remote: name of the model on the server.")]
VersionOption = Annotated[str, typer.Option(help="Remote: its version there. Default: the server chooses.")]
TokenEnvOption = Annotated[
    str, typer.Option(help="Remote: environment variable with a token; the token itself is never stored.")
]
TokenFileOption = Annotated[Path | None, typer.Option(help="Remote: file with a token, in place of that.")]
EncodingOption = Annotated[
    Literal["tensor", "jpeg", "png"] | None,
    typer.Option(help="Remote: what is sent. Default: as the server takes it, files as JPEG."),
]
QualityOption = Annotated[int, typer.Option(min=1, max=100, help="Remote: quality of JPEG.")]
DeadlineOption = Annotated[
    int, typer.Option(min=1, help="Remote: milliseconds for a request, where an answer gives none.")
]

MAX_PIXELS = 2**26
_PREPROCESSING = {"size", "mean", "std", "crop", "interpolation", "channels"}

_OF_IMAGES = {*_PREPROCESSING, "layout", "scale", "encoding", "quality"}

# Parameters of the command; name, zoo, force and json apply to every source.
APPLY: dict[str, set[str]] = {
    "cifar_resnet": {"weights", "check", "classes"},
    "torchvision": {"pretrained", "weights", "check", "classes", *_PREPROCESSING},
    "timm": {"pretrained", "weights", "check", "classes", *_PREPROCESSING},
    "efficientnet_lite": {"check", "classes", "size"},
    "huggingface": {"check", "classes", *_PREPROCESSING, "input_name", "output_name", "probabilities"},
    "onnx": {
        "check",
        "classes",
        "signal",
        "tensors",
        *SIGNAL_OPTIONS,
        *TENSOR_OPTIONS,
        *_PREPROCESSING,
        "layout",
        "scale",
        "input_name",
        "output_name",
        "probabilities",
    },
    "remote": {  # without check, which looks into the file of a model
        "signal",
        "tensors",
        *SIGNAL_OPTIONS,
        *TENSOR_OPTIONS,
        "model",
        "version",
        "token_env",
        "token_file",
        "encoding",
        "quality",
        "deadline_ms",
        "classes",
        *_PREPROCESSING,
        "layout",
        "scale",
        "input_name",
        "output_name",
        "probabilities",
    },
}


def check_source(context: typer.Context) -> None:
    """Check that one source was given, and only options that apply to it.

    Raises
    ------
    ModelError
        When there is none or more than one, or an option does not apply to it.
    """
    there = given(context)
    sources = [source for source in APPLY if source in there]
    listed = ", ".join(map(_dashed, APPLY))
    if len(sources) != 1:
        raise ModelError(f"expected one of {listed}, got {', '.join(map(_dashed, sources)) or 'none'}.")
    known = set().union(*APPLY.values())
    applies = APPLY[sources[0]]
    if sources in (["onnx"], ["remote"]):
        applies = applies - _not_for(there)
    options = {parameter.name: parameter.opts[0] for parameter in context.command.params if parameter.name}
    wrong = [options[name] for name in options if name in there and name in known - applies]
    if wrong:
        allowed = [option for name, option in options.items() if name in applies]
        raise ModelError(
            f"{_dashed(sources[0])}: expected only options that apply to it ({', '.join(allowed)}), "
            f"got {', '.join(wrong)}. Leave {'it' if len(wrong) == 1 else 'them'} out."
        )


def _not_for(there: Collection[str]) -> set[str]:
    """Options of ``--onnx`` and ``--remote`` that do not apply to the kind of input that was named."""
    if "signal" in there:
        return {*_OF_IMAGES, "tensors", *(TENSOR_OPTIONS - SIGNAL_OPTIONS)}
    if "tensors" in there:
        return {*_OF_IMAGES, "signal", "input_name", *(SIGNAL_OPTIONS - TENSOR_OPTIONS)}
    return SIGNAL_OPTIONS | TENSOR_OPTIONS


def check_weights(source: str, pretrained: bool, weights: Path | None) -> Path | str:
    """The weights that were asked for: exactly one of the published ones and a file.

    Raises
    ------
    ModelError
        When both are given, or neither.
    """
    if pretrained == (weights is not None):
        raise ModelError(f"{source}: expected either --pretrained or --weights FILE.")
    return weights or "DEFAULT"


def add_from_server(
    zoo: Path,
    address: str,
    model: str,
    wanted: Wanted,
    version: str,
    token: tuple[str, Path | None],
    deadline_ms: int,
    name: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Add a remote model, and say so."""
    from zoo.convert.foreign.add_remote import add_remote
    from zoo.models.zoo import Zoo

    if not model:
        raise ModelError("--remote: expected --model NAME as well, the model's name on the server.")
    say("Asking the server.", err=True)
    target = Zoo.open_or_create(zoo)
    card = add_remote(
        target,
        address,
        model,
        version=version,
        name=name,
        wanted=wanted,
        token_env=token[0],
        token_file="" if token[1] is None else str(token[1].absolute()),
        deadline_ms=deadline_ms,
        force=force,
    )
    tell(card, zoo, as_json)


def parse_size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    try:
        size = int(height), int(width or height)
    except ValueError:
        size = 0, 0
    if not (min(size) > 0 and size[0] * size[1] <= MAX_PIXELS):
        raise CardError(
            f"--size: expected pixels such as 224 or 224x320, at most {MAX_PIXELS:,} in all, got {text!r}."
        )
    return size


def parse_side(text: str) -> int:
    height, width = parse_size(text)
    if height != width:
        raise CardError(f"--size: expected one side in pixels such as 224 for this network, got {text!r}.")
    return height


def parse_triple(text: str, option: str) -> tuple[float, float, float]:
    try:
        parts = [float(part) for part in text.split(",")]
        red, green, blue = parts * 3 if len(parts) == 1 else parts
    except ValueError:
        raise CardError(
            f"{option}: expected three numbers such as 0.485,0.456,0.406, got {text!r}."
        ) from None
    return red, green, blue


def given(context: typer.Context) -> Collection[str]:
    """Names of the parameters that were given, whatever their value."""
    return {
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
    }


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"
