"""Arguments and options that several commands have: they read and behave the same everywhere."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from selector.commands.completion import (
    ENVIRONMENTS,
    devices_in_bundle,
    either,
    in_zoo,
    list_of,
    one_of,
)
from zoo.errors import PrecisionError, ZooError

UNCERTIFIED = 3  # exit code

START_PANEL = "Start here"
DEVICE_PANEL = "On the device"
TRAINING_PANEL = "Making a selector"
PUBLISHING_PANEL = "Bringing it to devices"

BundleArgument = Annotated[
    Path, typer.Argument(help="Folder of a bundle, or a selector in one file, made by 'zooselect export'.")
]
ImagesArgument = Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")]
PrecisionOption = Annotated[
    float | None,
    typer.Option(help="The share of right answers to reach, in (0, 1). Default: the fitted constraint."),
]
AccuracyOption = Annotated[float | None, typer.Option(help="Another name for --precision.")]
MaxDropOption = Annotated[
    float | None, typer.Option(help="Instead: by how much precision may lie below the reference model's.")
]
MeanOption = Annotated[
    float | None, typer.Option("--mean-ms", help="Instead: the most accurate answers within this mean time.")
]
P95Option = Annotated[
    float | None, typer.Option("--p95-ms", help="Instead: with 95 of 100 answers within this time.")
]
UplinkOption = Annotated[
    float | None,
    typer.Option(
        "--mean-uplink-kb",
        help="Instead: sending at most so many kilobytes an answer to servers, in the mean.",
    ),
]
MaxRemoteOption = Annotated[
    float | None,
    typer.Option("--max-remote", help="Instead: sending at most this share of the inputs to servers."),
]
NeverRemoteOption = Annotated[
    bool, typer.Option("--never-remote", help="Send nothing to a server: for inputs that are private.")
]
RemoteDeadlineOption = Annotated[
    float | None,
    typer.Option(
        "--remote-deadline-ms",
        help="Longest time of an answer that asks a server; the local one comes within it. Default: 1000.",
    ),
]
EnvironmentOption = Annotated[
    str | None,
    typer.Option(
        help="Where the images were taken: use the certificates of that environment.",
        autocompletion=one_of(either(*ENVIRONMENTS)),
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for another program instead of text.")]
JobsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=256,
        help="Processes that share the search; it finds the same with any number. Default: one a core that "
        "may be used, and one where there is little to search.",
    ),
]
ThreadsOption = Annotated[int, typer.Option(min=1, help="Threads of one inference.")]
AnswerTimeoutOption = Annotated[
    float | None,
    typer.Option(
        help="Longest time in seconds that a model may take for an answer; one that takes longer is left out."
    ),
]
AnswerMemoryOption = Annotated[
    float | None,
    typer.Option(
        help="Most memory in MB that a model may hold for an answer; one that takes more is left out"
    ),
]
SkipBadOption = Annotated[bool, typer.Option(help="Leave unreadable images out and count them.")]
WatchOption = Annotated[
    bool,
    typer.Option(
        help="Notice images that are unlike those of the calibration: for images in the order in which they "
        "were taken, not sorted by class."
    ),
]
CostsOption = Annotated[
    str | None,
    typer.Option(
        "--costs-of",
        help="The device whose measured costs to give. Default: the bundle's first.",
        autocompletion=one_of(devices_in_bundle),
    ),
]
CertifiedOption = Annotated[
    bool, typer.Option("--require-certified", help="Exit with code 3 where what is asked is not certified.")
]

ProviderOption = Annotated[
    str | None,
    typer.Option(
        "--provider",
        help="Execution provider that runs the models, with options after a colon, such as "
        "OpenVINO:device_type=GPU. Default: the CPU's.",
    ),
]
ZooOption = Annotated[Path, typer.Option("--zoo", help="Folder of the zoo.")]
OutOption = Annotated[Path, typer.Option("--out", help="Folder to write to.")]
ProfileOption = Annotated[Path, typer.Option("--profile", help="Folder of the profile.")]
FitOption = Annotated[Path, typer.Option("--fit", help="Folder of the fitted selector.")]
DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        help="'digits', a folder of class folders, or a torchvision name such as cifar10 or cifar10:test.",
    ),
]
EnvironmentsOption = Annotated[
    str,
    typer.Option(
        "--environments",
        help="Show every image under these conditions: 'all', or names such as clear,dark,noise,blur,"
        "occlusion,rotation,jpeg. Default: as it is.",
        autocompletion=list_of(either(*ENVIRONMENTS, "all")),
    ),
]
LatencyOption = Annotated[
    Path, typer.Option("--latency", help="Latency table of the device, made by 'zooselect bench'.")
]
ModelsOption = Annotated[
    str,
    typer.Option(
        "--models",
        help="Only these models, separated by commas. Default: all.",
        autocompletion=list_of(in_zoo),
    ),
]
BudgetOption = Annotated[
    float | None, typer.Option(min=0, help="Storage for models and bundles, in MB (millions of bytes).")
]
EpochsOption = Annotated[
    int | None,
    typer.Option("--epochs", min=1, help="Passes over the images. Default: what suits size and data."),
]
TorchDeviceOption = Annotated[
    str,
    typer.Option(
        "--torch-device",
        "--device",
        help="auto, cpu or cuda.",
        autocompletion=one_of(either("auto", "cpu", "cuda")),
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
NameOption = Annotated[
    str | None, typer.Option("--name", help="What the zoo calls the model. Default: after its origin.")
]

MY_ZOO = Path("my-zoo")
MY_PROFILE = Path("my-profile")
MY_FIT = Path("my-selector")
MY_BUNDLE = Path("my-bundle")
THIS_MACHINE = MY_PROFILE / "latency" / "this-machine.json"


def given(**values: float | None) -> dict[str, float]:
    """Of the options that say what is asked, the one that was given, by its name in Python.

    Raises
    ------
    PrecisionError
        When there are several.
    """
    found = {name: value for name, value in values.items() if value is not None}
    if len(found) > 1:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in found)
        same = ", which mean the same" if found.keys() == {"precision", "accuracy"} else ""
        raise PrecisionError(f"expected one of these options, got {options}{same}. Give only one of them.")
    return found


def asked_for(
    *,
    environment: str | None,
    never_remote: bool,
    remote_deadline_ms: float | None,
    **levels: float | None,
) -> dict[str, Any]:
    """What options ask of an answer, as :class:`selector.answering.view.Asked`.

    Raises
    ------
    PrecisionError
        When options contradict each other.
    """
    if remote_deadline_ms is not None and (never_remote or not 0 < remote_deadline_ms < 1e9):
        raise PrecisionError(
            f"expected --remote-deadline-ms above 0, without --never-remote, got {remote_deadline_ms:g} "
            f"{'with' if never_remote else 'without'} it. Give a time in milliseconds, or leave one out."
        )
    asked: dict[str, Any] = given(**levels)
    if environment is not None:
        asked["environment"] = environment
    if never_remote:
        asked["never_remote"] = True
    if remote_deadline_ms is not None:
        asked["remote_deadline_s"] = remote_deadline_ms / 1e3
    return asked


_CONSTRAINT: Mapping[str, Any] = {
    "precision": PrecisionOption,
    "accuracy": AccuracyOption,
    "max_drop": MaxDropOption,
    "mean_ms": MeanOption,
    "p95_ms": P95Option,
    "mean_uplink_kb": UplinkOption,
    "max_remote": MaxRemoteOption,
}
_ANSWER: Mapping[str, Any] = {
    **_CONSTRAINT,
    "environment": EnvironmentOption,
    "never_remote": NeverRemoteOption,
    "remote_deadline_ms": RemoteDeadlineOption,
}
Command = Callable[..., None]


def asking_constraint(**own: Any) -> Callable[[Command], Command]:
    """Decorate a command: it has the options of a constraint in place of its parameter `asked`.

    Parameters
    ----------
    **own
        Options as this command has them, by name.
    """
    return functools.partial(with_options, {**_CONSTRAINT, **own}, given)


def asking_answer(command: Command) -> Command:
    """Decorate a command: it has all options of an answer in place of its parameter `asked`."""
    return with_options(_ANSWER, asked_for, command, defaults={"never_remote": False})


def with_options(
    options: Mapping[str, Any],
    collect: Callable[..., Any],
    command: Command,
    *,
    into: str = "asked",
    defaults: Mapping[str, Any] | None = None,
) -> Command:
    """The command with `options`, of which `collect` makes its argument `into`; their default is None."""

    @functools.wraps(command)
    def run(**values: Any) -> None:
        command(**{into: collect(**{name: values.pop(name) for name in options})}, **values)

    parameters: list[inspect.Parameter] = []
    for own in inspect.signature(command, eval_str=True).parameters.values():
        if own.name != into:
            parameters.append(own.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        for name, annotation in options.items():
            default = (defaults or {}).get(name)
            parameters.append(
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
                )
            )
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def names_in(text: str) -> list[str]:
    """Names separated by commas; empty ones do not count."""
    return [name for part in text.split(",") if (name := part.strip())]


def numbers_in(text: str, names: Collection[str], wrong: Callable[[str], ZooError]) -> dict[str, float]:
    """Numbers by name, such as ``targets=90,timestamp=1``.

    Parameters
    ----------
    names
        Which there may be.
    wrong
        The error to raise for a part that is not of that form.
    """
    numbers: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            if name.strip() not in names:
                raise ValueError
            numbers[name.strip()] = float(value)
        except ValueError:
            raise wrong(part) from None
    return numbers
