"""The commands select and predict: images answered with a bundle in a folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from selector.commands.input_files import input_files, read_inputs, tell_unread
from selector.commands.options import (
    DEVICE_PANEL,
    UNCERTIFIED,
    BundleArgument,
    CertifiedOption,
    CostsOption,
    ImagesArgument,
    JsonOption,
    ProviderOption,
    SkipBadOption,
    ThreadsOption,
    WatchOption,
    asking_answer,
)
from selector.commands.rows import Rows
from selector.commands.say import say
from selector.policies.constraint import KINDS
from zoo.providers import CPU

if TYPE_CHECKING:
    from zoo.inputs.kind import InputKind


@asking_answer
def select(
    bundle: BundleArgument,
    images: ImagesArgument,
    asked: dict[str, Any],
    costs_of: CostsOption = None,
    threads: ThreadsOption = 1,
    skip_bad: SkipBadOption = False,
    require_certified: CertifiedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say which model is enough for each image, and what it costs.

    Example: zooselect select my-bundle photo.jpg --precision 0.95
    """
    from selector.answering.selector import Selector

    chooser = Selector.load(bundle, threads=threads, costs_of=costs_of)
    _announce(chooser, asked)
    files = input_files(images, chooser.kind)
    answered = Answered(len(files), chooser.kind)
    rows = Rows(
        {
            chooser.kind.noun: max(map(str, files), key=len),
            "model": max(chooser.models, key=len),
            "probability": 0.0,
            "cost_ms": 1000.0,
            "certified": True,
            "reason": "server not reached",
        },
        as_json=as_json,
    )
    for path, image in read_inputs(files, answered.unread, chooser.kind):
        found = chooser.select(image, **asked)
        rows.add(
            {
                chooser.kind.noun: str(path),
                "model": found.model,
                "probability": _number(found.probability),
                "cost_ms": round(found.cost_ms, 4),
                "certified": found.certified,
                "reason": found.reason,
            }
        )
        answered.certified &= found.certified
    leave(answered, skip_bad=skip_bad, require_certified=require_certified)


@asking_answer
def predict(
    bundle: BundleArgument,
    images: ImagesArgument,
    asked: dict[str, Any],
    threads: ThreadsOption = 1,
    provider: ProviderOption = None,
    skip_bad: SkipBadOption = False,
    watch: WatchOption = False,
    require_certified: CertifiedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Answer images with the cheapest models that meet the precision.

    Each row is printed when its image is answered, in the order of the files.

    Example: zooselect predict my-bundle photos/ --precision 0.95 --json
    """
    from selector.answering.selector import Selector

    chooser = Selector.load(bundle, threads=threads, watch=watch, providers=provider or CPU)
    answered = answer_images(chooser, images, asked, as_json=as_json)
    leave(answered, skip_bad=skip_bad, require_certified=require_certified)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=DEVICE_PANEL)(select)
    app.command(rich_help_panel=DEVICE_PANEL)(predict)


@dataclass
class Answered:
    """What became of the images of a command."""

    tried: int
    kind: InputKind
    certified: bool = True
    unread: list[str] = field(default_factory=list)  # why, for each image that could not be read


def answer_images(
    chooser: Any, images: list[Path], asked: Any, *, as_json: bool, shuffled: bool = False
) -> Answered:
    """Answer images with a Selector, and print each answer at once.

    Parameters
    ----------
    shuffled
        In random order: for a watching Selector, a folder that is sorted by class is inputs that change.
    """
    _announce(chooser, asked)
    files = input_files(images, chooser.kind)
    answered = Answered(len(files), chooser.kind)
    rows = Rows(
        {
            chooser.kind.noun: max(map(str, files), key=len),
            "label": max(chooser.bundle.classes, key=len),
            "class_probability": 0.0,
            "model": max(chooser.models, key=len),
            "path": sorted(chooser.models, key=len)[-3:],
            "probability": 0.0,
            "latency_ms": 1000.0,
            "certified": True,
            "reason": "server not reached",
        },
        as_json=as_json,
    )
    if shuffled:
        import numpy as np

        files = [files[i] for i in np.random.default_rng(0).permutation(len(files))]
    warm = False
    after: set[str] = set()  # models that answered after an alarm
    for path, image in read_inputs(files, answered.unread, chooser.kind):
        if not warm:  # so that no row's time contains opening the models
            chooser.warm_up(*chooser.kind.size(image))
            warm = True
        found = chooser.predict(image, **asked)
        rows.add(
            {
                chooser.kind.noun: str(path),
                "label": found.label,
                "class_probability": round(float(found.probabilities.max()), 6),
                "model": found.model,
                "path": list(found.path),
                "probability": _number(found.probability),
                "latency_ms": round(found.latency_ms, 4),
                "certified": found.certified,
                "reason": found.reason,
            }
        )
        answered.certified &= found.certified
        if found.reason == "drift":
            after.add(found.model)
    status = chooser.drift
    if status is not None and status.alarm:
        alone = after <= {chooser.reference}  # a selector in one file goes on with its models
        who = (
            f"the reference model {chooser.reference} answered, uncertified"
            if alone
            else "nothing was certified"
        )
        say(
            f"drift: these {chooser.kind.noun}s are unlike those that the certificates were made on; "
            f"{', '.join(status.moved[:3])} changed. From then on {who}. Fit again on others like these.",
            err=True,
        )
    return answered


def _announce(chooser: Any, asked: dict[str, Any]) -> None:
    if chooser.certificate(**asked) is not None:
        return
    from selector.policies.constraint import constraint

    environment = asked.get("environment")
    kinds = ("accuracy", *KINDS)
    wanted = constraint(**{k: v for k, v in asked.items() if k in kinds}) or chooser.bundle.default
    levels, used = chooser.certified_levels(wanted.kind, environment), chooser.models
    if asked.get("never_remote"):
        used = [name for name in used if name in chooser.bundle.local]
        levels = [level for level in levels if chooser.certificate(**_at(asked, wanted.kind, level))]
    nearest = (levels[-1] if wanted.kind == "precision" else levels[0]) if levels else None
    where = f" in the environment {environment!r}" if environment else ""
    if str(chooser.provider) != chooser.bundle.calibration.provider_name:
        where += f" on {chooser.provider}, which 'zooselect agree' compares with what they were proven on"
    say(
        f"{wanted} is not certified with the models {', '.join(used)}{where}; "
        f"{'none is' if nearest is None else f'{nearest:g} is the nearest that is'}. "
        + (
            "The fastest model answers."
            if wanted.on_time
            else "The most accurate model on this device answers."
            if wanted.on_network or asked.get("never_remote")
            else f"The reference model {chooser.reference} answers."
        ),
        err=True,
    )


def _at(asked: dict[str, Any], kind: str, level: float) -> dict[str, Any]:
    """The same question at another level."""
    return {name: value for name, value in asked.items() if name not in ("accuracy", *KINDS)} | {kind: level}


def leave(answered: Answered, *, skip_bad: bool, require_certified: bool) -> None:
    """End with an error for unreadable images, or with :data:`UNCERTIFIED` where a certificate is missing.

    Raises
    ------
    InputError
        When an input could not be read and `skip_bad` is not set.
    """
    tell_unread(answered.unread, answered.tried, answered.kind, skip_bad=skip_bad)
    if require_certified and not answered.certified:
        raise typer.Exit(UNCERTIFIED)


def _number(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
