"""What lies in a publisher's folder, and publishing without measuring every model anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import zoo.publisher.prepare
from zoo.inputs.kind import InputKind
from zoo.models.session import open_session
from zoo.publisher.peak_memory import Measured


@contextmanager
def measured_once() -> Iterator[None]:
    """The peak of a model that was measured before in these tests is taken as it was."""
    measure = zoo.publisher.prepare.measure_peak
    known: dict[tuple[bytes, tuple[int, int], str], Measured] = {}

    def once(graph: bytes, weights: Path, image: tuple[int, int], kind: InputKind, *, name: str) -> Measured:
        key = (graph, image, name)  # the graph names its weights by their digests
        if key not in known:
            known[key] = measure(graph, weights, image, kind, name=name)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo.publisher.prepare, "measure_peak", once)
        yield


def measure_here(
    graph: bytes, weights: Path, image: tuple[int, int], kind: InputKind, *, name: str
) -> Measured:
    session = open_session(graph, name=name, weights=weights)
    logits = session.run(["logits"], kind.feeds(kind.one(kind.reference(image))))[0]
    return Measured(10**8, tuple(map(float, logits[0])))


def files(root: Path) -> dict[str, bytes]:
    """Everything in a publisher's folder but its lock."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def blobs(root: Path) -> set[str]:
    """Names of the blobs in a publisher's folder."""
    return {path.name for path in (root / "blobs").rglob("*") if path.is_file()}
