"""A blob to fetch, fetching it without patience, and what has arrived."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faulty_server import FaultyServer, serve
from tests.support.small_blobs import noise, offer
from zoo.client.fetch import Fetched, Fetcher
from zoo.files import sha256_bytes
from zoo.store.store import Store

BIG = noise(300_000, seed=1)
NAME = sha256_bytes(BIG)
ONE = {NAME: len(BIG)}
QUICK = {"timeout_s": 20, "tries": 2, "pause_s": 0.01}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultyServer]:
    """A publisher of one blob of 300 kB and of 20 small ones."""
    offer(tmp_path / "published", [BIG, *(noise(1000 + i, seed=i) for i in range(20))])
    with serve(tmp_path / "published") as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.open(tmp_path / "store")


def fetch(server: FaultyServer, store: Store, blobs: dict[str, int] = ONE, **options: object) -> Fetched:
    """Fetch with little patience; `options` are those of a :class:`Fetcher`."""
    with contextlib.closing(Fetcher(server.url, **{**QUICK, **options})) as fetcher:  # type: ignore[arg-type]
        return fetcher.fetch(blobs, store)


def all_blobs(server: FaultyServer) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in server.root.rglob("blobs/*/*")}


def partials(store: Store) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (store.folder / "partial").iterdir()}
