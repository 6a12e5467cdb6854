"""Suite ``distribution``: bytes and times of publishing, fetching and updating, on a loopback network.

Ratios compare things that were done in turns in one run; the network's round trip is a pause before every
answer of the server.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.distribution.network import SlowServer, serving
from benchmarks.distribution.polling import run_load
from benchmarks.distribution.published import published_zoo, shaken
from benchmarks.result import finish
from zoo.client.client import Client
from zoo.client.trust import Trust
from zoo.convert.exchange import difference
from zoo.files import sha256_bytes
from zoo.models.zoo import Zoo, add_again
from zoo.publisher.keys import Keys, create_keys
from zoo.publisher.publish import publish
from zoo.store.store import Store

ROUND_TRIP_S = 0.05
WORKERS = 16
REPEATS = 7
PLAIN_FILE = "plain.bin"


def run_distribution(
    *,
    weights: Path | None = None,
    devices: int = 1000,
    seed: int = 0,
    results: Path = Path("results"),
) -> dict[str, Any]:
    """Measure, print a table and one JSON line, and write the result file.

    Parameters
    ----------
    weights
        Folder with ``cifar10-resnet56.npz``; without, a ResNet-56 with random weights moves the same bytes.
    devices
        That poll one service at the same time.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        zoo = published_zoo(folder / "zoo", weights, seed)
        create_keys(folder / "keys")
        keys = Keys.open(folder / "keys")
        first = publish(folder / "published", zoo, keys=keys)
        with serving(folder / "published") as server:
            figures: dict[str, Any] = {
                "published_bytes": first.new_bytes,
                "refresh": _refresh(folder, server),
                "cold_install": _cold(folder, server, zoo),
                "partial_update": _partial(folder, server, zoo, keys, seed),
            }
    load = run_load(devices=devices, seed=seed)
    figures["service"] = {
        "devices": load.devices,
        "accepted": load.accepted,
        "lost": load.lost,
        "seconds": round(load.seconds, 2),
        "report_p50_ms": round(load.report_p50_ms, 2),
        "report_p95_ms": round(load.report_p95_ms, 2),
    }
    _print(figures)
    return finish("distribution", figures, seed=seed, folder=results)


@contextmanager
def _device(folder: Path, server: SlowServer, name: str, *, workers: int = WORKERS) -> Iterator[Client]:
    """A new device that knows the publisher's root and nothing else."""
    place = folder / name
    shutil.rmtree(place, ignore_errors=True)
    Trust.pin(place / "tuf", (folder / "published" / "metadata" / "1.root.json").read_bytes())
    client = Client(Store.open(place), server.url, workers=workers)
    try:
        yield client
    finally:
        client.close()


def _refresh(folder: Path, server: SlowServer) -> dict[str, Any]:
    with _device(folder, server, "refresh") as client:
        client.refresh()
        server.forget()
        times = []
        for _ in range(10 * REPEATS):
            times.append(client.refresh().seconds * 1e3)
        requests = server.requests / len(times)
    return {
        "requests": requests,
        "p50_ms": round(statistics.median(times), 2),
        "p95_ms": round(float(np.quantile(times, 0.95)), 2),
        "max_ms": round(max(times), 2),
    }


def _cold(folder: Path, server: SlowServer, zoo: Zoo) -> dict[str, Any]:
    """Fetching a model's blobs into an empty store, in turns with one plain file of the same size."""
    with _device(folder, server, "look") as client:
        release = client.refresh().index.models["wide"]
    plain = folder / "published" / PLAIN_FILE
    plain.write_bytes(np.random.default_rng(0).bytes(release.size_bytes))
    ours, singly, whole, theirs = [], [], [], []
    server.delay_s = ROUND_TRIP_S
    try:
        for _ in range(REPEATS):
            theirs.append(_plain(server, plain))
            with _device(folder, server, "cold") as client:
                ours.append(client.fetcher.fetch(release.blobs, client.store, whole=[release]).seconds)
            with _device(folder, server, "cold") as client:
                singly.append(client.fetcher.fetch(release.blobs, client.store).seconds)
            with _device(folder, server, "cold") as client:
                whole.append(client.install(models=["wide"]).seconds)
    finally:
        server.delay_s = 0.0
        plain.unlink()
    plain_s = statistics.median(theirs)
    return {
        "bytes": release.size_bytes,
        "blobs": len(release.blobs),
        "workers": WORKERS,
        "round_trip_ms": ROUND_TRIP_S * 1e3,
        "plain_file_ms": round(plain_s * 1e3, 1),
        "fetch_ms": round(statistics.median(ours) * 1e3, 1),
        "fetch_over_plain": round(statistics.median(ours) / plain_s, 2),
        "fetch_singly_over_plain": round(statistics.median(singly) / plain_s, 2),
        "install_ms": round(statistics.median(whole) * 1e3, 1),
        "install_over_plain": round(statistics.median(whole) / plain_s, 2),
    }


def _plain(server: SlowServer, file: Path) -> float:
    """Seconds for one file, verified and written like ours."""
    import urllib3

    start = time.perf_counter()
    with urllib3.PoolManager() as pool:
        content = pool.request("GET", f"{server.url}/{file.name}").data
    target = file.with_suffix(".fetched")
    target.write_bytes(content)
    sha256_bytes(content)
    target.unlink()
    return time.perf_counter() - start


def _partial(folder: Path, server: SlowServer, zoo: Zoo, keys: Keys, seed: int) -> dict[str, Any]:
    """Updates to versions that differ in normalisation and head."""
    times, shares, stored = [], [], []
    with _device(folder, server, "partial", workers=8) as client:
        client.install(models=["resnet56"])
        size = client.store.installed.models[0].release.size_bytes
        for i in range(REPEATS):
            parent = zoo.card("resnet56")
            before = (zoo.folder / parent.file).read_bytes()
            content = shaken(before, classes=len(parent.classes), seed=seed + i + 1)
            share = difference(before, content).share
            add_again(zoo, parent, content)
            publish(folder / "published", zoo, keys=keys)
            server.forget()
            change = client.update()
            assert server.bytes_sent == change.bytes_on_wire
            times.append(change.seconds)
            shares.append(change.bytes_on_wire / size)
            stored.append(client.store.used_bytes() / size)
        image = np.random.default_rng(seed).integers(0, 256, (1, 32, 32, 3), np.uint8)
        same = np.array_equal(
            client.store.model("resnet56").logits(image), zoo.model("resnet56").logits(image)
        )
    return {
        "model_bytes": size,
        "weights_changed": round(share, 5),
        "wire_share": round(max(shares), 5),
        "installed_ms": round(statistics.median(times) * 1e3, 1),
        "installed_max_ms": round(max(times) * 1e3, 1),
        "stored_share": round(max(stored), 4),
        "same_logits": bool(same),
    }


def _print(figures: dict[str, Any]) -> None:
    for name, part in figures.items():
        if isinstance(part, dict):
            print(f"{name.replace('_', ' ')}: " + ", ".join(f"{k} {v}" for k, v in part.items()))
