"""Which options of ``zoo add`` apply to which kind of source."""

from __future__ import annotations

from collections.abc import Collection

import typer

from zoo.errors import ModelError

_PREPROCESSING = {"size", "mean", "std", "crop", "interpolation", "channels"}

# Parameters of the command; name, zoo, force and json apply to every source.
APPLY: dict[str, set[str]] = {
    "cifar_resnet": {"weights", "classes"},
    "torchvision": {"pretrained", "weights", "classes", *_PREPROCESSING},
    "efficientnet_lite": {"classes", "size"},
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


def _given(context: typer.Context) -> Collection[str]:
    """Names of the parameters that were given, whatever their value."""
    return {
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
    }


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"
