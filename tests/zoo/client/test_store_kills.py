"""Claims about a device that is switched off or full: whatever it did then, what was installed answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.support.faulty_server import serve
from tests.support.killed_installs import check
from tests.support.killed_installs import install as fetch_and_install
from tests.support.small_blobs import Made, install, make_release, offer, wide_onnx
from zoo.errors import StoreFullError
from zoo.store.store import Store

PROGRAM = Path(__file__).parents[2] / "support" / "killed_installs.py"
KILLS = 100


@pytest.fixture
def made() -> list[Made]:
    """Three models, the first of which is to stay."""
    return [make_release(name, wide_onnx(seed)) for seed, name in enumerate(("stays", "first", "second"))]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
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
        arguments = [server.url, folder, tmp_path / "releases.json", KILLS, 1]
        command = [sys.executable, PROGRAM, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        fetch_and_install(server.url, str(folder), releases[:2])
    counts = json.loads(done.stdout)
    assert counts["killed"] == KILLS
    assert counts["killed at an operation"] >= 20
    assert counts["killed after the commit"]
    assert counts["killed with downloads under way"]
    store = Store.open(folder)
    assert store.used_bytes() == sum(store.installed.blobs.values())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full_at_any_write_leaves_models_that_answer(
    tmp_path: Path, small_disk: Path, made: list[Made]
) -> None:
    stays, _, second = (release for release, _ in made)
    for _, contents in made:
        offer(tmp_path / "published", contents)
    store, filler = Store.open(small_disk / "store"), small_disk / "filler"
    install(store, *made[:2])
    full = 0
    with serve(tmp_path / "published") as server:
        for pages in range(64):
            filler.write_bytes(b"")
            free = os.statvfs(small_disk).f_bavail * 4096
            filler.write_bytes(bytes(free - pages * 4096))
            try:
                fetch_and_install(server.url, str(store.folder), [stays, second])
                break
            except StoreFullError:
                full += 1
            check(str(store.folder), [{"stays", "first"}])
            store.collect()
    assert full > 5
    check(str(store.folder), [{"stays", "second"}])
