"""Another execution provider beside the CPU's: answers, times, and what certificates are worth there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.elsewhere.bundles import Made, Numbers, World
from benchmarks.result import finish
from benchmarks.selection.zoos import Given
from selector.answering.measuring.agree import agree
from selector.answering.selector import Selector
from selector.bundle.agreement import Agreement, agreed, save_agreement
from selector.bundle.bundle import read_bundle, valid_certificates
from selector.bundle.certificate import Certificate
from zoo.models.model import Model
from zoo.providers import CPU, Provider

COMPARED: Sequence[tuple[Numbers, str]] = (
    ("float", "cascade on raw confidence"),
    ("float", "probe"),
    ("int8", "cascade on raw confidence"),
    ("int8", "probe"),
)
TIMED_IMAGES = 300


def run_providers(
    given: Given, provider: Provider, *, images: int = 1_000, results: Path = Path("results")
) -> dict[str, Any]:
    """The CIFAR-10 suite with a provider: agreement on tune images, then test images with both.

    Parameters
    ----------
    images
        Test images, at most.
    """
    world = World.of(given)
    print(f"{provider}, ONNX Runtime {ort.__version__}")
    rows = []
    for numbers, kind in COMPARED:
        (made,) = world.bundles(numbers, [kind])
        row = _beside_cpu(made, provider, images)
        rows.append(row)
        print(
            f"{row['policy']}, {row['models']}: of {row['tune_images']:,} tune images at most "
            f"{row['other_labels']} with another label, {row['other_paths']} by other models; certificate "
            f"{_words(row)}; of {row['test_images']:,} test images {row['same_labels']:,} with the same "
            f"label and {row['same_models']:,} by the same model, right {row['right']:.1%} (CPU "
            f"{row['right_cpu']:.1%}); an answer {row['median_ms']:.3f} ms (CPU {row['median_ms_cpu']:.3f})",
            flush=True,
        )
    models = _model_times(world, provider)
    for name, (one, other) in models.items():
        print(f"{name}: {other:.3f} ms (CPU {one:.3f})")
    held = all(row["holds"] for row in rows)
    print(f"every certificate that counts there holds on test images: {'PASS' if held else 'NOT'}")
    return finish(
        "providers",
        {
            "provider": str(provider),
            "onnxruntime": ort.__version__,
            "rows": rows,
            "models_ms": {name: {"cpu": one, "provider": other} for name, (one, other) in models.items()},
            "holds": held,
        },
        seed=given.seed,
        folder=results,
    )


def _beside_cpu(made: Made, provider: Provider, images: int) -> dict[str, Any]:
    """One bundle with both: on tune images what may differ, on test images what does."""
    tune = (made.tune.image(i) for i in range(len(made.tune)))
    found = agree(made.folder, tune, provider)
    save_agreement(found, made.folder, provider)
    cpu, other = (Selector.load(made.folder, watch=False, providers=one) for one in (CPU, provider))
    shown = [made.test.image(i) for i in range(min(images, len(made.test)))]
    labels = [made.test.classes[made.test.labels[i]] for i in range(len(shown))]
    proof, counts = _certificates(made, found)
    # each is asked for what its certificate promises, so that both go by the same one
    levels = [None if one is None or counts is None else one.constraint.level for one in (proof, counts)]
    ask, ask_other = partial(cpu.predict, precision=levels[0]), partial(other.predict, precision=levels[1])
    ones, others = ([call(image) for image in shown] for call in (ask, ask_other))
    right = float(np.mean([answer.label == label for answer, label in zip(others, labels, strict=True)]))
    times = wall_ms({"cpu": ask, "provider": ask_other}, shown[:TIMED_IMAGES])
    return {
        "policy": made.kind,
        "models": made.numbers,
        "tune_images": found.samples,
        "other_labels": max(row.other_labels for row in found.rows),
        "other_paths": max(row.other_paths for row in found.rows),
        "precision_cpu": None if proof is None else proof.constraint.level,
        "precision": None if counts is None else round(counts.constraint.level, 5),
        "test_images": len(shown),
        "same_labels": sum(a.label == b.label for a, b in zip(ones, others, strict=True)),
        "same_models": sum(a.model == b.model for a, b in zip(ones, others, strict=True)),
        "right": right,
        "right_cpu": float(np.mean([a.label == label for a, label in zip(ones, labels, strict=True)])),
        "holds": counts is None or right >= counts.constraint.level,
        "median_ms": round(times["provider"], 4),
        "median_ms_cpu": round(times["cpu"], 4),
    }


def _certificates(made: Made, found: Agreement) -> tuple[Certificate | None, Certificate | None]:
    """The highest precision that is certified with the CPU, and what that certificate counts as."""
    bundle = read_bundle(made.folder)
    proofs = [proof for proof in valid_certificates(bundle, 0) if proof.constraint.kind == "precision"]
    best = max(proofs, key=lambda proof: proof.constraint.level, default=None)
    counted = [] if best is None else agreed([best], found)
    return best, counted[0] if counted else None


def _model_times(world: World, provider: Provider) -> Mapping[str, tuple[float, float]]:
    """Mean milliseconds of every model alone, with the CPU's provider and with the other."""
    zoo, data = world.prepared.zoo, world.prepared.data
    batches = [data.kind.one(data.image(i)) for i in range(min(TIMED_IMAGES, len(data)))]
    calls: dict[str, Callable[[Any], object]] = {}
    for card in zoo.cards:
        for one in (CPU, provider):
            calls[f"{card.name} {one}"] = Model.open(card, zoo.folder, provider=one).logits
    times = wall_ms(calls, batches)
    return {name: (times[f"{name} {CPU}"], times[f"{name} {provider}"]) for name in zoo.names}


def wall_ms(calls: Mapping[str, Callable[[Any], object]], inputs: Sequence[Any]) -> dict[str, float]:
    """Median milliseconds on the wall of calls that take every input in turns; the first tenth warms up.

    Providers work in threads of their own, whose time no clock of the processor tells.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for item in (*inputs[: len(inputs) // 10], *inputs):
        for name, call in calls.items():
            start = time.perf_counter()
            call(item)
            taken[name].append((time.perf_counter() - start) * 1e3)
    return {name: float(np.median(values[-len(inputs) :])) for name, values in taken.items()}


def _words(row: Mapping[str, Any]) -> str:
    if row["precision_cpu"] is None:
        return "none"
    there = "does not count" if row["precision"] is None else f"counts as {row['precision']:.3f}"
    return f"of precision {row['precision_cpu']:.3f} {there}"
