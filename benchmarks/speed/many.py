"""Many images: batches beside single runs, and several threads in a cascade."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.speed.answers import CHAINS, bare_run
from benchmarks.speed.made_bundles import made_images, made_policies, write_bundle
from benchmarks.speed.ratios import UNDISTURBED_QUANTILE, quiet_times_us
from selector.answering.measuring.bench import as_if_proven
from selector.answering.selector import Selector
from selector.bundle.bundle import BUNDLE_FILE
from selector.policies.cascade import CascadePolicy
from selector.policies.rules import confidence
from zoo.files import encode_record, read_verified, write_atomic
from zoo.models.zoo import Zoo

BATCH = 512  # images of one call
HANDED_ON = 0.25  # share of them that the first model is not sure enough of
THREADS = 2


def batch_over_singles(
    zoo: Zoo, folder: Path, *, chain: Sequence[str] = CHAINS[-1], rounds: int = 7, seed: int = 0
) -> dict[str, Any]:
    """``predict_batch`` over bare runs of the same models on the same images, one at a time.

    A quarter of the images goes on from the first model to the second.
    """
    images = np.stack(made_images(BATCH, seed=seed))
    policy, graphs = made_policies(chain, len(zoo.card(chain[0]).classes))["cascade"]
    bundle = write_bundle(folder / "batch", zoo, chain, policy, graphs)
    odds = np.array(confidence(zoo.model(chain[0]).logits(images))[0])
    assert isinstance(policy, CascadePolicy)
    threshold = policy.stages[0].judge(float(np.quantile(odds, HANDED_ON)), 0.0)[0]
    proven = as_if_proven(bundle, policy, threshold)
    write_atomic(folder / "batch" / BUNDLE_FILE, encode_record(proven))
    selector = Selector.load(folder / "batch")
    paths = [len(answer.path) for answer in selector.predict_batch(images)]
    bare = [bare_run(zoo, name) for name in chain]
    taken: dict[str, list[int]] = {"bare": [], "batch": []}
    for _ in range(rounds):
        start = time.thread_time_ns()
        for image, count in zip(images, paths, strict=True):
            for run in bare[:count]:
                run(image)
        taken["bare"].append(time.thread_time_ns() - start)
        start = time.thread_time_ns()
        selector.predict_batch(images)
        taken["batch"].append(time.thread_time_ns() - start)
    times = {name: float(np.quantile(some, UNDISTURBED_QUANTILE)) for name, some in taken.items()}
    return {
        "images": BATCH,
        "handed_on": round(float(np.mean([count > 1 for count in paths])), 3),
        "batch_over_bare": round(times["batch"] / times["bare"], 3),
    }


def threads_over_one(
    zoo: Zoo, *, chain: Sequence[str] = CHAINS[-1], rounds: int = 100, seed: int = 0
) -> dict[str, Any]:
    """Two models one after the other with two threads each, over the same with one, by the clock on the wall.

    Both as sessions are opened here, and with threads that go on spinning between runs.
    """
    images = made_images(64, seed=seed)
    calls = {
        "one": [bare_run(zoo, name) for name in chain],
        "spinning": [_spinning(zoo, name) for name in chain],
        "ours": [bare_run(zoo, name, threads=THREADS) for name in chain],
    }
    times = quiet_times_us(
        {name: _all_of(runs) for name, runs in calls.items()},
        images,
        rounds=rounds,
        clock=time.perf_counter_ns,
        seed=seed,
    )
    return {
        "threads": THREADS,
        "spinning_over_one": round(times["spinning"] / times["one"], 3),
        "ours_over_one": round(times["ours"] / times["one"], 3),
    }


def _all_of(runs: Sequence[Any]) -> Any:
    def every(image: Any) -> None:
        for run in runs:
            run(image)

    return every


def _spinning(zoo: Zoo, name: str) -> Any:
    """What runs a model with the thread pool as it is by default."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    card = zoo.card(name)
    content = read_verified(zoo.folder / card.file, card.sha256, card.size_bytes)
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(["logits"], {"image": image[np.newaxis]})
