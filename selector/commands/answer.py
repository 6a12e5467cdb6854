"""The commands select and predict: images answered with a bundle in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import typer

from selector.commands.images import image_files, read_images
from selector.commands.options import (
    DEVICE_PANEL,
    UNCERTIFIED,
    BundleArgument,
    CertifiedOption,
    EnvironmentOption,
    ImagesArgument,
    JsonOption,
    MaxDropOption,
    MeanOption,
    P95Option,
    PrecisionOption,
    SkipBadOption,
    ThreadsOption,
    WatchOption,
    given,
)
from selector.commands.tables import table


def select(
    bundle: BundleArgument,
    images: ImagesArgument,
    precision: PrecisionOption = None,
    max_drop: MaxDropOption = None,
    mean_ms: MeanOption = None,
    p95_ms: P95Option = None,
    environment: EnvironmentOption = None,
    threads: ThreadsOption = 1,
    skip_bad: SkipBadOption = False,
    require_certified: CertifiedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say which model is enough for each image, and what it costs.

    Example: zooselect select my-bundle photo.jpg --precision 0.95
    """
    from selector.answering.selector import Selector

    chooser = Selector.load(bundle, threads=threads)
    asked = asked_for(precision, max_drop, mean_ms, p95_ms, environment)
    _announce(chooser, asked)
    rows: list[dict[str, Any]] = []
    for path, image in read_images(image_files(images), skip_bad):
        found = chooser.select(image, **asked)
        rows.append(
            {
                "image": str(path),
                "model": found.model,
                "probability": _number(found.probability),
                "cost_ms": round(found.cost_ms, 4),
                "certified": found.certified,
            }
        )
    _show(rows, as_json)
    leave(rows, require_certified)


def predict(
    bundle: BundleArgument,
    images: ImagesArgument,
    precision: PrecisionOption = None,
    max_drop: MaxDropOption = None,
    mean_ms: MeanOption = None,
    p95_ms: P95Option = None,
    environment: EnvironmentOption = None,
    threads: ThreadsOption = 1,
    skip_bad: SkipBadOption = False,
    watch: WatchOption = True,
    require_certified: CertifiedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Answer images with the cheapest models that meet the precision.

    Example: zooselect predict my-bundle photos/ --precision 0.95 --json
    """
    from selector.answering.selector import Selector

    chooser = Selector.load(bundle, threads=threads, watch=watch)
    asked = asked_for(precision, max_drop, mean_ms, p95_ms, environment)
    leave(answer_images(chooser, images, asked, skip_bad=skip_bad, as_json=as_json), require_certified)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=DEVICE_PANEL)(select)
    app.command(rich_help_panel=DEVICE_PANEL)(predict)


def answer_images(
    chooser: Any, images: list[Path], asked: Any, *, skip_bad: bool, as_json: bool
) -> list[dict[str, Any]]:
    """Answer images with a Selector, print the answers and return them."""
    _announce(chooser, asked)
    rows: list[dict[str, Any]] = []
    warm: set[tuple[int, ...]] = set()
    files = image_files(images)
    # in random order, so that a folder that is sorted by class does not look like inputs that change
    order = np.random.default_rng(0).permutation(len(files))
    for path, image in read_images([files[i] for i in order], skip_bad):
        if image.shape not in warm:  # so that no row's time contains opening the models
            chooser.warm_up(*image.shape[:2])
            warm.add(image.shape)
        found = chooser.predict(image, **asked)
        rows.append(
            {
                "image": str(path),
                "label": found.label,
                "class_probability": round(float(found.probabilities.max()), 6),
                "model": found.model,
                "path": list(found.path),
                "probability": _number(found.probability),
                "latency_ms": round(found.latency_ms, 4),
                "certified": found.certified,
            }
        )
    places = {str(path): place for place, path in enumerate(files)}
    rows.sort(key=lambda row: places[row["image"]])
    _show(rows, as_json)
    status = chooser.drift
    if status is not None and status.alarm:
        typer.echo(
            f"drift: these images are unlike those that the certificates were made on; "
            f"{', '.join(status.moved[:3])} changed. From then on the reference model {chooser.reference} "
            "answered, uncertified. Fit again on images like these.",
            err=True,
        )
    return rows


def asked_for(
    precision: float | None,
    max_drop: float | None,
    mean_ms: float | None,
    p95_ms: float | None,
    environment: str | None,
) -> dict[str, Any]:
    """What was asked on the command line, as :meth:`selector.Selector.predict` takes it."""
    asked: dict[str, Any] = given(precision=precision, max_drop=max_drop, mean_ms=mean_ms, p95_ms=p95_ms)
    return asked if environment is None else asked | {"environment": environment}


def _announce(chooser: Any, asked: dict[str, Any]) -> None:
    if chooser.certificate(**asked) is not None:
        return
    from selector.policies.constraint import constraint

    environment = asked.get("environment")
    wanted = constraint(**{k: v for k, v in asked.items() if k != "environment"}) or chooser.bundle.default
    levels = chooser.certified_levels(wanted.kind, environment)
    nearest = (levels[-1] if wanted.kind == "precision" else levels[0]) if levels else None
    where = f" in the environment {environment!r}" if environment else ""
    typer.echo(
        f"{wanted} is not certified with the models {', '.join(chooser.models)}{where}; "
        f"{'none is' if nearest is None else f'{nearest:g} is the nearest that is'}. "
        f"The reference model {chooser.reference} answers.",
        err=True,
    )


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
        return
    if not rows:
        return
    cells = [[_text(value) for value in row.values()] for row in rows]
    typer.echo(table([name.replace("_", " ") for name in rows[0]], cells, "l" * len(rows[0])))


def leave(rows: list[dict[str, Any]], require_certified: bool) -> None:
    """End with :data:`UNCERTIFIED` where certificates are required and one is missing."""
    if require_certified and not all(row["certified"] for row in rows):
        raise typer.Exit(UNCERTIFIED)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return " → ".join(value)
    return "–" if value is None else str(value)
