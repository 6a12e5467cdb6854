"""From demand to models: devices report, the service signs an assignment, devices follow it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
import pytest
from typer.testing import CliRunner

from selector.bundle.bundle import read_bundle_files
from selector.cli import app
from selector.commands.serve import register
from selector.device.reporter import Reporter
from selector.fleet.app import Service, make_app
from selector.fleet.group_tasks import tasks_for
from selector.fleet.ledger import Ledger
from selector.fleet.schedule import assign_groups, timestamp_left_s
from selector.fleet.server import serving
from selector.fleet.signatures import Signatures
from selector.fleet.tally import Received, Tally
from selector.fleet.tokens import Tokens
from selector.telemetry.demand import AskedDemand, RemoteUse
from tests.support.small_service import HANG_S, demand, report, until
from tests.support.small_service import Client as Web
from training.fitting.export import export_bundle
from zoo.client.client import Client
from zoo.client.trust import Trust
from zoo.errors import CardError, DataError, KeysError, MissingExtraError, ServiceError
from zoo.extras import install_command
from zoo.publisher.keys import create_keys
from zoo.publisher.publish import publish
from zoo.publisher.signing import refresh
from zoo.releases.catalogue import index_from_folder
from zoo.releases.release import Assignment
from zoo.store.store import Store

if TYPE_CHECKING:
    from tests.support.world import World

if not any(group.name == "serve" for group in app.registered_groups):
    register(app)


@pytest.fixture(scope="module")
def publisher(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published bundle ``colours`` with its models, in ``published``, and all keys in ``keys``."""
    folder = tmp_path_factory.mktemp("publisher")
    export_bundle(world.fit("cascade", precision=0.9), world.zoo, folder / "bundle")
    keys = create_keys(folder / "keys")
    bundle = read_bundle_files(folder / "bundle")
    publish(folder / "published", world.zoo, keys=keys, bundles={"colours": bundle})
    return folder


@pytest.fixture
def copied(publisher: Path, tmp_path: Path) -> Path:
    """A copy of the publisher's folders that a test may change, with the online keys apart."""
    import shutil

    shutil.copytree(publisher, tmp_path, dirs_exist_ok=True)
    (tmp_path / "online").mkdir(mode=0o700)
    for key in (tmp_path / "keys").iterdir():
        if key.name.startswith(("snapshot", "timestamp", "assignments")):
            shutil.copy2(key, tmp_path / "online")
    return tmp_path


def tally_of(answers: int, budget: int | None, asked: float = 0.9) -> Tally:
    """Four devices of the group ``cameras`` that were asked so often for this precision."""
    tally = Tally()
    own = demand(
        "colours",
        answers,
        0,
        asked=(AskedDemand(kind="precision", level=asked, answers=answers, unmet=0),),
    )
    for i in range(4):
        tally.add(Received(at=time.time(), report=report(i, demand=(own,), bundles=(), budget_bytes=budget)))
    return tally


def flood(url: str) -> None:
    """A request that is none."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=HANG_S) as stream:
        stream.sendall(b"NONSENSE\r\n\r\n")
        assert stream.recv(99).startswith(b"HTTP/1.1 400")


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["serve", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_tasks_weigh_what_a_group_asks(publisher: Path) -> None:
    root = publisher / "published"
    index = index_from_folder(root)
    group = tally_of(1000, None).demand("cameras", since=0)
    (task,) = tasks_for(root, index, group)
    assert (task.name, task.answers) == ("colours", 4000.0)
    everything = task.gain(["tiny", "small", "full"])
    assert everything > 1.0 > task.gain(["tiny"])
    impossible = tally_of(1000, None, asked=0.9999).demand("cameras", since=0)
    assert tasks_for(root, index, impossible)[0].gain(["tiny", "small", "full"]) < everything


def test_what_devices_may_say_but_no_bundle_knows_is_left_out(publisher: Path) -> None:
    root = publisher / "published"
    strange = AskedDemand(kind="precision", level=7.0, answers=10, unmet=0)
    tally = Tally()
    mine, unknown = demand("colours", asked=(strange,)), demand("unknown")
    tally.add(Received(at=1.0, report=report(demand=(mine, unknown))))
    (task,) = tasks_for(root, index_from_folder(root), tally.demand("cameras", since=0))
    assert task.gain(["tiny", "small", "full"]) >= 1.0  # as with the bundle's own constraint


def test_a_fleet_follows_what_it_asked_for(copied: Path, tmp_path: Path) -> None:
    root = copied / "published"
    index = index_from_folder(root)
    tokens = Tokens(tmp_path / "tokens.json")
    token = tokens.add("device", "cameras")
    ledger = Ledger(tmp_path / "data")
    signatures = Signatures(root, copied / "online")
    with serving(make_app(root, Service(tokens, ledger))) as url:
        stores = []
        for i in range(3):
            store = Store.open(tmp_path / f"device{i}", budget_bytes=10**6)
            Trust.pin(store.folder / "tuf", (root / "metadata" / "1.root.json").read_bytes())
            client = Client(store, url, group="cameras")
            client.install(models=["tiny"], bundles=["colours"])
            asked = (AskedDemand(kind="precision", level=0.9, answers=1000, unmet=400),)
            Reporter(store, url, token, group="cameras").send(
                [demand("colours", 1000, 400, models={}, asked=asked)]
            )
            stores.append((store, client))
        decisions = assign_groups(
            root,
            ledger.tally,
            lambda index, group: tasks_for(root, index, group),
            sign=signatures.assignments,
            settings=tmp_path,
            lately_s=1000,
        )
        assert [one.changed for one in decisions] == [True]
        assert decisions[0].assignment is not None
        for store, client in stores:
            client.follow()
            held = {item.release.name for item in store.installed.models}
            assert held == set(decisions[0].assignment.models) != {"tiny"}
    ledger.close()
    assert set(index.models) == {"tiny", "small", "full"}


def test_a_withdrawn_assignment_leaves_devices_with_what_they_have(copied: Path, tmp_path: Path) -> None:
    root, data = copied / "published", tmp_path / "service"
    Tokens(data / "tokens.json").add("device", "cameras")
    ledger = Ledger(data)
    ledger.accept(tally_of(1000, None).newest())
    ledger.close()
    run("assign", root, "--data", data, "--keys", copied / "online")
    with serving(make_app(root)) as url:
        store = Store.open(tmp_path / "device")
        Trust.pin(store.folder / "tuf", (root / "metadata" / "1.root.json").read_bytes())
        client = Client(store, url, group="cameras")
        client.follow()
        held = store.installed
        assert held.models
        assert client.assigned
        output = run(
            "assign", root, "--data", data, "--keys", copied / "online", "--withdraw", "cameras", "--json"
        )
        assert '"assignment":null,"changed":true' in output
        assert client.follow().nothing
        assert store.installed == held
        assert not client.assigned
    assert "unchanged: withdrawn" in run("assign", root, "--data", data, "--keys", copied / "online")


def test_only_a_group_that_there_is_can_lose_its_assignment(copied: Path, tmp_path: Path) -> None:
    root, data = copied / "published", tmp_path / "service"
    with pytest.raises(KeysError, match="a withdrawal is signed"):
        run("assign", root, "--data", data, "--withdraw", "cameras")
    with pytest.raises(DataError, match=r"got phones\. There are: none"):
        run("assign", root, "--data", data, "--keys", copied / "online", "--withdraw", "phones")
    assert not (data / "groups.json").exists()


def test_nothing_is_signed_where_nothing_changes(copied: Path, tmp_path: Path) -> None:
    root = copied / "published"
    signatures = Signatures(root, copied / "online")

    def decide() -> bool:
        (one,) = assign_groups(
            root,
            tally_of(1000, None),
            lambda index, group: tasks_for(root, index, group),
            sign=signatures.assignments,
            settings=tmp_path,
            lately_s=1000,
        )
        return one.changed

    assert decide()
    before = sorted((path.name, path.read_bytes()) for path in (root / "metadata").iterdir())
    assert not decide()
    assert sorted((path.name, path.read_bytes()) for path in (root / "metadata").iterdir()) == before


def test_the_timestamp_is_signed_again_when_half_its_time_has_passed(copied: Path) -> None:
    root = copied / "published"
    signatures = Signatures(root, copied / "online")
    assert signatures.offline_here == ()
    assert not signatures.timestamp()
    from zoo.publisher.keys import Keys

    refresh(root, Keys.open(copied / "online"), now=datetime.now(UTC) - timedelta(hours=20))
    assert timestamp_left_s(root) < 5 * 3600
    assert signatures.timestamp()
    assert timestamp_left_s(root) > 23 * 3600
    (root / "metadata" / "timestamp.json").write_text("{")
    assert timestamp_left_s(root) == 0.0


def test_keys_that_are_missing_are_named(copied: Path) -> None:
    for key in (copied / "online").glob("assignments-*"):
        key.unlink()
    with pytest.raises(KeysError, match="assignments"):
        Signatures(copied / "published", copied / "online")


def test_missing_extras_are_named(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "zoo.publisher.keys", None)
        with pytest.raises(MissingExtraError, match=re.escape(install_command("publish"))):
            Signatures(copied / "published", copied / "online")
    monkeypatch.setitem(sys.modules, "selector.fleet.server", None)
    with pytest.raises(MissingExtraError, match=re.escape(install_command("serve"))):
        run(copied / "published")


def test_a_token_is_printed_once(tmp_path: Path) -> None:
    token = run("token", "--group", "cameras", "--data", tmp_path).split()[0]
    assert Tokens(tmp_path / "tokens.json").find(token) is not None
    assert run("token", "--operator", "--data", tmp_path).startswith("zo_")
    with pytest.raises(DataError, match="either --group"):
        run("token", "--data", tmp_path)


def test_assign_says_what_it_would_do_and_signs_with_keys(copied: Path, tmp_path: Path) -> None:
    data = tmp_path / "service"
    root = copied / "published"
    assert "No group has reported" in run("assign", root, "--data", data)
    Tokens(data / "tokens.json").add("device", "cameras")
    ledger = Ledger(data)
    ledger.accept(tally_of(1000, None).newest())
    ledger.close()
    assert "would be signed: the first" in run("assign", root, "--data", data)
    assert index_from_folder(root).assignments == {}
    (data / "groups.json").write_text('{"schema_version": 1, "groups": {"phones": {"models": ["tiny"]}}}')
    assert "signed" in run("assign", root, "--data", data, "--keys", copied / "online")
    found = index_from_folder(root).assignments
    assert found["phones"].models == ("tiny",)
    assert found["cameras"].bundles == ("colours",)
    decided = json.loads(run("assign", root, "--data", data, "--json"))
    assert [one["changed"] for one in decided] == [False, False]
    (data / "tokens.json").unlink()
    assert "4 devices do not count, their token is no longer valid" in run("assign", root, "--data", data)
    with pytest.raises(CardError, match="publish --help"):
        run("assign", tmp_path / "nothing", "--data", data)


def test_one_command_serves_files_and_takes_reports(copied: Path, tmp_path: Path) -> None:
    data = tmp_path / "service"
    token = Tokens(data / "tokens.json").add("device", "cameras")
    code = "from selector.cli import app; from selector.commands.serve import register;"
    code += "[register(app)] if not any(g.name == 'serve' for g in app.registered_groups) else 0; app()"
    command = [sys.executable, "-u", "-c", code, "serve", str(copied / "published"), "--port", "0"]
    command += ["--data", str(data), "--keys", str(copied / "keys"), "--every", "1"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split(" at ")[1].split("/ ")[0]
            web = Web(url, token)
            asked = (AskedDemand(kind="precision", level=0.9, answers=4000, unmet=0),)
            own = demand("colours", 4000, 0, asked=asked)
            assert web.post(report(demand=(own,), budget_bytes=None)).status == 202
            assert web.ask("GET", "/metadata/1.root.json").status == 200
            for _ in range(40):
                flood(url)
            until(lambda: "cameras" in index_from_folder(copied / "published").assignments)
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=HANG_S)
    assert "Keep them offline" in errors
    assert "Traceback" not in errors
    assert errors.count("Invalid HTTP request received") == 21
    assert "20 lines were left out" in errors


def test_a_rule_that_makes_no_sense_stops_no_other_group(copied: Path, tmp_path: Path) -> None:
    root = copied / "published"
    (tmp_path / "groups.json").write_text(
        '{"schema_version": 1, "groups": {"a": {"models": ["unheard-of"], "bundles": ["colours"]}}}'
    )
    signed: list[Assignment] = []
    with pytest.raises(ServiceError, match=r"group a: .*unheard-of.* The other groups have been decided"):
        assign_groups(
            root,
            tally_of(1000, None),
            lambda index, group: tasks_for(root, index, group),
            sign=lambda assignments, _: signed.extend(assignments),
            settings=tmp_path,
            lately_s=1000,
        )
    assert [one.group for one in signed] == ["cameras"]


def test_what_devices_sent_to_servers_of_models_is_summed() -> None:
    tally = Tally()
    asked = msgspec.structs.replace(
        demand(), schema_version=2, remote=RemoteUse(inputs=3, sent_bytes=900, failures=1)
    )
    for device in (1, 2):
        told = report(device, schema_version=2, demand=(asked,))
        assert tally.add(Received(at=time.time(), report=told))
    assert tally.add(Received(at=time.time(), report=report(3)))
    found = tally.demand("cameras", since=0.0).bundles["birds"]
    assert (found.devices, found.remote) == (3, RemoteUse(inputs=6, sent_bytes=1800, failures=2))
    tally = Tally()
    tally.add(Received(at=time.time(), report=report(1)))
    assert tally.demand("cameras", since=0.0).bundles["birds"].remote is None
