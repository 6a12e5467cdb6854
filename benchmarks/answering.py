"""Answers of a device while its background process installs and somebody removes models again and again."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.network import serving_apart
from selector.bundle import BUNDLE_FILE, SCHEMA_VERSION, Bundle, Calibration, Certificate, DeviceCosts
from selector.constraint import Constraint
from selector.device import MIN_ANSWERS, Device
from selector.policy import CascadePolicy, Stage
from zoo.client import without
from zoo.directory import Zoo
from zoo.errors import ZooError
from zoo.files import encode_record, write_atomic
from zoo.keys import Keys
from zoo.publish import publish
from zoo.store import Store

TASK = "objects"
USED, OTHER = "resnet56", "wide"  # every answer comes from the first, whether the other is there or not
LINK_BYTES_PER_S = 100e6 / 8
PHASES = 5
CALM_S, BUSY_S = 2.0, 4.0
ROUND_S = 0.1
LOOK_S = 0.02
STAY_S = 0.3  # how long the other model stays before it is removed


def run_answering(folder: Path, zoo: Zoo, keys: Keys, seed: int) -> dict[str, Any]:
    """Measure single answers in calm and busy phases, in turns.

    Busy is all of it: the start of the background process, downloads over 100 Mbit/s, tests of the model,
    switches of the Selector and removals by another process.
    """
    image = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    publish(folder / "published", zoo, keys=keys, bundles={TASK: _bundle(folder / "bundle", zoo)})
    root = (folder / "published" / "metadata" / "1.root.json").read_bytes()
    calm: list[float] = []
    busy: list[float] = []
    failed: list[str] = []
    problems: list[str] = []
    with serving_apart(folder / "published", link_bytes_per_s=LINK_BYTES_PER_S) as url:
        device = Device.set_up(folder / "device", url, root)
        device.client.install(models=[USED], bundles=[TASK])
        for _ in range(10 * MIN_ANSWERS):
            device.predict(image)
        with _removing(device.folder) as removals:
            for _ in range(PHASES):
                calm += _times(device, image, CALM_S, failed)
                device.start(every_s=ROUND_S)
                busy += _times(device, image, BUSY_S, failed)
                if device.last is not None and device.last.problem is not None:
                    problems.append(str(device.last.problem))
                device.stop()
        device.close()
    p95 = float(np.quantile(calm, 0.95))
    return {
        "phases": PHASES,
        "calm_answers": len(calm),
        "busy_answers": len(busy),
        "failed": len(failed),
        "installations": removals[0],
        "problems": len(problems),
        "calm_p50_ms": round(float(np.median(calm)), 3),
        "calm_p95_ms": round(p95, 3),
        "calm_max_ms": round(max(calm), 3),
        "busy_p50_ms": round(float(np.median(busy)), 3),
        "busy_p95_ms": round(float(np.quantile(busy, 0.95)), 3),
        "busy_max_ms": round(max(busy), 3),
        "busy_p95_over_calm_p95": round(float(np.quantile(busy, 0.95)) / p95, 3),
        "slower_than_twice": round(float(np.mean(np.array(busy) > 2 * p95)), 5),
        "slower_than_twice_calm": round(float(np.mean(np.array(calm) > 2 * p95)), 5),
    }


def _times(device: Device, image: NDArray[np.uint8], seconds: float, failed: list[str]) -> list[float]:
    gc.collect()
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        try:
            device.predict(image, task=TASK)
        except ZooError as error:
            failed.append(str(error))
        times.append((time.perf_counter() - start) * 1e3)
    return times


def _bundle(folder: Path, zoo: Zoo) -> Path:
    """A bundle for which the other model is worth fetching, and is then never needed.

    Its costs and certificates are made up: what is measured is the switching.
    """
    cards = (zoo.card(USED), zoo.card(OTHER))
    stages = tuple(Stage(model=name, scale=1.0, offset=0.0) for name in (USED, OTHER))
    policies = (CascadePolicy(stages=stages), CascadePolicy(stages=stages[:1]))
    bundle = Bundle(
        schema_version=SCHEMA_VERSION,
        task=TASK,
        classes=cards[0].classes,
        models=cards,
        by_accuracy=(USED, OTHER),
        policies=policies,
        default=Constraint(kind="precision", level=0.9),
        certificates=(),
        costs=(DeviceCosts(device="any", threads=1, image=(32, 32), models={USED: 10.0, OTHER: 1.0}),),
        calibration=Calibration(data_sha256="0" * 64, fit=1, tune=1, certify=1),
    )
    certificates = tuple(
        Certificate(
            constraint=bundle.default,
            confidence=0.9,
            policy=i,
            threshold=0.0,
            samples=1,
            accuracy=0.95,
            mean_ms=mean_ms,
            p_value=0.0,
            subject_sha256=bundle.subject(i),
        )
        for i, mean_ms in enumerate((5.0, 10.0))
    )
    proven = msgspec.structs.replace(bundle, certificates=certificates)
    write_atomic(folder / BUNDLE_FILE, encode_record(proven))
    return folder


@contextmanager
def _removing(folder: Path) -> Iterator[list[int]]:
    """Another process removes the other model soon after it has come; how often is told in the end."""
    path = os.pathsep.join([str(Path(__file__).resolve().parents[1]), *filter(None, sys.path)])
    removals = [0]
    with subprocess.Popen(
        [sys.executable, "-c", "from benchmarks.answering import remove; remove()", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield removals
        finally:
            process.stdin.close()
            removals[0] = int(process.stdout.read() or 0)


def remove() -> None:
    """That process: works until its input ends, then says how often it removed something."""
    import select

    store = Store.open(sys.argv[1])
    removals = 0
    while not select.select([sys.stdin], [], [], LOOK_S)[0]:
        if any(item.release.name == OTHER for item in store.installed.models):
            time.sleep(STAY_S)
            with store.lock():
                store.commit(without(store.installed, [OTHER]))
                store.collect()
            removals += 1
    print(removals)
