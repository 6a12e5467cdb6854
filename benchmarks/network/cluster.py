"""Part cluster: profiling on two nodes of one core each against one, and a worker that is killed half-way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.result import finish
from benchmarks.selection.zoos import Given, resnet_zoo, unpacked
from selector.commands.tables import table
from training.cluster.connection import connected, load_ray
from training.cluster.pool import Usage
from training.data.folder import folder as image_folder
from training.data.images import LabelledImages
from training.features.features import NAMES, feature_graph
from training.outcomes.batches import pixels_per_batch
from training.outcomes.shards import FEATURES, PIXELS, Profiling, ShardRunner
from training.outcomes.spread import spread_parts
from zoo.models.zoo import Zoo

MODELS = ("resnet20", "resnet32", "resnet44", "resnet56")  # a family, as profiles have
IMAGES = 3072  # twelve shards: what Ray starts and ends in the meantime is a small part
PAIRS = 5  # of rounds with one and two workers, in turns


def run_cluster(given: Given, results: Path = Path("results")) -> dict[str, Any]:
    """Run the part, print its table and its JSON line, write a result file.

    Throughput is that from the first result to the last: starting Ray and its workers is told apart. The two
    nodes share this machine with all else that runs on it, so images a second of processor time of the
    workers are given as well.
    """
    zoo = resnet_zoo(given).only(MODELS)
    whole = image_folder(unpacked(given, "cifar10-test.zip", "test"))
    chosen = np.random.default_rng(given.seed).choice(len(whole), IMAGES, replace=False)
    data = whole.subset(np.sort(chosen))
    with _two_nodes() as address, connected(address):
        rounds = [_round(zoo, data, address, workers) for _ in range(PAIRS) for workers in (1, 2)]
        killed = _killed(zoo, data, address)
    one, two = rounds[::2], rounds[1::2]
    ratios = [pair[1]["images_per_s"] / pair[0]["images_per_s"] for pair in zip(one, two, strict=True)]
    rows = [
        [
            str(workers),
            f"{np.median([item['images_per_s'] for item in some]):.0f}",
            f"{np.median([item['images_per_cpu_s'] for item in some]):.0f}",
            f"{np.median([item['start_s'] for item in some]):.1f}",
        ]
        for workers, some in ((1, one), (2, two))
    ]
    print(table(["workers", "images/s", "images/s of CPU", "start s"], rows))
    print(f"two workers: {np.median(ratios):.2f} times one (median of {PAIRS} pairs); {killed}")
    figures = {"rounds": rounds, "two_to_one": round(float(np.median(ratios)), 3), "killed": killed}
    figures["load"] = os.getloadavg()
    return finish("network-cluster", figures, seed=given.seed, folder=results, file_only=("rounds",))


@contextmanager
def _two_nodes() -> Iterator[str]:
    load_ray()
    from ray.cluster_utils import Cluster

    # three nodes on one machine: what each would count of itself takes the workers' time
    head = {
        "num_cpus": 0,
        "include_dashboard": False,
        "include_log_monitor": False,
        "_system_config": {"enable_metrics_collection": False, "event_stats": False},
    }
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(num_cpus=1, include_log_monitor=False)
    try:
        yield str(cluster.address)
    finally:
        cluster.shutdown()


def _round(zoo: Zoo, data: LabelledImages, address: str, workers: int) -> dict[str, float]:
    """Figures of one run with so many workers; nothing is written."""
    usage, start = Usage(), time.perf_counter()
    ticks: list[tuple[float, int]] = []
    parts = {0: (np.arange(len(data)), list(MODELS))}

    def step(images: int) -> None:
        ticks.append((time.perf_counter(), images))

    for _ in spread_parts(zoo, data, parts, _how(zoo), address, 1, step, usage, most=workers):
        pass
    seconds = ticks[-1][0] - ticks[workers - 1][0]
    images = sum(count for _, count in ticks[workers:])
    return {
        "workers": workers,
        "images_per_s": images / seconds,
        "images_per_cpu_s": len(data) / sum(usage.cpu_s.values()),
        "start_s": ticks[0][0] - start,
        "load": os.getloadavg()[0],
    }


def _killed(zoo: Zoo, data: LabelledImages, address: str) -> dict[str, Any]:
    """Outputs of a run whose first worker is killed, against those of a run here."""
    usage, how = Usage(), _how(zoo)
    killed: list[str] = []
    rows, names = np.arange(len(data)), [*zoo.names, FEATURES, PIXELS]

    def kill(images: int) -> None:
        if not killed and len(usage.cpu_s) > 1:
            killed.append(next(iter(usage.cpu_s)))
            os.kill(int(killed[0].rpartition(":")[2]), signal.SIGKILL)

    ((_, there),) = spread_parts(zoo, data, {0: (rows, names)}, how, address, 1, kill, usage)
    here = ShardRunner(how, lambda arena: {name: zoo.model(name) for name in zoo.names}).run(
        data, rows, names
    )
    equal = all(there[name].tobytes() == here[name].tobytes() for name in names)
    return {"deaths": usage.deaths, "bit_equal": equal}


def _how(zoo: Zoo) -> Profiling:
    return Profiling(
        orders={name: np.arange(len(zoo.card(name).classes)) for name in zoo.names},
        features=feature_graph(NAMES, grid=32).SerializeToString(),
        grid=32,
        batch_size=64,
        pixels=pixels_per_batch(len(zoo.names)),
    )
