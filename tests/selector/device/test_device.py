"""Claims about a device: it answers whatever happens, and gets the models that its inputs need."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from benchmarks.distribution.network import SlowServer, serving
from selector.commands.device import commands
from selector.device.device import Device
from selector.device.reconciler import MIN_ANSWERS_TO_FETCH
from selector.device.settings import CONFIG_FILE, TOKEN_FILE
from tests.support.small_device import ask, until
from tests.support.small_models import plain_image
from tests.support.small_publisher import Publisher, colour_publisher, mislead
from zoo.errors import BundleError, CardError, SelfTestError, TrustError

if TYPE_CHECKING:
    from tests.support.world import World


def test_a_device_answers_after_one_installation(device: Device) -> None:
    device.install("colours")
    assert device.tasks == ("colours",)
    assert device.predict(plain_image("green")).label == "green"


def test_a_device_that_was_set_up_is_opened_again(device: Device) -> None:
    device.install("colours")
    again = Device.open(device.folder)
    assert again.config == device.config
    assert again.predict(plain_image("blue"), task="colours").label == "blue"


def test_a_folder_without_a_device_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"expected a device in .*zooselect device init"):
        Device.open(tmp_path)


@pytest.mark.parametrize(
    "setting",
    [{"budget_bytes": -1}, {"group": "No Such Name"}, {"mode": "sometimes"}, {"service": "http://x"}],
)
def test_settings_out_of_range_are_refused(
    tmp_path: Path, publisher: Publisher, setting: dict[str, object]
) -> None:
    with pytest.raises(CardError, match=r"expected|cannot be set up"):
        Device.set_up(tmp_path / "x", "http://127.0.0.1:1", publisher.root, **setting)  # type: ignore[arg-type]
    assert not (tmp_path / "x" / CONFIG_FILE).exists()


def test_a_device_needs_a_real_root(tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="expected root metadata"):
        Device.set_up(tmp_path / "x", "http://127.0.0.1:1", b"<html>")


def test_the_token_is_for_its_owner_only(tmp_path: Path, publisher: Publisher) -> None:
    Device.set_up(
        tmp_path / "x",
        "http://127.0.0.1:1",
        publisher.root,
        group="park",
        service="http://127.0.0.1:2",
        token="secret",
    )
    path = tmp_path / "x" / TOKEN_FILE
    assert path.read_text() == "secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "secret" not in (tmp_path / "x" / CONFIG_FILE).read_text()


def test_a_task_must_be_named_where_it_is_not_clear(device: Device) -> None:
    with pytest.raises(BundleError, match="installed: none"):
        device.selector()


def test_nothing_is_fetched_on_the_strength_of_a_few_answers(device: Device) -> None:
    device.install("colours")
    ask(device, MIN_ANSWERS_TO_FETCH - 1)
    assert device.update().nothing


def test_models_that_pay_are_fetched(device: Device) -> None:
    device.install("colours")
    before = {item.release.name for item in device.store.installed.models}
    best = set(device.selector().bundle.policies[0].models)
    assert not best <= before
    ask(device)
    assert device.update().installed
    assert best <= {item.release.name for item in device.store.installed.models}
    assert device.predict(plain_image("red")).certified


def test_models_that_cost_more_than_they_gain_are_not(
    tmp_path: Path, publisher: Publisher, server: SlowServer
) -> None:
    device = Device.set_up(tmp_path / "dear", server.url, publisher.root, price_per_mb=1e6)
    device.install("colours")
    ask(device)
    assert device.update().nothing


def test_a_device_goes_on_answering_without_its_publisher(tmp_path: Path, publisher: Publisher) -> None:
    with serving(publisher.folder) as server:
        device = Device.set_up(tmp_path / "device", server.url, publisher.root)
        device.install("colours")
    found = device.look()
    assert found.problem is not None
    assert found.freshness.stale
    assert device.predict(plain_image("green")).label == "green"


def test_in_the_background_models_arrive_while_answers_go_on(device: Device) -> None:
    device.install("colours")
    best = set(device.selector().bundle.policies[0].models)
    device.start(every_s=0.05)
    ask(device)
    until(lambda: best <= {item.release.name for item in device.store.installed.models})
    until(lambda: device.predict(plain_image("red")).certified)
    device.stop()
    assert not any(thread.name == "zooselect device" for thread in threading.enumerate())


def test_a_local_device_asks_nobody(tmp_path: Path, publisher: Publisher, server: SlowServer) -> None:
    device = Device.set_up(tmp_path / "device", server.url, publisher.root, mode="local")
    device.install("colours")
    server.forget()
    device.start(every_s=0.01)
    assert not any(thread.name == "zooselect device" for thread in threading.enumerate())
    ask(device)
    assert server.requests == 0


def test_the_latest_is_there_before_the_first_answer(
    tmp_path: Path, publisher: Publisher, server: SlowServer
) -> None:
    device = Device.set_up(tmp_path / "device", server.url, publisher.root, mode="latest")
    device.install("colours")
    server.forget()
    device.start(every_s=60)
    assert server.requests >= 2
    assert device.last is not None
    assert not device.last.freshness.stale
    device.close()


def test_the_configuration_holds_nothing_else(device: Device) -> None:
    held = json.loads((device.folder / CONFIG_FILE).read_text())
    assert set(held) == {
        "schema_version", "url", "group", "budget_bytes", "mode", "service", "price_per_mb",
    }  # fmt: skip


def test_a_round_installs_what_is_sound_and_tells_what_is_not(tmp_path: Path, world: World) -> None:
    publisher = colour_publisher(tmp_path / "publisher", world.zoo)
    with serving(publisher.folder) as running:
        device = Device.set_up(tmp_path / "device", running.url, publisher.root)
        device.client.install(models=["tiny", "full"])
        publisher.change("tiny")
        publisher.change("full", seed=8)
        publisher.publish()
        mislead(publisher, "full", version=3)
        found = device.look()
        assert isinstance(found.problem, SelfTestError)
        assert found.change is not None
        assert found.change.installed == ("tiny",)
        usable = device.client.usable()
        assert usable is not None
        assert usable.models["full"].version == 1
        done = CliRunner().invoke(commands, ["update", str(device.folder)])
        assert isinstance(done.exception, SelfTestError)
        assert "Everything is up to date." in done.stdout
        device.close()
