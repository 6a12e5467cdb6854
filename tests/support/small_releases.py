"""Releases as records alone, whose blobs are labels that stand for content; a publisher of such records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.files import encode_record, sha256_bytes
from zoo.models.card import ModelCard
from zoo.releases.release import Blob, BundleRelease, Index, ModelRelease, SelfTest


def blob(label: str, size: int) -> Blob:
    """A blob; equal labels and sizes are the same blob."""
    return Blob(sha256=sha256_bytes(f"{label} {size}".encode()), size_bytes=size)


def model_release(
    name: str, blobs: Mapping[str, int], *, version: int = 1, accuracy: float | None = None
) -> ModelRelease:
    """A model of a graph of ten bytes of its own, and of these weights."""
    card = ModelCard(
        name=name,
        classes=("no", "yes"),
        resolution=(8, 8),
        file=f"models/{name}.onnx",
        sha256=sha256_bytes(f"{name} {version}".encode()),
        size_bytes=10 + sum(blobs.values()),
        parameters=1,
        macs=1,
    )
    return ModelRelease(
        schema_version=1,
        version=version,
        card=card,
        graph=blob(f"graph of {name}", 10),
        weights=tuple(blob(label, size) for label, size in blobs.items()),
        min_onnxruntime="1.24",
        opset=18,
        peak_memory_bytes=1000,
        selftest=SelfTest(image=(8, 8), logits=(0.0, 1.0), tolerance=1e-3),
        accuracy=accuracy,
    )


def bundle_release(
    name: str, models: tuple[ModelRelease, ...], size: int = 5, *, environment: str | None = None
) -> BundleRelease:
    """A bundle of one file."""
    return BundleRelease(
        schema_version=1,
        version=1,
        name=name,
        record=blob(f"record of {name}", size),
        files={},
        models={release.name: release.card.sha256 for release in models},
        environment=environment,
    )


def index_of(models: Mapping[str, Mapping[str, int]], bundles: Mapping[str, tuple[str, ...]] = {}) -> Index:
    """An index of models with these weights, and of bundles with these models."""
    made = {name: model_release(name, blobs) for name, blobs in models.items()}
    return Index(
        models=made,
        bundles={
            name: bundle_release(name, tuple(made[m] for m in names)) for name, names in bundles.items()
        },
    )


def write(path: Path, record: Any) -> None:
    """Write a file of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def role(kind: str, **fields: Any) -> dict[str, Any]:
    """Metadata of one role, as The Update Framework has it."""
    return {"signatures": [], "signed": {"_type": kind, "expires": "2030-01-01T00:00:00Z", **fields}}


def list_targets(root: Path, file: str, records: dict[str, Any]) -> None:
    """Write records, and the metadata that lists them."""
    listed = {}
    for path, record in records.items():
        content = encode_record(record)
        folder, name = path.split("/")
        target = root / "targets" / folder / f"{sha256_bytes(content)}.{name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        listed[path] = {"length": len(content), "hashes": {"sha256": sha256_bytes(content)}}
    write(root / "metadata" / file, role("targets", targets=listed))


def publish(root: Path, records: dict[str, Any]) -> None:
    """Lay out a publisher as The Update Framework does, without signatures."""
    list_targets(root, "3.targets.json", records)
    snapshot = role("snapshot", meta={"targets.json": {"version": 3}})
    write(root / "metadata" / "7.snapshot.json", snapshot)
    write(root / "metadata" / "timestamp.json", role("timestamp", meta={"snapshot.json": {"version": 7}}))
