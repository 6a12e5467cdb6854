"""Claims about the device commands: from an empty folder to certified answers, and every mistake in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from benchmarks.distribution.network import SlowServer, serving
from selector.commands.device import commands
from selector.device.reconciler import MIN_ANSWERS_TO_FETCH
from tests.support.small_models import plain_image
from tests.support.small_publisher import Publisher
from tests.support.small_service import running as service_running
from zoo.errors import DataError, ModelNotFoundError, TokenError, ZooError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(MIN_ANSWERS_TO_FETCH + 4):
        Image.fromarray(plain_image(("red", "green", "blue")[i % 3])).save(folder / f"{i:03d}.png")
    return folder


def run(*arguments: object) -> str:
    """What a command prints; errors of ours come as they are."""
    done = CliRunner().invoke(commands, [str(part) for part in arguments])
    if isinstance(done.exception, ZooError):
        raise done.exception
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def init(device: Path, publisher: Publisher, server: SlowServer, *more: object) -> str:
    root = publisher.folder / "metadata" / "1.root.json"
    return run("init", device, "--url", server.url, "--root", root, *more)


def test_from_an_empty_folder_to_the_models_that_pay(
    tmp_path: Path, publisher: Publisher, server: SlowServer, images: Path
) -> None:
    device = tmp_path / "device"
    assert "task colours, version 1" in init(device, publisher, server)
    before = json.loads(run("status", device, "--json"))
    assert len(before["models"]) == 1
    limits = ("--answer-timeout", 60, "--answer-memory", 100)
    output = run("predict", device, images, "--json", *limits)
    assert '"label":"green"' in output.replace(" ", "")
    after = json.loads(run("status", device, "--json"))
    assert set(after["models"]) > set(before["models"]) or after["models"] != before["models"]
    assert "Everything is up to date" in run("update", device)
    assert "as they were published" in run("verify", device)


def test_pins_are_shown_and_names_that_are_not_there_refused(
    tmp_path: Path, publisher: Publisher, server: SlowServer
) -> None:
    device = tmp_path / "device"
    init(device, publisher, server)
    (model,) = json.loads(run("status", device, "--json"))["models"]
    assert "pinned" in run("pin", device, model)
    assert "pinned" not in run("pin", device, model, "--off")
    with pytest.raises(ModelNotFoundError, match="not installed: owl"):
        run("pin", device, "owl")
    with pytest.raises(DataError, match="not installed: owl"):
        run("remove", device, "owl")
    assert model not in run("remove", device, model)


def test_damaged_files_are_named_and_fetched_again(
    tmp_path: Path, publisher: Publisher, server: SlowServer
) -> None:
    device = tmp_path / "device"
    init(device, publisher, server)
    path = max((device / "blobs").iterdir(), key=lambda item: item.stat().st_size)
    path.chmod(0o644)
    path.write_bytes(b"rotten")
    with pytest.raises(DataError, match=rf"1 files were damaged.*{path.name}.*device update"):
        run("verify", device)
    run("update", device)
    assert "as they were published" in run("verify", device)


def test_a_group_without_an_assignment_is_told_what_to_do(
    tmp_path: Path, publisher: Publisher, server: SlowServer
) -> None:
    with pytest.raises(DataError, match=r"expected an assignment for the group 'park'.*--task"):
        init(tmp_path / "device", publisher, server, "--group", "park")
    output = init(tmp_path / "device", publisher, server, "--group", "park", "--task", "colours")
    assert "task colours" in output
    assert "this one lacks --service and the group's token in ZOOSELECT_TOKEN" in output


@pytest.mark.parametrize(
    ("options", "variable", "words"),
    [
        (["--service", "http://127.0.0.1:1", "--group", "park"], "", "variable ZOOSELECT_TOKEN, got none"),
        (["--service", "http://127.0.0.1:1"], "zd_1", "expected --group NAME"),
        (["--group", "park"], "zd_1", "unset the environment variable ZOOSELECT_TOKEN"),
    ],
)
def test_service_group_and_token_belong_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], variable: str, words: str
) -> None:
    monkeypatch.delenv("ZOOSELECT_TOKEN", raising=False)
    if variable:
        monkeypatch.setenv("ZOOSELECT_TOKEN", variable)
    (tmp_path / "root.json").touch()
    device = tmp_path / "device"
    with pytest.raises(DataError, match=words):
        run("init", device, "--url", "http://127.0.0.1:1", "--root", tmp_path / "root.json", *options)
    assert not device.exists()


def test_a_token_is_checked_when_a_device_is_set_up(
    tmp_path: Path, publisher: Publisher, server: SlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "device"
    with service_running(tmp_path / "service") as (client, _):
        to_service = ("--group", "cameras", "--task", "colours", "--service", client.url)
        monkeypatch.setenv("ZOOSELECT_TOKEN", "zd_wrong")
        with pytest.raises(TokenError, match="environment variable ZOOSELECT_TOKEN"):
            init(device, publisher, server, *to_service)
        monkeypatch.setenv("ZOOSELECT_TOKEN", client.token)
        assert "Warning" not in init(device, publisher, server, *to_service)
    monkeypatch.setenv("ZOOSELECT_TOKEN", client.token + "2")
    assert "Warning: expected the service at" in init(device, publisher, server, *to_service)


def test_a_root_that_is_not_there_is_named(tmp_path: Path, server: SlowServer) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json: expected the publisher's root metadata"):
        run("init", tmp_path / "d", "--url", server.url, "--root", tmp_path / "nowhere.json")


def test_without_its_publisher_a_device_answers_and_says_why_it_is_stale(
    tmp_path: Path, publisher: Publisher, images: Path
) -> None:
    device = tmp_path / "device"
    with serving(publisher.folder) as server:
        init(device, publisher, server)
    output = run("predict", device, images)
    assert "green" in output
    assert "stale: expected the published metadata" in output
    assert "stale:" in run("run", device, "--rounds", 1)


def test_the_commands_are_part_of_the_command_line() -> None:
    from selector.commands.device import register

    app = typer.Typer()
    register(app)
    assert [group.typer_instance for group in app.registered_groups] == [commands]
