"""Claims about a device that is switched off or full: whatever it did then, what was installed answers."""

from __future__ import annotations

import random
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.support.disks import fill, small_disk
from tests.support.faulty_server import serve
from tests.support.killed_installs import Victims, check
from tests.support.killed_installs import install as fetch_and_install
from tests.support.small_blobs import Made, install, make_release, offer, wide_onnx
from zoo.errors import StoreFullError
from zoo.releases.release import ModelRelease
from zoo.store.store import Store

KILLS = 60
LONGEST_S = 0.06  # about as long as an install takes


@pytest.fixture
def made() -> list[Made]:
    """Three models, the first of which is to stay."""
    return [make_release(name, wide_onnx(seed)) for seed, name in enumerate(("stays", "first", "second"))]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_kill_at_any_moment_of_install_and_eviction_leaves_models_that_answer(
    tmp_path: Path, made: list[Made]
) -> None:
    releases = [release for release, _ in made]
    for _, contents in made:
        offer(tmp_path / "published", contents)
    (tmp_path / "releases.json").write_bytes(msgspec.json.encode(releases))
    folder = tmp_path / "store"
    install(Store.open(folder), *made[:2])
    with serve(tmp_path / "published", delay_s=0.002) as server:
        with Victims(server.url, folder, tmp_path / "releases.json") as victims:
            counts = kill_installs(victims, folder, releases)
        fetch_and_install(server.url, str(folder), releases[:2])
    assert counts["killed"] == KILLS
    assert counts["killed at an operation"] >= 15
    assert counts["killed at a time"] >= 15
    assert counts["killed after the commit"]
    assert counts["killed with downloads under way"]
    store = Store.open(folder)
    assert store.used_bytes() == sum(store.installed.blobs.values())


def kill_installs(victims: Victims, folder: Path, releases: list[ModelRelease]) -> Counter[str]:
    """The second and the third model replace each other until enough processes died at it."""
    rng, counts = random.Random(1), Counter[str]()
    stays, *others = (release.name for release in releases)
    now, operations = 0, 120
    while counts["killed"] < KILLS:
        new, at_operation = 1 - now, rng.random() < 0.5
        event = rng.randint(1, operations) if at_operation else None
        code = victims.install(new, event=event, seconds=None if event else rng.uniform(0.001, LONGEST_S))
        assert code in (0, -signal.SIGKILL, -signal.SIGALRM), code
        if event and not code:
            operations = min(operations, event + 20)  # there are fewer than that
        check(str(folder), [{stays, others[one]} for one in ((now, new) if code else (new,))])
        replaced = others[new] in {item.release.name for item in Store.open(folder).installed.models}
        counts["killed" if code else "finished"] += 1
        counts["killed at an operation"] += code == -signal.SIGKILL
        counts["killed at a time"] += code == -signal.SIGALRM
        counts["killed after the commit"] += bool(code) and replaced
        counts["killed with downloads under way"] += bool(code) and any((folder / "partial").iterdir())
        now = new if replaced else now
    return counts


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as made:
        yield made


def test_a_disk_that_is_full_at_any_write_leaves_models_that_answer(
    tmp_path: Path, disk: Path, made: list[Made]
) -> None:
    stays, _, second = (release for release, _ in made)
    for _, contents in made:
        offer(tmp_path / "published", contents)
    store, filler = Store.open(disk / "store"), disk / "filler"
    install(store, *made[:2])
    full = 0
    with serve(tmp_path / "published") as server:
        for pages in range(64):
            fill(filler, leave=pages * 4096)
            try:
                fetch_and_install(server.url, str(store.folder), [stays, second])
                break
            except StoreFullError:
                full += 1
            check(str(store.folder), [{"stays", "first"}])
            store.collect()
    assert full > 5
    check(str(store.folder), [{"stays", "second"}])
