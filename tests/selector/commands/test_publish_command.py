"""The commands of ``publish``, run as the command line runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner, Result

from selector.commands.publishing.publish import register
from tests.support.moments import moments_of
from tests.support.small_models import add_colours, build_onnx
from tests.support.standard_client import StandardClient, served
from zoo import Zoo
from zoo.errors import BundleError, KeysError, PublishError, ZooError
from zoo.models.latency import save_table
from zoo.publisher.keys import create_keys
from zoo.publisher.publish import published

if TYPE_CHECKING:
    from tests.support.world import World


def run(*arguments: object) -> Result:
    app = typer.Typer()

    @app.callback()
    def main() -> None:
        """Stands for the whole command line, which has more commands than these."""

    register(app)
    result = CliRunner().invoke(app, ["publish", *map(str, arguments)])
    if isinstance(result.exception, ZooError):
        raise result.exception
    return result


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZOOSELECT_PASSPHRASE", raising=False)
    return tmp_path


def test_a_newcomer_publishes_with_one_command(here: Path, small_zoo: Zoo) -> None:
    done = run("repo", "--zoo", small_zoo.folder)
    assert done.exit_code == 0, done.output
    assert "checking and measuring full" in done.stderr
    assert "New private keys in my-keys, not encrypted" in done.stderr
    assert "Move root-*.pem and targets-*.pem to a place offline" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["kind", "name", "version", "MB", "new", "MB"]
    assert [line.split()[:3] for line in lines[2:5]] == [
        ["model", name, "1"] for name in ("tiny", "small", "full")
    ]
    assert "Devices start with repo/metadata/1.root.json" in done.stdout
    with served(here / "repo") as url:
        root = (here / "repo" / "metadata" / "1.root.json").read_bytes()
        assert StandardClient(here / "device", root, url).model("tiny")


def test_a_first_publication_that_was_interrupted_among_its_keys_goes_on(here: Path, small_zoo: Zoo) -> None:
    copies = moments_of(lambda: create_keys(here / "made"), here / "made", here / "copies")
    copies[len(copies) // 2].rename(here / "my-keys")
    before = {path.name for path in (here / "my-keys").glob("*.pem")}
    done = run("repo", "--zoo", small_zoo.folder, "--models", "tiny")
    assert "New private keys in my-keys" in done.stderr
    assert 0 < len(before) < 5
    assert before < {path.name for path in (here / "my-keys").glob("*.pem")}
    assert set(published(here / "repo").models) == {"tiny"}


def test_the_second_time_there_is_nothing_to_publish(here: Path, small_zoo: Zoo) -> None:
    run("add", "repo", "--zoo", small_zoo.folder)
    done = run("--zoo", small_zoo.folder, "repo")
    assert "Nothing to publish" in done.stdout
    assert "unchanged" in done.stdout
    assert "New private keys" not in done.stderr


def test_bundles_accuracy_and_times_come_along(here: Path, world: World) -> None:
    save_table(world.table, here / "bench-top.json")
    done = run(
        *("repo", "--zoo", world.zoo.folder, "--bundle", f"colours={world.bundles['learned']}"),
        *("--profile", world.profile, "--latency", "bench-top.json", "--json"),
    )
    assert json.loads(done.stdout)["items"][-1]["name"] == "colours"
    index = published(here / "repo")
    assert set(index.bundles) == {"colours"}
    assert index.models["full"].latency_ms == {"bench-top": 1.0}
    assert 0.9 < (index.models["full"].accuracy or 0) <= 1


def test_list_shows_what_is_published(here: Path, small_zoo: Zoo) -> None:
    run("repo", "--zoo", small_zoo.folder, "--models", "tiny,full")
    rows = [line.split()[:3] for line in run("list", "repo").stdout.splitlines()[2:]]
    assert sorted(rows) == [["model", "full", "1"], ["model", "tiny", "1"]]
    assert set(json.loads(run("list", "repo", "--json").stdout)["models"]) == {"tiny", "full"}


def test_remove_then_clean(here: Path, small_zoo: Zoo) -> None:
    run("repo", "--zoo", small_zoo.folder)
    assert "Left: models full, small; bundles none" in run("remove", "repo", "--models", "tiny").stdout
    assert "Removed 0 files" in run("clean", "repo").stdout
    assert "Would remove" in run("clean", "repo", "--dry-run", "--grace-days", 0).stdout


def test_keys_are_made_rotated_and_used_from_several_folders(here: Path, small_zoo: Zoo) -> None:
    assert "New private keys in offline" in run("keys", "offline", "--root-keys", 2).stdout
    (here / "online").mkdir(mode=0o700)
    for role in ("snapshot", "timestamp"):
        path = next((here / "offline").glob(f"{role}-*.pem"))
        path.rename(here / "online" / path.name)
    both = ("--keys", "online", "--keys", "offline")
    run("repo", "--zoo", small_zoo.folder, *both, "--root-threshold", 2)
    done = run("rotate", "repo", "timestamp", *both)
    assert "no longer count" in done.stdout
    assert len(list((here / "online").glob("timestamp-*.pem"))) == 2
    assert run("refresh", "repo", "--keys", "online").stdout == "Signed anew: timestamp.\n"
    with pytest.raises(KeysError, match="'targets'"):
        run("remove", "repo", "--models", "tiny", "--keys", "online")


def test_encrypted_keys_are_opened_with_the_passphrase_of_the_environment(
    here: Path, small_zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOOSELECT_PASSPHRASE", "open sesame")
    assert "my-keys, encrypted." in run("repo", "--zoo", small_zoo.folder).stderr
    run("refresh", "repo")
    monkeypatch.delenv("ZOOSELECT_PASSPHRASE")
    with pytest.raises(KeysError, match="environment variable ZOOSELECT_PASSPHRASE"):
        run("refresh", "repo")


def test_refresh_warns_of_what_it_cannot_sign(here: Path, small_zoo: Zoo) -> None:
    run("repo", "--zoo", small_zoo.folder, "--expires", "root=20,targets=10")
    for path in (here / "my-keys").glob("[rt][oa]*.pem"):
        path.unlink()
    done = run("refresh", "repo")
    assert "Warning: root metadata expires in 20.0 days" in done.stderr
    assert "Run 'zooselect publish refresh' with the targets key at hand" in done.stderr
    assert len(json.loads(run("refresh", "repo", "--json").stdout)["warnings"]) == 2


def test_a_changed_model_is_told_apart_from_the_others(here: Path, small_zoo: Zoo) -> None:
    run("repo", "--zoo", small_zoo.folder)
    add_colours(small_zoo, "full", build_onnx(noise=0.1))
    done = run("repo", "--zoo", small_zoo.folder, "--json")
    changed = {item["name"]: item["changed"] for item in json.loads(done.stdout)["items"]}
    assert changed == {"tiny": False, "small": False, "full": True}


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["repo", "--bundle", "birds"], PublishError, "NAME=FOLDER"),
        (["repo", "--bundle", "birds=nowhere"], BundleError, "expected a bundle"),
        (["repo", "--expires", "moon=3"], PublishError, "targets=90,timestamp=1, got 'moon=3'"),
        (["repo", "--expires", "root=soon"], PublishError, "root=soon"),
        (["remove", "repo"], PublishError, "--models or --bundles"),
        (["rotate", "repo", "moon"], PublishError, "timestamp or assignments|got 'moon'"),
        (["refresh", "repo"], PublishError, "nothing published"),
        (["clean", "repo"], PublishError, "publisher's folder"),
    ],
)
def test_bad_input_gets_an_answer(
    here: Path, small_zoo: Zoo, arguments: list[str], error: type[ZooError], words: str
) -> None:
    zoo = [] if arguments[0] != "repo" else ["--zoo", str(small_zoo.folder)]
    with pytest.raises(error, match=words):
        run(*arguments, *zoo)


def test_help_names_the_short_form_and_every_command() -> None:
    text = " ".join(run("--help").stdout.split())
    assert "zooselect publish REPO --zoo my-zoo" in text
    for command in ("add", "list", "remove", "keys", "rotate", "refresh", "clean"):
        assert f" {command} " in text
    assert "--help" in run("refresh", "--help").stdout
