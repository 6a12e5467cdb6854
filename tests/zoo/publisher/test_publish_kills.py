"""Claims about publishing that is cut off: what was served is served on, and the same command goes on."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fresh_interpreter import ROOT
from tests.support.moments import moments_of
from tests.support.small_repo import blobs
from tests.support.standard_client import StandardClient, served
from zoo import Zoo
from zoo.errors import ZooError
from zoo.files import sha256_file
from zoo.publisher.keys import Keys
from zoo.publisher.publish import publish, published

pytestmark = pytest.mark.usefixtures("quick_peak")


@pytest.fixture(params=[True, False], ids=["first", "again"])
def about_to_publish(request: pytest.FixtureRequest, small_zoo: Zoo, repo: Path, keys: Keys) -> Path:
    """Where something will be published, for the first time or not."""
    if request.param:
        small_zoo.remove("tiny")
        small_zoo.remove("small")
    else:
        publish(repo, small_zoo, keys=keys, models=["small"])
        small_zoo.remove("tiny")
    return repo


def test_killed_at_any_moment_the_previous_state_is_served(
    about_to_publish: Path, small_zoo: Zoo, keys: Keys, tmp_path: Path
) -> None:
    whole, before = about_to_publish, published(about_to_publish)
    killed = moments_of(lambda: publish(whole, small_zoo, keys=keys), whole, tmp_path / "killed")
    assert len(killed) >= 20
    states = [published(folder) for folder in killed]
    assert all(sorted(state.models) in (sorted(before.models), sorted(small_zoo.names)) for state in states)
    assert sorted(before.models) in [sorted(state.models) for state in states]
    for folder, state in zip(killed, states, strict=True):
        for release in state.models.values():
            assert all(sha256_file(folder / blob.path) == blob.sha256 for blob in release.weights)
    for folder in (*killed[::6], killed[-1]):
        goes_on(folder, whole, small_zoo, keys, tmp_path / "device" / folder.name)


def goes_on(folder: Path, whole: Path, zoo: Zoo, keys: Keys, device: Path) -> None:
    """The same command finishes what was cut off, and a device reads it."""
    publish(folder, zoo, keys=keys)
    assert set(published(folder).models) == set(zoo.names)
    assert blobs(folder) == blobs(whole)
    root = (folder / "metadata" / "1.root.json").read_bytes()
    with served(folder) as url:
        assert StandardClient(device, root, url).model("full")


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import zoo.publisher.prepare
from tests.support.moments import watch
from tests.support.small_repo import measure_here
from zoo import Zoo
from zoo.publisher.keys import Keys
from zoo.publisher.publish import publish
zoo.publisher.prepare.measure_peak = measure_here
moment, folder = int(sys.argv[4]), Path(sys.argv[5])
watch(folder, lambda number: number == moment and os.kill(os.getpid(), signal.SIGKILL))
publish(folder, Zoo.open(sys.argv[2]), keys=Keys.open(sys.argv[3]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_in_earnest_the_same_command_goes_on(
    about_to_publish: Path, small_zoo: Zoo, keys: Keys, tmp_path: Path
) -> None:
    begun, whole = tmp_path / "begun", about_to_publish
    if whole.exists():
        shutil.copytree(whole, begun)
    publish(whole, small_zoo, keys=keys)
    for moment in (9, 19) if begun.exists() else (3, 15):
        folder = tmp_path / f"killed-{moment}"
        if begun.exists():
            shutil.copytree(begun, folder)
        arguments = [ROOT, small_zoo.folder, tmp_path / "keys", moment, folder]
        command = [sys.executable, "-W", "ignore", "-c", KILLED, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert done.returncode == -signal.SIGKILL, done.stderr
        goes_on(folder, whole, small_zoo, keys, tmp_path / "device" / folder.name)


def test_on_a_full_disk_what_is_served_stays(
    small_zoo: Zoo, repo: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(repo, small_zoo, keys=keys, models=["tiny"])
    sync, before = os.fsync, published(repo)
    for moment in range(1, 10):
        left = moment

        def full(handle: int) -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            sync(handle)

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ZooError, match="No space left"):
            publish(repo, small_zoo, keys=keys)
        assert published(repo) == before
    monkeypatch.setattr(os, "fsync", sync)
    assert publish(repo, small_zoo, keys=keys).changed
