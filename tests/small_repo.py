"""A folder to publish into, its keys, and what lies in it afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

import zoo.build.offer
from zoo.build.peak import Measured
from zoo.keys import Keys, create_keys
from zoo.model import open_session
from zoo.selftest import test_image as the_image


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """New keys of a publisher."""
    return create_keys(tmp_path / "keys")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Where to publish; nothing is there yet."""
    return tmp_path / "repo"


@pytest.fixture
def quick_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a process for every model; how that measures has claims of its own."""
    monkeypatch.setattr(zoo.build.offer, "measure_peak", _measure_here)


def _measure_here(graph: bytes, weights: Path, image: tuple[int, int], *, name: str) -> Measured:
    session = open_session(graph, name=name, weights=weights)
    logits = session.run(["logits"], {"image": the_image(*image)[None]})[0]
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
