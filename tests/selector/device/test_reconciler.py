"""Claims about the reconciler: it fetches what pays, as far as budget and assignment allow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from benchmarks.distribution.network import SlowServer
from selector.answering.recent import Recalled
from selector.device.device import Device
from selector.device.reconciler import Reconciler
from tests.support.small_device import ask, until
from tests.support.small_publisher import Publisher
from zoo.errors import BudgetError, CardError, UnreachableError
from zoo.publisher.assignments import sign_assignments
from zoo.publisher.keys import Keys
from zoo.releases.release import Assignment


@pytest.fixture
def device(tmp_path: Path, publisher: Publisher, server: SlowServer) -> Iterator[Device]:
    """A device of a group, with the least model of the task."""
    made = Device.set_up(tmp_path / "device", server.url, publisher.root, group="park")
    made.client.install(models=["tiny"], bundles=["colours"])
    yield made
    made.close()


def lately(device: Device) -> list[Recalled]:
    """What the device was asked: more than its model is certified for."""
    ask(device)
    recalled = device.selector().recalled()
    assert recalled is not None
    return [recalled]


def held(reconciler: Reconciler) -> set[str]:
    return {item.release.name for item in reconciler.store.installed.models}


def test_without_an_assignment_a_device_of_a_group_follows_its_own_inputs(device: Device) -> None:
    reconciler = Reconciler.open(device.folder)
    reconciler.update(lately(device))
    assert held(reconciler) > {"tiny"}
    reconciler.close()


def test_an_assignment_overrides_the_inputs_until_it_is_withdrawn(
    device: Device, publisher: Publisher
) -> None:
    keys = Keys.open(publisher.keys)
    assigned = Assignment(schema_version=1, version=1, group="park", bundles=("colours",), models=("tiny",))
    sign_assignments(publisher.folder, keys, [assigned])
    reconciler, asked = Reconciler.open(device.folder), lately(device)
    assert reconciler.update(asked).nothing
    sign_assignments(publisher.folder, keys, [], remove=["park"])
    assert reconciler.update(asked).installed
    reconciler.close()


def test_answers_of_another_version_of_the_bundle_say_nothing(device: Device) -> None:
    reconciler = Reconciler.open(device.folder)
    other = msgspec.structs.replace(lately(device)[0], record="0" * 64)
    assert reconciler.update([other]).nothing
    reconciler.close()


def test_only_models_that_answered_since_count_as_used(device: Device) -> None:
    reconciler, asked = Reconciler.open(device.folder), lately(device)
    reconciler.touch(asked)
    first = reconciler.store.usage()["tiny"]
    until(lambda: time.time() > first)
    reconciler.touch(asked)
    assert reconciler.store.usage()["tiny"] == first
    reconciler.touch(lately(device))
    later = reconciler.store.usage()["tiny"]
    assert later > first
    counted_anew = msgspec.structs.replace(asked[0], noted=[(1, *asked[0].noted[0][1:])])
    until(lambda: time.time() > later)
    reconciler.touch([counted_anew])
    assert reconciler.store.usage()["tiny"] > later


def test_what_other_tasks_need_is_no_budget_for_this_one(device: Device) -> None:
    """A pinned model takes its bytes from what there is to gain with."""
    device.client.install(models=["small"])
    device.client.pin(["tiny", "small", "colours"])
    installed = device.store.installed
    config = msgspec.structs.replace(device.config, group=None, budget_bytes=device.store.used_bytes())
    reconciler = Reconciler(device.store, config)
    assert "full" not in reconciler.update(lately(device)).installed
    assert device.store.installed == installed
    reconciler.close()


def test_a_round_tells_the_first_of_its_problems_and_goes_on(
    device: Device, server: SlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler = Reconciler.open(device.folder)
    asked = lately(device)

    def fail(*_: object, **__: object) -> None:
        raise UnreachableError("no service")

    monkeypatch.setattr(reconciler, "report", fail)
    found = reconciler.look(asked)
    assert isinstance(found.problem, UnreachableError)
    assert found.change is not None
    monkeypatch.setattr(reconciler.store, "budget_bytes", 1)
    monkeypatch.setattr(reconciler, "update", lambda *_, **__: (_ for _ in ()).throw(BudgetError("no room")))
    assert isinstance(reconciler.look(asked).problem, BudgetError)
    reconciler.close()


def test_a_token_that_is_gone_is_told_and_nothing_else_is_kept_from_working(device: Device) -> None:
    config = msgspec.structs.replace(device.config, service="http://127.0.0.1:9", group="park")
    reconciler = Reconciler(device.store, config)
    found = reconciler.look(lately(device))
    assert isinstance(found.problem, CardError)
    assert found.change is not None
    reconciler.close()
