"""Suite cifar10: four third-party CIFAR ResNets on JPEG images, float alone and with int8 versions."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.result import finish, method
from selector.runtime import Selector
from training.data import LabelledImages
from training.evaluate import evaluate, oracle_row
from training.evaluation import Evaluation, FrontierCurve
from training.export import export_bundle
from training.fit import fit
from training.fitted import Fitted, save_fit
from training.folder import folder as image_folder
from training.graph import time_selector_us
from training.outcomes import load_outcomes
from training.profile import held_out_images, profile
from training.report import render, table
from training.splits import TEST, Splits
from training.wallclock import run_wall_clock, single_models
from zoo.build.add import add_cifar_resnet, add_int8
from zoo.directory import Zoo
from zoo.errors import DataError
from zoo.image import load_image
from zoo.latency import LatencyTable, measure

DEPTHS = (20, 32, 44, 56)
PRECISIONS = (0.8, 0.81, 0.82, 0.83)
CALIBRATION_IMAGES = 256


def run_cifar10(
    data: Path,
    weights: Path,
    work: Path,
    *,
    precisions: Sequence[float] = PRECISIONS,
    seed: int = 0,
    rounds: int = 2,
    results: Path = Path("results"),
) -> dict[str, Any]:
    """Run the suite, print its table and JSON line, write a result file and an HTML report.

    Parameters
    ----------
    data
        Folder with ``cifar10-test.zip`` and ``cifar10-train.zip``, or with the unpacked folders ``test`` and
        ``train``.
    weights
        Folder with ``cifar10-resnet{20,32,44,56}.npz``.
    work
        Folder for the zoo, the profile and the bundles; a second run uses what is there.
    precisions
        Levels to certify and to answer with.
    """
    test_folder, train_folder = unpacked(data, work, "test"), unpacked(data, work, "train")
    zoo = resnet_zoo(weights, train_folder, work, seed)
    images = image_folder(test_folder)
    profile(zoo, images, work / "profile", splits=Splits(seed=seed))
    held = held_out_images(work / "profile", images)
    latency = measure(zoo, [held.image(i) for i in range(64)], device="this-machine", runs=300, progress=True)
    floats = [name for name in zoo.names if not name.endswith("-int8")]
    zoos = {"float+int8": zoo, "float": zoo.only(floats)}  # the first one leads the report
    fits = {
        (label, level): _fit(some, latency, work, label, level, seed)
        for label, some in zoos.items()
        for level in precisions
    }
    evaluation, timed_over_simulated = _answer(fits, zoos, held, work, rounds, seed)
    reference = next(row for row in evaluation.rows if row.name == f"resnet{DEPTHS[-1]}")
    overhead = _overhead(zoos["float"], latency, work, precisions[0], seed)
    print(table(evaluation))
    report = results / "cifar10.html"
    render(evaluation, report)
    print(f"report: {report}")
    ours = [row for row in evaluation.rows if row.kind == "ours"]
    as_good = [row for row in ours if row.accuracy >= reference.accuracy]
    cheap = [row for row in ours if row.mean_ms <= 0.6 * reference.mean_ms]
    return finish(
        "cifar10",
        {
            "reference": {
                "model": reference.name,
                "accuracy": round(reference.accuracy, 5),
                "mean_ms": round(reference.mean_ms, 5),
            },
            "methods": [method(row) for row in evaluation.rows],
            "speedup_at_reference_accuracy": _rounded(
                max((reference.mean_ms / row.mean_ms for row in as_good), default=None)
            ),
            "gain_at_60_percent_time": _rounded(
                max((row.accuracy - reference.accuracy for row in cheap), default=None)
            ),
            "selector_us": overhead["selector_us"],
            "selector_share": overhead["selector_share"],
            "wall_clock_over_simulated": timed_over_simulated,
            "test_images": len(held),
        },
        seed=seed,
        folder=results,
    )


def unpacked(data: Path, work: Path, part: str) -> Path:
    """Folder of the ``train`` or ``test`` images, unpacked into `work` where `data` holds the archive."""
    for folder in (data / part, work / part):
        if folder.is_dir():
            return folder
    archive = data / f"cifar10-{part}.zip"
    if not archive.is_file():
        raise DataError(f"expected {archive} or a folder {data / part}, got neither. Check --data.")
    unpacking = work / "unpacking"
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(unpacking)  # the standard library refuses absolute and parent paths
    (unpacking / part).rename(work / part)
    return work / part


def resnet_zoo(weights: Path, train: Path, work: Path, seed: int) -> Zoo:
    """The four networks and their int8 versions, in ``<work>/zoo``."""
    zoo = Zoo.create(work / "zoo")
    for depth in DEPTHS:
        if f"resnet{depth}" not in zoo.names:
            add_cifar_resnet(zoo, depth, weights / f"cifar10-resnet{depth}.npz")
    missing = [f"resnet{depth}" for depth in DEPTHS if f"resnet{depth}-int8" not in zoo.names]
    if missing:
        images = _calibration_images(train, seed)
        for name in missing:
            add_int8(zoo, name, images)
    return zoo


def _calibration_images(train: Path, seed: int) -> list[NDArray[np.uint8]]:
    paths = sorted(train.rglob("*.jpg"))
    chosen = np.random.default_rng(seed).choice(len(paths), CALIBRATION_IMAGES, replace=False)
    return [load_image(paths[i]) for i in np.sort(chosen)]


def _fit(zoo: Zoo, latency: LatencyTable, work: Path, label: str, level: float, seed: int) -> Fitted:
    fitted = fit(work / "profile", zoo, latency, precision=level, seed=seed)
    save_fit(fitted, work / "fits" / f"{label}-{level:g}")
    export_bundle(fitted, zoo, work / "bundles" / f"{label}-{level:g}")
    print(f"fitted {label} at {level:g}: {fitted.policy.kind} {' → '.join(fitted.policy.models)}")
    return fitted


def _answer(
    fits: dict[tuple[str, float], Fitted],
    zoos: dict[str, Zoo],
    held: LabelledImages,
    work: Path,
    rounds: int,
    seed: int,
) -> tuple[Evaluation, dict[str, float]]:
    """Answer the test images with all bundles and all single models in one interleaved run."""
    selectors = {
        f"{label} {level:g}": (Selector.load(work / "bundles" / f"{label}-{level:g}"), level)
        for label, level in fits
    }
    widest = next(iter(selector for name, (selector, _) in selectors.items() if name.startswith("float+")))
    timed = run_wall_clock(selectors, held, singles=single_models(widest), rounds=rounds, seed=seed)
    by_name = {item.name: item for item in timed}
    parts = {}
    for (label, level), fitted in fits.items():
        parts[label, level] = evaluate(
            fitted, work / "profile", timed=list(by_name.values()), our_row=f"{label} {level:g}"
        )
    widest_part = next(part for (label, _), part in parts.items() if label == "float+int8")
    singles = widest_part.singles
    ours = [row for part in parts.values() for row in part.rows if row.kind == "ours"]
    ratios = {}
    for (label, level), fitted in fits.items():
        row = next(row for row in parts[label, level].rows if row.kind == "ours")
        simulated = evaluate(fitted, work / "profile").ours
        assert simulated is not None
        ratios[row.name] = round(row.mean_ms / simulated.mean_ms, 4)
    test = load_outcomes(work / "profile", zoo=zoos["float+int8"], splits=(TEST,))
    costs = {row.name: row.mean_ms for row in singles}
    evaluation = Evaluation(
        title="CIFAR-10: four third-party ResNets, float and int8",
        subtitle=f"{len(held):,} JPEG test images nobody looked at before; wall-clock, one thread",
        asked_precision=ours[-1].precision,
        rows=[*singles, *ours, oracle_row(test, costs)],
        curves=[
            FrontierCurve(f"{label} {level:g}", "ours", part.curves[0].points)
            for (label, level), part in parts.items()
            if level == max(level for _, level in parts)
        ],
        mixes=[
            (row.precision, row.shares) for row in ours if row.name.startswith("float+") and row.precision
        ],
        environments={},
        reliability=widest_part.reliability,
        features=[],
        facts=[("Wall-clock over simulated time", f"{min(ratios.values())} to {max(ratios.values())}")],
        notes=[note for part in parts.values() for note in part.notes],
        next_commands=[],
    )
    return evaluation, ratios


def _overhead(zoo: Zoo, latency: LatencyTable, work: Path, precision: float, seed: int) -> dict[str, float]:
    """Cost of features and scores: an input policy on the same data, whichever policy was chosen."""
    fitted = fit(work / "profile", zoo, latency, precision=precision, policy="input", seed=seed)
    assert fitted.graph is not None
    micros = float(np.median(time_selector_us(fitted.graph, latency.image)))
    mean_ms = evaluate(fitted, work / "profile").ours
    assert mean_ms is not None
    return {
        "selector_us": round(micros, 2),
        "selector_share": round(micros / 1e3 / mean_ms.mean_ms, 5),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
