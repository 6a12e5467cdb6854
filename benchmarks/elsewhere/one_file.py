"""Selectors in one file beside their bundles: answers, times, and a fresh process with ONNX Runtime alone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.elsewhere.bundles import KINDS, Made, World
from benchmarks.result import finish
from benchmarks.selection.zoos import Given
from selector.answering.selector import Selector
from training.fitting.one_file.write import write_one_file
from zoo.inputs.kind import Item

TARGET = 1.05  # of the time of predict, at most
TRIED_IMAGES = 20  # before a file is handed out
TIMED_IMAGES = 200
OPENED = 5  # times
# Opens a file and answers an image without anything of ours; -I keeps our folders away.
ALONE = """
import sys
import numpy as np
import onnxruntime
onnxruntime.set_default_logger_severity(4)
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
image = np.full((32, 32, 3), 90, np.uint8)
label, model = session.run(["label", "model"], {"image": image})
assert not {"zoo", "selector", "training"} & set(sys.modules)
print(label, model)
"""


def run_one_file(
    given: Given,
    *,
    images: int = 1_000,
    rounds: int = 5,
    kinds: Sequence[str] = tuple(KINDS),
    results: Path = Path("results"),
) -> dict[str, Any]:
    """Write every kind of policy as one file, over float and 8-bit models, and hold it against its bundle.

    Prints a line for each, and whether all answers agree and the time is at most :data:`TARGET` of that of
    ``Selector.predict``.
    """
    world = World.of(given)
    rows = []
    for numbers in ("float", "int8"):
        for made in world.bundles(numbers, kinds):
            row = compare(made, given.work / "files" / f"{made.folder.name}.onnx", images, rounds)
            rows.append(row)
            print(
                f"{row['policy']}, {numbers}: {row['same']:,} of {row['images']:,} same, time "
                f"{row['over_predict']:.3f} of predict, opening {row['opening_over_bundle']:.2f}, "
                f"ready-made copy {row['copy_over_file']:.2f}, alone {'yes' if row['alone'] else 'NO'}",
                flush=True,
            )
    same = all(row["same"] == row["images"] and row["alone"] for row in rows)
    fast = all(row["over_predict"] <= TARGET for row in rows)
    print(f"same answers for every kind, alone in a fresh process: {'PASS' if same else 'NOT'}")
    print(f"time of every kind at most {TARGET} of predict: {'PASS' if fast else 'NOT'}")
    return finish("one-file", {"rows": rows, "same": same, "in_time": fast}, seed=given.seed, folder=results)


def compare(made: Made, file: Path, images: int, rounds: int) -> dict[str, Any]:
    """One file beside its bundle on test images."""
    file.parent.mkdir(parents=True, exist_ok=True)
    shown = [made.test.image(i) for i in range(min(images, len(made.test)))]
    written = write_one_file(made.folder, file, images=shown[:TRIED_IMAGES])
    bundle, alone = (Selector.load(path, watch=False) for path in (made.folder, file))
    same, off, paths = 0, 0.0, set()
    for image in shown:
        one, other = bundle.predict(image), alone.predict(image)
        same += (one.label, one.model, one.path) == (other.label, other.model, other.path)
        off = max(off, float(np.abs(np.subtract(one.probabilities, other.probabilities)).max()))
        paths.add(one.path)
    times = paired_times_us({"bundle": bundle.predict, "file": alone.predict}, shown[:TIMED_IMAGES], rounds)
    copies = file.with_suffix(".copies")
    Selector.load(file, cache=copies)
    opened = _opening_ms(
        {
            "bundle": lambda: Selector.load(made.folder, watch=False),
            "file": lambda: Selector.load(file),
            "copy": lambda: Selector.load(file, cache=copies),
        },
        shown[0],
    )
    return {
        "policy": made.kind,
        "models": made.numbers,
        "certified": written.reason is None,
        "ways": len(paths),
        "images": len(shown),
        "same": same,
        "probabilities_off": off,
        "predict_us": round(times["bundle"], 1),
        "over_predict": round(times["file"] / times["bundle"], 3),
        "opening_ms": round(opened["bundle"], 1),
        "opening_over_bundle": round(opened["file"] / opened["bundle"], 2),
        "copy_over_file": round(opened["copy"] / opened["file"], 2),
        "alone": opens_alone(file),
    }


def paired_times_us(
    calls: Mapping[str, Callable[[Any], object]], inputs: Sequence[Any], rounds: int
) -> dict[str, float]:
    """Mean microseconds of the thread for an input: of each call and input the least of several turns.

    The calls take every input in turns, so that other programs and the caches are the same for all.
    """
    best: dict[str, NDArray[np.float64]] = {name: np.full(len(inputs), np.inf) for name in calls}
    for turn in range(rounds):
        names = list(calls) if turn % 2 else list(calls)[::-1]
        for i, item in enumerate(inputs):
            for name in names:
                start = time.thread_time_ns()
                calls[name](item)
                best[name][i] = min(best[name][i], time.thread_time_ns() - start)
    return {name: float(values.mean()) / 1e3 for name, values in best.items()}


def opens_alone(file: Path) -> bool:
    """Whether a fresh process with ONNX Runtime, numpy and nothing of ours gets an answer of a file."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(file.absolute())],
        capture_output=True,
        cwd=file.parent,
        timeout=120,
        check=False,
    )
    return done.returncode == 0 and bool(done.stdout.strip())


def _opening_ms(calls: Mapping[str, Callable[[], Selector]], image: Item) -> dict[str, float]:
    """Least processor time to the first answer, of some turns."""
    best = dict.fromkeys(calls, np.inf)
    for _ in range(OPENED):
        for name, call in calls.items():
            start = time.process_time_ns()
            call().predict(image)
            best[name] = min(best[name], time.process_time_ns() - start)
    return {name: float(value) / 1e6 for name, value in best.items()}
