"""Claims about a device: it answers whatever happens, and gets the models that its inputs need."""

from __future__ import annotations

import json
import stat
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from benchmarks.distribution.network import SlowServer, serving
from selector.commands.device import commands
from selector.device.device import Device
from selector.device.reconciler import MIN_ANSWERS_TO_FETCH
from selector.device.settings import CONFIG_FILE, TOKEN_FILE, read_token, write_token
from tests.support.small_device import ask, until
from tests.support.small_models import plain_image
from tests.support.small_publisher import Publisher, colour_publisher, mislead
from tests.support.small_service import running
from zoo.errors import (
    BundleError,
    CardError,
    LeftOutError,
    LimitError,
    TokenError,
    TrustError,
    UnreachableError,
    ZooError,
)

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


def test_a_device_and_a_client_close_at_the_end_of_a_with_statement(device: Device) -> None:
    device.install("colours")
    with Device.open(device.folder) as opened, opened.client as client:
        assert client.refresh().index.bundles
        opened.start()
        assert opened.predict(plain_image("red")).label == "red"
        thread, updater = opened._thread, opened._updater
        assert thread is not None
        assert updater is not None
    assert not thread.is_alive()
    assert (opened._updater, opened._reconciler._client) == (None, None)


def test_a_device_with_limits_leaves_out_what_takes_more_and_tells_so(device: Device) -> None:
    device.install("colours")
    ask(device)
    assert device.update().installed
    large = plain_image("red", (2000, 2000))
    with Device.open(device.folder, answer_timeout_s=60.0, answer_memory_bytes=2**20) as limited:
        assert limited.predict(plain_image("red")).certified
        with pytest.raises(LimitError, match="more memory than 1,048,576 bytes"):  # none can: the image is
            limited.predict(large)  # to blame
        assert limited.look().left_out == limited.left_out == ()
    for limit in ({"answer_timeout_s": 0.0}, {"answer_memory_bytes": -1}):
        with pytest.raises(ZooError, match="expected a limit of"):
            Device.open(device.folder, **limit)  # type: ignore[arg-type]


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


@pytest.mark.skipif(sys.platform == "win32", reason="needs modes of files")
def test_a_token_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    write_token(tmp_path, "secret")
    (tmp_path / TOKEN_FILE).chmod(0o644)
    with pytest.raises(CardError, match=f"chmod 600 {tmp_path / TOKEN_FILE}"):
        read_token(tmp_path)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"service": "http://127.0.0.1:1", "group": "park"}, "no token="),
        ({"service": "http://127.0.0.1:1", "token": "t"}, "no group="),
        ({"group": "park", "token": "t"}, "got the token alone"),
    ],
)
def test_service_group_and_token_belong_together(
    tmp_path: Path, publisher: Publisher, setting: dict[str, Any], words: str
) -> None:
    with pytest.raises(CardError, match=words):
        Device.set_up(tmp_path / "x", "http://127.0.0.1:1", publisher.root, **setting)
    assert not (tmp_path / "x").exists()


def test_a_wrong_token_shows_at_once_and_the_right_one_stays(tmp_path: Path, publisher: Publisher) -> None:
    def set_up(token: str, group: str = "cameras") -> Device:
        return Device.set_up(
            tmp_path / "x", "http://127.0.0.1:1", publisher.root, group=group, service=client.url, token=token
        )

    with running(tmp_path / "service") as (client, service):
        with pytest.raises(TokenError, match=r"status 401.*ZOOSELECT_TOKEN.*serve token --group cameras"):
            set_up("zd_wrong")
        assert not (tmp_path / "x" / CONFIG_FILE).exists()
        assert set_up(client.token).last is None
        for token, group in (("zd_wrong", "cameras"), (client.operator, "cameras"), (client.token, "phones")):
            with pytest.raises(TokenError, match=r"status 40[13]"):
                set_up(token, group)
        assert read_token(tmp_path / "x") == client.token
        assert Device.open(tmp_path / "x").config.group == "cameras"
        set_up(client.token)  # nothing new: nothing to ask
        assert service.ledger.tally.counts == {"cameras": 1}
    unreachable = set_up(client.token + "x")
    assert unreachable.last is not None
    assert isinstance(unreachable.last.problem, UnreachableError)


def test_a_token_is_sent_over_https_alone(tmp_path: Path, publisher: Publisher) -> None:
    with pytest.raises(UnreachableError, match="expected an https address"):
        Device.set_up(
            tmp_path / "x", "http://127.0.0.1:1", publisher.root,
            group="park", service="http://models.example.org", token="t",
        )  # fmt: skip
    assert not (tmp_path / "x" / TOKEN_FILE).exists()


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
        assert isinstance(found.problem, LeftOutError)
        assert found.change is not None
        assert found.change.installed == ("tiny",)
        usable = device.client.usable()
        assert usable is not None
        assert usable.models["full"].version == 1
        done = CliRunner().invoke(commands, ["update", str(device.folder)])
        assert isinstance(done.exception, LeftOutError)
        assert "Everything else is up to date." in done.stdout
        device.close()
