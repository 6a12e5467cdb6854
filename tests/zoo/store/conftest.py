"""A store, and two models for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.small_blobs import Made, make_release, wide_onnx
from zoo.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.open(tmp_path / "store")


@pytest.fixture(scope="module")
def full() -> Made:
    """A model that is right, of a graph, two blobs and a pack."""
    return make_release("full", wide_onnx())


@pytest.fixture(scope="module")
def red() -> Made:
    """A model that answers red, adapted from ``full``: it shares all but the pack."""
    return make_release("red", wide_onnx(bias=(30.0, 0.0, 0.0)))
