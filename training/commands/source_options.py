"""Which options of ``zoo add`` apply to which kind of source."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from zoo.errors import ModelError

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

_PREPROCESSING = {"size", "mean", "std", "crop", "interpolation", "channels"}

# Parameters of the command; name, zoo, force and json apply to every source.
APPLY: dict[str, set[str]] = {
    "cifar_resnet": {"weights", "classes"},
    "torchvision": {"pretrained", "weights", "classes", *_PREPROCESSING},
    "timm": {"pretrained", "weights", "classes", *_PREPROCESSING},
    "efficientnet_lite": {"classes", "size"},
    "huggingface": {"classes", *_PREPROCESSING, "input_name", "output_name", "probabilities"},
    "onnx": {
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
    given = _given(context)
    sources = [source for source in APPLY if source in given]
    listed = ", ".join(map(_dashed, APPLY))
    if len(sources) != 1:
        raise ModelError(f"expected one of {listed}, got {', '.join(map(_dashed, sources)) or 'none'}.")
    known = set().union(*APPLY.values())
    options = {parameter.name: parameter.opts[0] for parameter in context.command.params if parameter.name}
    wrong = [options[name] for name in options if name in given and name in known - APPLY[sources[0]]]
    if wrong:
        allowed = [option for name, option in options.items() if name in APPLY[sources[0]]]
        raise ModelError(
            f"{_dashed(sources[0])}: expected only options that apply to it ({', '.join(allowed)}), "
            f"got {', '.join(wrong)}. Leave {'it' if len(wrong) == 1 else 'them'} out."
        )


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


def _given(context: typer.Context) -> Collection[str]:
    """Names of the parameters that were given, whatever their value."""
    return {
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
    }


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"
