"""Suite speed: the selector's own time, its parity with torch and scikit-learn, profiling, whole answers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.result import finish
from benchmarks.selection.repeated import deal
from benchmarks.selection.suite import input_overhead, search
from benchmarks.selection.zoos import SUITES, Given
from benchmarks.speed.report import measure_answers, shown_answers
from selector.commands.tables import table
from selector.policies.rules import choose
from training.data.environments import ENVIRONMENTS, under_environments
from training.data.images import LabelledImages
from training.data.sources import digits
from training.data.splits import FIT, TUNE, Splits
from training.features.input_features import InputFeatures
from training.networks.family import train_family
from training.outcomes.outcomes import ALL_SPLITS, Outcomes, load_outcomes
from training.outcomes.profile import profile
from training.policies.estimators import KINDS, CorrectnessEstimator
from training.search.selector_graph import selector_graph, time_selector_us
from zoo.cores import allowed_cores
from zoo.models.latency import measure
from zoo.models.session import open_session
from zoo.models.zoo import Zoo

BUDGETS_US = {(32, 32): 50.0, (224, 224): 250.0}
PARITY_IMAGES = 1000


def run_speed(given: Given, *, results: Path = Path("results")) -> dict[str, Any]:
    """Run the suite, print its tables and its JSON line, write a result file.

    With data and weights, the figures for 32×32 and 224×224 come with their share of the mean time of the
    four float ResNets and of the EfficientNets; without, there are no shares.
    """
    seed = given.seed
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        zoo, data = _digits_zoo(work, seed)
        throughput = _throughput(zoo, data, work, seed)
        outcomes = load_outcomes(work / "profile", zoo=zoo)
        parity = _parity(outcomes, data, seed)
        if given.data is not None and given.weights is not None:
            overhead = [_overhead("cifar10-float", given, (32, 32)), _overhead("photos", given, (224, 224))]
        else:
            overhead = [_bare_overhead(outcomes, size, seed) for size in BUDGETS_US]
        answers = measure_answers(work / "made", weights=given.weights, seed=seed)
    rows = [
        [
            row["image"],
            str(row["features"]),
            f"{row['p50_us']:.1f}",
            f"{row['p95_us']:.1f}",
            f"{row['budget_us']:.0f}",
            "–" if row["share"] is None else f"{row['share']:.1%}",
        ]
        for row in overhead
    ]
    print(table(["image", "features", "p50 µs", "p95 µs", "budget", "share of mean time"], rows))
    rows = [
        [row["estimator"], f"{row['difference']:.1e}", f"{row['different_choices']} of {row['images']}"]
        for row in parity
    ]
    print("\n" + table(["estimator", "largest score difference", "different choices"], rows))
    print(f"\nprofiling throughput over a bare ONNX Runtime loop: {throughput:.2f}")
    print("\n" + shown_answers(answers))
    figures = {
        "overhead": overhead,
        "parity": parity,
        "profiling_over_bare_loop": round(throughput, 4),
        "answers": answers,
    }
    return finish("speed", figures, seed=seed, folder=results)


def _digits_zoo(work: Path, seed: int) -> tuple[Zoo, LabelledImages]:
    data = under_environments(digits(), list(ENVIRONMENTS), seed=seed)
    zoo = Zoo.open_or_create(work / "zoo")
    train_family(zoo, data, share=0.3, seed=seed, owned=True)
    return zoo, data


def _throughput(zoo: Zoo, data: LabelledImages, work: Path, seed: int) -> float:
    """Images per second of profiling over those of a bare loop, same models, batch and threads."""
    splits = Splits(seed=seed)
    ratios = []
    for turn in range(3):
        folder = work / ("profile" if turn == 0 else f"profile-{turn}")
        start = time.perf_counter()
        record = profile(zoo, data, folder, splits=splits, progress=False)
        profiled = (time.perf_counter() - start) / record.samples
        models = [zoo.model(name, threads=allowed_cores()) for name in zoo.names]
        batches = [np.stack([data.image(i + k) for k in range(64)]) for i in range(0, 64 * 40, 64)]
        start = time.perf_counter()
        for batch in batches:
            for model in models:
                model.run(batch)
        bare = (time.perf_counter() - start) / (64 * len(batches))
        ratios.append(bare / profiled)
    return float(np.median(ratios))


def _parity(outcomes: Outcomes, data: LabelledImages, seed: int) -> list[dict[str, Any]]:
    """Merged ONNX graph against torch features and scikit-learn scores on real images."""
    development = outcomes.split(FIT, TUNE)
    names = outcomes.feature_names
    chosen = np.random.default_rng(seed).choice(len(data), PARITY_IMAGES, replace=False)
    images = [data.image(int(i)) for i in chosen]
    with torch.inference_mode():
        features = InputFeatures(names).eval()(torch.from_numpy(np.stack(images))).numpy()
    rows = []
    for kind in KINDS:
        estimator = CorrectnessEstimator(kind, seed=seed).fit(development.features, development.right)
        graph = open_session(selector_graph(names, estimator.to_onnx(len(names)), grid=32), name="selector")
        got = np.concatenate([graph.run(["scores"], {"image": image[None]})[0] for image in images])
        wanted = estimator.scores(features)
        threshold = float(np.quantile(wanted, 0.6)) + 1e-9
        differ = int((choose(got.astype(np.float64), threshold) != choose(wanted, threshold)).sum())
        rows.append(
            {
                "estimator": kind,
                "difference": float(np.abs(got - wanted).max()),
                "different_choices": differ,
                "images": len(images),
            }
        )
    return rows


def _overhead(suite: str, given: Given, size: tuple[int, int]) -> dict[str, Any]:
    """Time of a fitted input policy's graph, and its share of the policy's mean time in cross-validation."""
    prepared = SUITES[suite](given)
    images: Sequence[NDArray[np.uint8]] = [
        np.random.default_rng(given.seed).integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(4)
    ]
    latency = measure(prepared.zoo, images, device="this-machine", runs=100, seed=given.seed)
    outcomes = deal(load_outcomes(prepared.profile, zoo=prepared.zoo, splits=ALL_SPLITS), given.seed)
    figures = input_overhead(
        outcomes, search(outcomes, prepared, latency, given.seed, kinds=("input",)), prepared, latency
    )
    times = figures["selector_us"], figures["selector_p95_us"]
    share, models = figures["selector_share"], list(prepared.zoo.names)
    return _row(size, len(figures["features"]), times, share=share, models=models)


def _bare_overhead(outcomes: Outcomes, size: tuple[int, int], seed: int) -> dict[str, Any]:
    """Time of the largest graph there can be: all features and the widest estimator, on the finer grid."""
    development = outcomes.split(FIT, TUNE)
    names = outcomes.feature_names
    estimator = CorrectnessEstimator("mlp", seed=seed).fit(development.features, development.right)
    micros = time_selector_us(selector_graph(names, estimator.to_onnx(len(names)), grid=64), size)
    times = round(float(np.median(micros)), 2), round(float(np.quantile(micros, 0.95)), 2)
    return _row(size, len(names), times, share=None, models=[])


def _row(
    size: tuple[int, int], features: int, times_us: tuple[float, float], **others: Any
) -> dict[str, Any]:
    p50, p95 = times_us
    row = {"image": f"{size[0]}x{size[1]}", "features": features, "p50_us": p50, "p95_us": p95}
    return row | {"budget_us": BUDGETS_US[size]} | others
