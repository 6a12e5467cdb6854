"""Claims about a store that several use at once: threads, processes, models that are open meanwhile."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.support.small_blobs import (
    IMAGES,
    Made,
    answers,
    install,
    make_release,
    noise,
    offer,
    put,
    wide_onnx,
)
from tests.support.small_models import COLOURS
from zoo.errors import (
    DigestError,
    ModelNotFoundError,
    StoreLockedError,
    ZooError,
)
from zoo.releases.release import Blob
from zoo.store.store import Store


def test_a_thread_may_lock_again_and_others_wait(store: Store) -> None:
    with store.lock(), store.lock():
        for other in (store, Store.open(store.folder)):
            said: list[str] = []

            def take(of: Store = other, said: list[str] = said) -> None:
                try:
                    with of.lock(timeout_s=0.05):
                        said.append("taken")
                except StoreLockedError as error:
                    said.append(str(error))

            thread = threading.Thread(target=take)
            thread.start()
            thread.join()
            assert "at work there for 0.05 seconds. Wait" in said[0]
    with Store.open(store.folder).lock(timeout_s=0):
        pass


def test_a_folder_that_was_removed_cannot_be_locked(store: Store) -> None:
    shutil.rmtree(store.folder)
    with pytest.raises(ZooError, match=r"cannot lock .*No such file"), store.lock():
        pass


def test_a_disk_without_locks_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(ZooError, match=r"No locks available.*on a disk of this device"), store.lock():
        pass


def test_a_platform_without_locks_between_processes_works(
    store: Store, full: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.lock.fcntl", None)
    install(store, full)
    assert answers(store.model("full")) == list(COLOURS)


INSTALL_OFTEN = """
import sys
from pathlib import Path
import msgspec
from zoo.store.installed import Installed, InstalledModel
from zoo.releases.release import ModelRelease
from zoo.store.store import Store
store, published = Store.open(sys.argv[1]), Path(sys.argv[2])
pair = msgspec.json.decode((published / sys.argv[3]).read_bytes(), type=list[ModelRelease])
names = {release.name for release in pair}
for i in range(20):
    release = pair[i % 2]
    with store.lock(60):
        for blob in (release.graph, *release.weights):
            store.partial(blob.sha256).write_bytes((published / blob.path).read_bytes())
            store.adopt(blob.sha256, blob.size_bytes)
        others = [item for item in store.installed.models if item.release.name not in names]
        store.commit(Installed(schema_version=1, models=(InstalledModel(release=release), *others)))
        store.collect()
"""


def test_two_processes_install_and_evict_while_a_third_answers(
    store: Store, full: Made, tmp_path: Path
) -> None:
    install(store, full)
    running = []
    for seed, pair in enumerate(("ab", "cd")):
        made = [make_release(name, wide_onnx(2 * seed + i)) for i, name in enumerate(pair)]
        for _, contents in made:
            offer(tmp_path, contents)
        (tmp_path / pair).write_bytes(msgspec.json.encode([release for release, _ in made]))
        command = [sys.executable, "-c", INSTALL_OFTEN, str(store.folder), str(tmp_path), pair]
        running.append(subprocess.Popen(command))
    opened = 0
    while any(process.poll() is None for process in running):
        for name in ("full", "a", "b", "c", "d"):
            try:
                assert answers(store.model(name)) == list(COLOURS)
                opened += 1
            except ModelNotFoundError:
                assert name != "full"
    assert [process.returncode for process in running] == [0, 0]
    assert {item.release.name for item in store.installed.models} == {"b", "d", "full"}
    assert not store.verify()
    assert not store.lost()
    assert opened > 10


def test_a_model_that_was_evicted_and_installed_again_meanwhile_is_opened(
    store: Store, full: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(store, full)
    read, failed = store.read, []

    def meanwhile(blob: Blob) -> bytes:
        if not failed:
            failed.append(blob)
            before = store.installed
            store.commit(msgspec.structs.replace(before, models=()))
            install(store, full)
            raise DigestError("it was not there for a moment")
        return read(blob)

    monkeypatch.setattr(store, "read", meanwhile)
    assert answers(store.model("full")) == list(COLOURS)
    assert failed


def test_an_open_model_answers_after_it_was_evicted(store: Store, full: Made, red: Made) -> None:
    install(store, full)
    model = store.model("full")
    before = model.logits(IMAGES)
    install(store, red)
    assert not store.has(full[0].weights[-1].sha256)
    put(store, noise(40_000))  # the room on disk is used again
    np.testing.assert_array_equal(model.logits(IMAGES), before)
    with pytest.raises(ModelNotFoundError):
        store.model("full")


def test_answers_go_on_while_models_are_opened_and_evicted(store: Store, full: Made, red: Made) -> None:
    install(store, full)
    current = [(store.model("full"), list(COLOURS))]
    stop, wrong, count = threading.Event(), [], [0]

    def answer() -> None:
        while not stop.is_set():
            model, expected = current[0]
            got = answers(model)
            if got != expected:
                wrong.append(got)
            count[0] += 1

    thread = threading.Thread(target=answer)
    thread.start()
    for i in range(20):
        made, expected = ((red, ["red"] * 3), (full, list(COLOURS)))[i % 2]
        install(store, made)  # evicts what answers just now
        current[0] = (store.model(made[0].name), expected)
    stop.set()
    thread.join()
    assert not wrong
    assert count[0] > 0
