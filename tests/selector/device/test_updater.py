"""Claims about the process in which a device keeps its store in line: it comes, works and goes."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.distribution.network import SlowServer, serving
from selector.answering.engine import Outcome
from selector.answering.recent import Question, Recalled, Recent
from selector.device.background import Order, Problem, Reply, Updater, _encoded, serve
from selector.device.device import Device
from selector.device.reconciler import MIN_ANSWERS_TO_FETCH, Reconciler
from selector.policies.constraint import Constraint
from tests.support.small_device import until
from tests.support.small_models import add_colours, build_onnx, plain_image
from tests.support.small_processes import alive
from tests.support.small_publisher import Publisher, colour_publisher
from zoo import Zoo
from zoo.errors import CardError, FetchError, TrustError, UpdaterError, ZooError
from zoo.process import Process

OWN = """
import sys, time
from selector.device.device import Device
device = Device.open(sys.argv[1])
device.start(every_s=0.05)
while device.last is None:
    time.sleep(0.01)
print(device._updater.pid, flush=True)
time.sleep(60)
"""


def pid_of(device: Device) -> int:
    assert device._updater is not None
    until(lambda: device._updater is not None and device._updater.pid is not None)
    assert device._updater.pid is not None
    return device._updater.pid


def recalled(answers: int, *, record: str = "a" * 64, model: str = "tiny") -> Recalled:
    recent = Recent()
    asked = Question(Constraint(kind="precision", level=0.9))
    for i in range(answers):
        score = np.float64(0.5) if i % 2 else math.nan
        recent.note(asked, True, Outcome(model, (model,), score, None, [0.25, math.nan]))
    return recent.recalled("colours", record)


def test_the_work_is_done_elsewhere(device: Device) -> None:
    device.install("colours")
    device.start(every_s=0.05)
    pid = pid_of(device)
    assert pid != os.getpid()
    until(lambda: device.last is not None)
    assert device.last is not None
    assert device.last.problem is None
    assert not device.last.freshness.stale
    assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)
    device.stop()
    assert not alive(pid)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_device_leaves_no_process(device: Device, end: signal.Signals) -> None:
    device.install("colours")
    path = os.pathsep.join(filter(None, sys.path))
    with subprocess.Popen(
        [sys.executable, "-c", OWN, str(device.folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as own:
        assert own.stdout is not None
        pid = int(own.stdout.readline())
        assert alive(pid)
        own.send_signal(end)
        own.wait(100)
    until(lambda: not alive(pid))


def test_an_input_that_another_process_holds_open_keeps_nothing_alive(device: Device, tmp_path: Path) -> None:
    lines = tmp_path / "input"
    os.mkfifo(lines)
    held = os.open(lines, os.O_RDWR)
    code = "import sys; sys.path[:] = {!r}; from zoo.child import run; run({!r})"
    order = {"function": "selector.device.background:work", "parent": os.getpid()}  # will be another, a shell
    command = [sys.executable, "-c", code.format(sys.path, order)]
    own = subprocess.Popen(["/bin/sh", "-c", '"$@" & wait', "sh", *command], stdin=held)
    try:
        own.wait(100)
    finally:
        own.kill()
        os.close(held)


def test_a_killed_process_is_started_again(device: Device) -> None:
    device.install("colours")
    device.start(every_s=0.05)
    pid = pid_of(device)
    until(lambda: device.last is not None)
    problems: list[str] = []
    os.kill(pid, signal.SIGKILL)

    def came_back() -> bool:
        assert device.predict(plain_image("green")).label == "green"
        assert device.last is not None
        if device.last.problem is not None:
            problems.append(str(device.last.problem))
        return bool(problems) and device.last.problem is None

    until(came_back)
    assert "SIGKILL" in problems[0]
    assert "started again" in problems[0]
    assert pid_of(device) != pid


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[Device, SlowServer]]:
    """A device that holds a model of which a version of a megabyte is published; it never arrives whole."""
    zoo = Zoo.create(tmp_path / "zoo")
    add_colours(zoo, "full", build_onnx())
    publisher = colour_publisher(tmp_path / "p", zoo)
    with serving(publisher.folder) as server:
        device = Device.set_up(tmp_path / "device", server.url, publisher.root)
        device.client.install(models=["full"])
        proto = onnx.load_from_string(build_onnx())
        ballast = np.random.default_rng(0).normal(size=(250_000,)).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(ballast, "ballast"))
        proto.graph.node.add(op_type="ReduceMean", input=["ballast"], output=["mean"], name="mean")
        proto.graph.node.add(op_type="Mul", input=["mean", "zero"], output=["nothing"], name="nothing")
        proto.graph.node[-3].output[0] = "plain"
        proto.graph.node.add(op_type="Add", input=["plain", "nothing"], output=["logits"], name="sum")
        add_colours(publisher.zoo, "full", proto.SerializeToString())
        publisher.publish()
        send, goes_on = server.pace, threading.Event()
        left = threading.Semaphore(4)  # full pieces, which only the model has; then the line stands still

        def pace(size: int) -> None:
            if size == 16384 and not left.acquire(blocking=False):
                goes_on.wait(100)

        server.bytes_per_s, server.pace = 1e9, pace  # type: ignore[method-assign]
        yield device, server
        goes_on.set()
        server.pace = send  # type: ignore[method-assign]
        device.close()


def test_a_slow_download_is_left_at_once_and_gone_on_with(slow: tuple[Device, SlowServer]) -> None:
    device, server = slow
    device.start()
    partial = device.folder / "partial"
    until(lambda: any(device.store.partial_bytes(path.name) > 20_000 for path in partial.iterdir()))
    pid = pid_of(device)
    device.stop()  # which does not wait for the rest of the download
    assert not alive(pid)
    there = sum(path.stat().st_size for path in partial.iterdir())
    assert 20_000 < there < 100_000
    server.bytes_per_s = None
    server.forget()
    assert device.update().installed == ("full",)
    assert server.bytes_sent < 1_000_000


def test_a_stopped_process_is_killed(device: Device) -> None:
    device.install("colours")
    device.start(every_s=60)
    pid = pid_of(device)
    until(lambda: device.last is not None)
    os.kill(pid, signal.SIGSTOP)
    device.stop()
    assert not alive(pid)


def test_a_stopped_updater_stays_stopped(device: Device) -> None:
    updater = Updater(device.folder)
    updater.stop()
    found = updater.round([])
    assert isinstance(found.problem, UpdaterError)
    assert found.freshness.stale
    assert updater.pid is None


def test_a_process_that_cannot_start_is_told(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    found = Updater(device.folder).round([])
    assert "cannot be started: No such file" in str(found.problem)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('no reply')", "no reply: JSON is malformed"),
        ("print('x' * 2**21)", "more than a reply"),
        ("sys.exit('out of luck')", "status 1), with the words 'out of luck'"),
    ],
)
@pytest.mark.parametrize("ended_before", [False, True])
def test_a_process_that_says_something_else_is_ended(
    device: Device, monkeypatch: pytest.MonkeyPatch, code: str, reason: str, *, ended_before: bool
) -> None:
    monkeypatch.setattr("zoo.process._START", f"import sys; sys.stdin.readline(); {code}")
    tell = Process.tell

    def tell_late(process: Process, content: bytes) -> None:
        if content.startswith(b'{"lately"'):
            until(lambda: process._process.poll() is not None)
        tell(process, content)

    if ended_before and "2**21" not in code:  # that one waits for somebody to read it
        monkeypatch.setattr(Process, "tell", tell_late)
    updater = Updater(device.folder)
    found = updater.round([])
    assert isinstance(found.problem, UpdaterError)
    assert reason in str(found.problem)
    assert updater.pid is None


def test_errors_keep_their_kind() -> None:
    for error in (TrustError("expired"), CardError("wrong")):
        again = Problem.of(error).error()
        assert type(again) is type(error)
        assert str(again) == str(error)
    fetch = Problem.of(FetchError("a" * 64, "http://x", "nothing", "Try again.")).error()
    assert type(fetch) is ZooError
    assert "nothing" in str(fetch)
    assert type(Problem("print", "x").error()) is ZooError
    assert type(Problem("msgspec", "x").error()) is ZooError


def test_answers_travel_as_they_are() -> None:
    sent = recalled(300)
    got = msgspec.json.decode(b'{"lately":[' + _encoded(sent) + b"]}", type=Order).lately[0]
    assert got.since == sent.since
    for one, other in zip(got.answers, sent.answers, strict=True):
        assert repr(one) == repr(other._replace(probability=float(other.probability)))
    assert msgspec.json.decode(_encoded(recalled(0)), type=Recalled).answers == []


def rounds(folder: Path, *lines: bytes) -> list[Reply]:
    """The replies of a process that would run in `folder`, but here; it has one round after another."""
    orders, asked = os.pipe()
    answered, replies = os.pipe()
    left = threading.Event()
    with open(orders, "rb") as stream, open(replies, "wb", buffering=0) as out, open(answered, "rb") as said:  # noqa: PTH123
        working = threading.Thread(target=serve, args=(folder, stream, out), kwargs={"leave": left.set})
        working.start()
        got = []
        for line in lines:
            os.write(asked, line)
            got.append(msgspec.json.decode(said.readline(), type=Reply))
        os.close(asked)
        working.join(100)
        assert left.wait(100)
    return got


def test_bad_orders_are_answered_and_do_no_harm(device: Device) -> None:
    device.install("colours")
    bad, good = rounds(device.folder, b'{"lately": 3}\n', b'{"lately":[]}\n')
    assert bad.problem is not None
    assert bad.problem.kind == "UpdaterError"
    assert "ValidationError" in bad.problem.text
    assert good.problem is None
    assert good.change is not None


def test_a_folder_without_a_device_is_told_by_the_process(tmp_path: Path) -> None:
    (reply,) = rounds(tmp_path, b'{"lately":[]}\n')
    assert reply.problem is not None
    assert reply.problem.kind == "CardError"
    assert "zooselect device init" in reply.problem.text


def test_what_pays_is_worked_out_there(device: Device) -> None:
    device.install("colours")
    for i in range(MIN_ANSWERS_TO_FETCH):
        device.predict(plain_image(("red", "green", "blue")[i % 3]))
    order = b'{"lately":[' + b",".join(map(_encoded, device._variants.lately())) + b"]}\n"
    first, second = rounds(device.folder, order, order)
    assert first.change is not None
    assert first.change.installed
    assert second.change is not None
    assert second.change.nothing


def test_answers_of_another_bundle_ask_for_nothing(device: Device) -> None:
    device.install("colours")
    reconciler = Reconciler.open(device.folder)
    assert reconciler.update([recalled(MIN_ANSWERS_TO_FETCH)]).nothing
    reconciler.close()


def test_models_that_answered_are_not_the_first_to_go(device: Device) -> None:
    reconciler = Reconciler(device.store, device.config)
    reconciler.touch([recalled(3)])
    first = device.store.usage()["tiny"]
    reconciler.touch([recalled(3)])
    assert device.store.usage()["tiny"] == first  # no answer since
    reconciler.touch([recalled(2)])  # of a bundle that is counted anew
    assert device.store.usage()["tiny"] > first


def test_a_lost_token_is_told(tmp_path: Path, publisher: Publisher, server: SlowServer) -> None:
    setting = {"group": "park", "service": "http://127.0.0.1:1", "token": "t"}
    device = Device.set_up(tmp_path / "x", server.url, publisher.root, **setting)  # type: ignore[arg-type]
    (device.folder / "service-token").unlink()
    assert "expected the token of a service" in str(device.look().problem)
    with pytest.raises(CardError, match="Set the device up again"):
        device.report()
    device.close()


def test_what_pays_has_to_fit_beside_what_is_pinned(
    tmp_path: Path, publisher: Publisher, server: SlowServer
) -> None:
    index = Device.set_up(tmp_path / "look", server.url, publisher.root).client.refresh().index
    budget = sum(one.size_bytes for one in (*index.models.values(), *index.bundles.values()))
    device = Device.set_up(tmp_path / "x", server.url, publisher.root, budget_bytes=budget)
    device.install("colours")
    device.client.pin([device.store.installed.models[0].release.name])
    for _ in range(MIN_ANSWERS_TO_FETCH):
        device.predict(plain_image("red"))
    tight = Reconciler(device.store, msgspec.structs.replace(device.config, budget_bytes=1))
    assert tight.update(device._variants.lately()).nothing
    tight.close()
    assert device.update().installed
    device.close()


def test_a_service_that_cannot_be_reached_is_told_and_answers_go_on(
    tmp_path: Path, publisher: Publisher, server: SlowServer
) -> None:
    setting = {"group": "park", "service": server.url, "token": "t"}
    device = Device.set_up(tmp_path / "x", server.url, publisher.root, **setting)  # type: ignore[arg-type]
    device.install("colours")
    device.predict(plain_image("red"))
    found = device.look()
    assert found.change is not None
    assert "to accept a report" in str(found.problem)
    assert device.predict(plain_image("green")).label == "green"
    device.close()


def test_the_background_waits_while_the_application_installs(device: Device) -> None:
    device.install("colours")
    waiting = threading.Event()

    class Lock:
        """The device's own, which says when the background asks for it in vain."""

        def __init__(self, lock: threading.Lock) -> None:
            self.lock = lock

        def acquire(self, timeout: float) -> bool:
            taken = self.lock.acquire(timeout=timeout)
            if not taken:
                waiting.set()
            return taken

        def release(self) -> None:
            self.lock.release()

    lock = device._working
    with lock:
        device._working = Lock(lock)  # type: ignore[assignment]
        device.start(every_s=0.05)
        assert waiting.wait(100)
        assert device.last is None
        device.stop()
    device._working = lock
    assert device.last is None
