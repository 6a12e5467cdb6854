"""Blobs and releases of small real models: on a publisher's disk, and in a device's store."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.small_models import COLOURS, build_onnx, plain_image
from zoo.files import sha256_bytes
from zoo.inputs.reference_image import reference_image
from zoo.models.card import ModelCard
from zoo.models.model import Model
from zoo.releases.release import Blob, BundleRelease, ModelRelease, SelfTest
from zoo.store.installed import Installed, InstalledBundle, InstalledModel
from zoo.store.store import Store

IMAGES = np.stack([plain_image(colour) for colour in COLOURS])  # one of each, in that order
Made = tuple[ModelRelease, list[bytes]]  # a release and the contents of its blobs


def blob_of(content: bytes) -> Blob:
    """The name of some content."""
    return Blob(sha256=sha256_bytes(content), size_bytes=len(content))


def offer(root: Path, contents: Iterable[bytes]) -> dict[str, int]:
    """Write blobs where a publisher has them; digest → bytes."""
    blobs = {}
    for content in contents:
        blob = blob_of(content)
        path = root / blob.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        blobs[blob.sha256] = blob.size_bytes
    return blobs


def noise(size: int, seed: int = 0) -> bytes:
    """Content that is like no other."""
    return np.random.default_rng(seed).bytes(size)


def wide_onnx(seed: int = 0, *, bias: tuple[float, ...] = (0.0, 0.0, 0.0)) -> bytes:
    """A model with a weight of 36 kB that does not matter, so that it has one blob of its own and a pack."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(build_onnx(bias=bias))
    graph = model.graph
    wide = np.random.default_rng(seed).normal(0, 1e-4, (3, 3000)).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(wide, "wide"))
    graph.initializer.append(numpy_helper.from_array(np.zeros((3000, 3), np.float32), "narrow"))
    gemm = graph.node[-1]
    gemm.output[0] = "plain"
    graph.node.extend(
        [
            helper.make_node("MatMul", ["plain", "wide"], ["hidden"]),
            helper.make_node("MatMul", ["hidden", "narrow"], ["nothing"]),
            helper.make_node("Add", ["plain", "nothing"], ["logits"]),
        ]
    )
    return bytes(model.SerializeToString(deterministic=True))


def make_release(name: str, content: bytes, *, version: int = 1, **changes: Any) -> Made:
    """A release of an ONNX model of colours."""
    pytest.importorskip("onnx")
    from zoo.publisher.external_data import externalise

    card = ModelCard(
        name=name,
        classes=COLOURS,
        resolution=(8, 8),
        file=f"models/{name}.onnx",
        sha256=sha256_bytes(content),
        size_bytes=len(content),
        parameters=12,
        macs=9,
    )
    external = externalise(content, name=name)
    answer = Model(card, content).logits(reference_image(8, 8)[None])[0]
    return release_of(card, external.graph, external.weights, tuple(map(float, answer)), version, **changes)


def release_of(
    card: ModelCard,
    graph: bytes,
    weights: list[bytes],
    logits: tuple[float, ...] = (0.0, 0.0, 0.0),
    version: int = 1,
    **changes: Any,
) -> Made:
    """A release of any graph and weights, whether they make sense or not."""
    facts: dict[str, Any] = {
        "schema_version": 1,
        "version": version,
        "card": card,
        "graph": blob_of(graph),
        "weights": tuple(map(blob_of, weights)),
        "min_onnxruntime": "1.24",
        "opset": 18,
        "peak_memory_bytes": 100 * 2**20,
        "selftest": SelfTest(image=(8, 8), logits=logits, tolerance=1e-4),
    }
    return ModelRelease(**facts | changes), [graph, *weights]


def make_bundle(
    name: str, models: Iterable[ModelRelease], record: bytes = b"{}"
) -> tuple[BundleRelease, list[bytes]]:
    """A release of a bundle whose record is no real one."""
    release = BundleRelease(
        schema_version=1,
        version=1,
        name=name,
        record=blob_of(record),
        files={},
        models={model.name: model.card.sha256 for model in models},
    )
    return release, [record]


def put(store: Store, *contents: bytes) -> None:
    """Bring contents into a store, as if they had been fetched."""
    for content in contents:
        blob = blob_of(content)
        store.partial(blob.sha256).write_bytes(content)
        store.adopt(blob.sha256, blob.size_bytes)


def record(*models: ModelRelease, bundles: Iterable[BundleRelease] = (), pinned: bool = False) -> Installed:
    """An installed record."""
    return Installed(
        schema_version=1,
        models=tuple(InstalledModel(release=release, pinned=pinned) for release in models),
        bundles=tuple(InstalledBundle(release=release) for release in bundles),
    )


def install(store: Store, *made: Made) -> None:
    """Make the store hold exactly these models."""
    for _, contents in made:
        put(store, *contents)
    store.commit(record(*(release for release, _ in made)))
    store.collect()


def answers(model: Model) -> list[str]:
    """What a model of colours says to a red, a green and a blue image."""
    return [COLOURS[k] for k in model.logits(IMAGES).argmax(axis=1)]
