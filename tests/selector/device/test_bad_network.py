"""Claims about a device on a bad network: it goes on, says what is wrong, and answers in time."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import selector.device.reporter
from selector.commands.device import commands
from selector.device.device import Device
from selector.device.reconciler import Reconciler
from selector.device.settings import read_config
from tests.support import faulty_server as faults
from tests.support.faulty_server import ATTACKS, FaultyServer, serve
from tests.support.small_models import plain_image
from tests.support.small_publisher import Publisher
from zoo.errors import TrustError, UnreachableError
from zoo.publisher.assignments import sign_assignments
from zoo.publisher.keys import Keys
from zoo.releases.release import Assignment
from zoo.store.store import Store

ASKED = {
    "root": "2.root.json",
    "timestamp": "timestamp.json",
    "snapshot": ".snapshot.json",
    "targets": ".targets.json",
    "assignments": ".assignments.json",
    "record": "targets/models/",
    "assignment": "targets/assignments/",
}
CHOSEN = (
    "cut head",
    "cut",
    "reset",
    "bad gzip",
    "bad chunk",
    "cut chunk",
    "drip",
    "redirect",
    "429 for a day",
)
LONG_S = 60.0  # without end, for a test


@pytest.fixture(scope="module")
def network(publisher: Publisher) -> Iterator[FaultyServer]:
    """A server of the publisher, with an assignment of nothing for the group ``park``."""
    nothing = Assignment(schema_version=1, version=1, group="park", bundles=(), models=())
    sign_assignments(publisher.folder, Keys.open(publisher.keys), [nothing])
    with serve(publisher.folder) as server:
        yield server


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, publisher: Publisher, network: FaultyServer) -> Path:
    """A device that answers, and updates before the first answer."""
    folder = tmp_path_factory.mktemp("device")
    made = Device.set_up(folder, network.url, publisher.root, mode="latest")
    made.install("colours")
    made.close()
    return folder


@pytest.fixture
def folder(tmp_path: Path, installed: Path, network: FaultyServer) -> Iterator[Path]:
    """A copy of it."""
    network.behave()
    yield Path(shutil.copytree(installed, tmp_path / "copy", symlinks=True))
    network.behave()


def empty(folder: Path, publisher: Publisher, network: FaultyServer, **settings: str) -> Reconciler:
    """A member of the group that has not looked yet, without patience."""
    Device.set_up(folder, network.url, publisher.root, group="park", **settings).close()  # type: ignore[arg-type]
    return Reconciler(Store.open(folder), read_config(folder), timeout_s=0.2)


@pytest.mark.parametrize("asked", ASKED)
def test_a_look_ends_with_an_error_of_ours(
    tmp_path: Path, publisher: Publisher, network: FaultyServer, asked: str
) -> None:
    for attack in CHOSEN:
        reconciler, begin = empty(tmp_path / attack, publisher, network), time.monotonic()
        network.misbehave(ATTACKS[attack], on=ASKED[asked])
        found = reconciler.look([])
        assert time.monotonic() - begin < LONG_S, attack
        assert isinstance(found.problem, UnreachableError | TrustError), attack
        assert found.freshness.stale
        assert found.freshness.reason == str(found.problem)
        network.behave()
        assert any(reconciler.look([]).problem is None for _ in range(50))  # a busy machine is slow at times
        reconciler.close()


def test_a_service_that_misbehaves_is_told_beside_what_was_done(
    tmp_path: Path, publisher: Publisher, network: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selector.device.reporter, "MIN_RETRY_WAIT_S", 0.001)
    monkeypatch.setattr(selector.device.reporter, "MAX_RETRY_WAIT_S", 0.001)
    for attack in CHOSEN:
        reconciler = empty(tmp_path / attack, publisher, network, service=network.url, token="secret")
        begin = time.monotonic()
        network.misbehave(ATTACKS[attack], on="v1/reports")
        found = reconciler.look([])
        assert time.monotonic() - begin < LONG_S, attack
        assert isinstance(found.problem, UnreachableError), attack
        assert found.change is not None
        assert not found.freshness.stale
        reconciler.close()


def test_the_daemon_says_what_is_wrong_and_goes_on(folder: Path, network: FaultyServer) -> None:
    for attack in set(CHOSEN) - {"drip"}:
        network.behave()
        network.misbehave(ATTACKS[attack], on="timestamp.json")
        done = CliRunner().invoke(commands, ["run", str(folder), "--rounds", "1"])
        assert (done.exit_code, done.exception) == (0, None), attack
        assert "stale: " in done.output


def test_answers_are_given_though_the_look_fails(tmp_path: Path, folder: Path, network: FaultyServer) -> None:
    Image.fromarray(plain_image("green")).save(tmp_path / "green.png")
    network.misbehave(ATTACKS["bad chunk"], on="timestamp.json")
    done = CliRunner().invoke(commands, ["predict", str(folder), str(tmp_path / "green.png")])
    assert (done.exit_code, done.exception) == (0, None)
    assert "green" in done.output
    assert "stale: " in done.output


@pytest.mark.parametrize("fault", [faults.hang, faults.drip_headers])
def test_the_first_answer_does_not_wait_for_ever(
    folder: Path, network: FaultyServer, fault: faults.Fault
) -> None:
    network.misbehave(fault, on="timestamp.json")
    device, begin = Device.open(folder), time.monotonic()
    device.start(first_timeout_s=0.2)
    assert device.predict(plain_image("green")).label == "green"
    assert time.monotonic() - begin < LONG_S
    device.close()


def test_a_look_can_have_a_deadline(folder: Path, network: FaultyServer) -> None:
    network.misbehave(faults.hang, on="timestamp.json")
    device, begin = Device.open(folder), time.monotonic()
    found = device.look(timeout_s=0.2)
    assert time.monotonic() - begin < LONG_S
    assert isinstance(found.problem, UnreachableError)
    assert found.freshness.stale
    assert not [one for one in threading.enumerate() if isinstance(one, threading.Timer)]
    device.close()


def test_behind_a_proxy_a_task_is_installed(
    tmp_path: Path, publisher: Publisher, network: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", network.url)
    monkeypatch.delenv("no_proxy", raising=False)
    device = Device.set_up(tmp_path / "device", "http://models.invalid", publisher.root)
    device.install("colours")
    assert device.predict(plain_image("red")).label == "red"
    assert {request.headers["Host"] for request in network.requests[-4:]} == {"models.invalid"}
    device.close()
