"""Claims about last uses: they survive where they can, and nothing fails where they cannot."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from tests.support.small_blobs import (
    Made,
    install,
    record,
)
from zoo.client.plan import plan
from zoo.releases.release import Index
from zoo.store.store import Store
from zoo.store.usage import USAGE_FILE


def test_last_uses_survive_and_the_latest_counts(store: Store) -> None:
    begin = time.time()
    store.touch("full")
    assert begin <= store.usage()["full"] <= time.time()
    store.commit(record())  # which writes them
    other = Store.open(store.folder)
    assert other.usage() == store.usage()
    other.touch("red")
    other.measured(1e6)
    assert set(store.usage()) == {"full", "red"}
    assert store.rate_bytes_per_s == 1e6
    store.measured(2e6)
    assert Store.open(store.folder).rate_bytes_per_s == 2e6


def test_opening_a_model_is_a_use(store: Store, full: Made) -> None:
    install(store, full)
    store.model("full")
    assert set(store.usage()) == {"full"}


@pytest.mark.parametrize("content", [b"", b"{", b'{"last_used": {"a": "b"}}', b"[" * 10_000, b"\xff"])
def test_a_damaged_usage_file_counts_as_empty(store: Store, content: bytes) -> None:
    (store.folder / USAGE_FILE).write_bytes(content)
    assert (store.usage(), store.rate_bytes_per_s) == ({}, None)
    store.measured(5.0)
    assert Store.open(store.folder).rate_bytes_per_s == 5.0


def test_uses_are_written_now_and_then_by_whoever_comes_first(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.touch("full")
    assert not (store.folder / USAGE_FILE).exists()
    monkeypatch.setattr("zoo.store.usage.FLUSH_INTERVAL_S", -1.0)
    store.touch("full")
    assert set(Store.open(store.folder).usage()) == {"full"}


def test_uses_that_cannot_be_written_are_lost_quietly(store: Store) -> None:
    shutil.rmtree(store.folder)
    store.folder.write_text("no folder")
    store.measured(3.0)
    assert store.rate_bytes_per_s == 3.0


@pytest.mark.parametrize("rate", ["0", "-5", "1e400", "NaN", "true", '"fast"'])
def test_what_is_no_rate_counts_as_none_and_is_replaced_by_the_next(store: Store, rate: str) -> None:
    (store.folder / USAGE_FILE).write_text(f'{{"last_used": {{}}, "rate_bytes_per_s": {rate}}}')
    assert store.rate_bytes_per_s is None
    assert plan([], Index(models={}, bundles={}), record(), rate_bytes_per_s=store.rate_bytes_per_s).fits
    store.measured(0.0)
    assert store.rate_bytes_per_s is None
    store.measured(7.0)
    assert Store.open(store.folder).rate_bytes_per_s == 7.0


@pytest.mark.parametrize("when", [4e10, 1e300])
def test_a_use_in_the_future_counts_as_one_just_now_and_heals(store: Store, when: float) -> None:
    (store.folder / USAGE_FILE).write_text(f'{{"last_used": {{"full": {when}, "red": -1.0}}}}')
    assert store.usage()["full"] <= time.time()
    store.measured(1.0)  # which writes
    written = json.loads((store.folder / USAGE_FILE).read_text())["last_used"]
    assert written["red"] < written["full"] <= time.time()
