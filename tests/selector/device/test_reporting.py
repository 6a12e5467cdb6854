"""Reporting: what a device tells its service, and that answers never wait for it or fail with it."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import selector.device.reporter
from selector.device.reporter import IDENTITY_FILE, BusyError, Reporter, Sent, _next_identity, shortened
from selector.fleet.ledger import read_tally
from selector.telemetry.demand import AskedDemand
from selector.telemetry.report import MAX_COUNT, MAX_REPORT_BYTES, Report, decode_report, encode_report
from tests.support.small_releases import bundle_release, model_release
from tests.support.small_service import demand, report, running
from zoo.errors import MissingExtraError, UnreachableError, ZooError
from zoo.extras import install_command
from zoo.files import encode_record
from zoo.store.store import INSTALLED_FILE, Installed, InstalledBundle, InstalledModel, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store whose record names a model and a bundle."""
    made = Store.open(tmp_path / "store", budget_bytes=5000)
    small = model_release("small", {"a": 90})
    installed = Installed(
        schema_version=1,
        models=(InstalledModel(release=small),),
        bundles=(InstalledBundle(release=bundle_release("birds", (small,))),),
    )
    (made.folder / INSTALLED_FILE).write_bytes(encode_record(installed))
    return made


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(selector.device.reporter, "MIN_RETRY_WAIT_S", 0.001)


@contextmanager
def answering(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives these answers one after the other, the last again and again; what it was sent."""
    seen: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.rfile.read(int(self.headers["content-length"])))
            status, headers, body = answers[min(len(seen), len(answers)) - 1]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


def reporter(store: Store, url: str, token: str = "t", **more: Any) -> Reporter:
    return Reporter(store, url, token, group="cameras", **more)


def test_a_report_says_what_is_installed_and_asked(tmp_path: Path, store: Store) -> None:
    with running(tmp_path) as (client, service):
        sent = reporter(store, client.url, client.token).send([demand()])
        kept = service.ledger.tally.newest()[0].report
    assert sent.new
    assert kept == sent.report
    assert [(one.name, one.version) for one in (*kept.models, *kept.bundles)] == [("small", 1), ("birds", 1)]
    assert (kept.budget_bytes, kept.stored_bytes, kept.demand) == (5000, 0, (demand(),))


def test_a_device_keeps_its_identity_and_counts_on(tmp_path: Path, store: Store) -> None:
    with running(tmp_path) as (client, _):
        sent = [reporter(store, client.url, client.token).send().report for _ in range(3)]
        assert len({one.device for one in sent}) == 1
        assert [one.sequence for one in sent] == [1, 2, 3]
        (store.folder / IDENTITY_FILE).write_text("{")
        assert reporter(store, client.url, client.token).send().report.device != sent[0].device
    counts = read_tally(tmp_path / "data").counts
    assert counts == {"cameras": 4}


def test_both_devices_count_after_a_store_was_copied(tmp_path: Path, store: Store) -> None:
    with running(tmp_path) as (client, service):
        first = reporter(store, client.url, client.token)
        before = first.send().report.device
        copy = tmp_path / "copy"
        shutil.copytree(store.folder, copy)
        second = reporter(Store.open(copy, budget_bytes=7000), client.url, client.token)
        for _ in range(3):
            assert first.send([demand()]).new
            assert second.send([demand(answers=20)]).new
        found = service.ledger.tally.demand("cameras", since=0)
        assert (found.devices, found.window, found.budgets) == (2, 30, (5000, 7000))
        assert first.send().report.device == before != second.send().report.device


def test_a_store_from_a_backup_counts_again(tmp_path: Path, store: Store) -> None:
    with running(tmp_path) as (client, service):
        sender = reporter(store, client.url, client.token)
        sender.send()
        backup = (store.folder / IDENTITY_FILE).read_bytes()
        sender.send()
        sender.send()
        (store.folder / IDENTITY_FILE).write_bytes(backup)
        assert sender.send([demand()]).new
        assert service.ledger.tally.demand("cameras", since=0).window == 10


def test_a_late_report_of_another_process_keeps_the_identity(tmp_path: Path, store: Store) -> None:
    with running(tmp_path) as (client, service):
        late, other = (reporter(store, client.url, client.token) for _ in range(2))
        post = late._post

        def overtaken(one: Report) -> Sent:
            late._post = post  # type: ignore[method-assign]
            other.send()
            return post(one)

        late._post = overtaken  # type: ignore[method-assign]
        assert late.send().new
        assert service.ledger.tally.demand("cameras", since=0).devices == 1


def test_a_service_that_refuses_every_identity_is_told(store: Store) -> None:
    with answering((409, {}, b"")) as (url, seen), pytest.raises(UnreachableError, match="status 409"):
        reporter(store, url).send()
    devices = {decode_report(one).device for one in seen}
    assert len(seen) == len(devices) == 2


def test_an_attempt_whose_answer_was_lost_counts_once(store: Store) -> None:
    accepted = json.dumps({"accepted": True, "new": False}).encode()
    with answering((503, {}, b""), (202, {}, accepted)) as (url, seen):
        sent = reporter(store, url).send([demand()])
    assert (sent.new, sent.attempts) == (False, 2)
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("status", "attempts"), [(503, 3), (429, 3), (408, 3), (401, 1), (422, 1), (302, 1), (200, 1)]
)
def test_only_what_may_pass_is_tried_again(store: Store, status: int, attempts: int) -> None:
    with answering((status, {"location": "http://127.0.0.1:9/"}, b"<html>" * 1000)) as (url, seen):
        sender = reporter(store, url)
        with pytest.raises(UnreachableError, match=f"status {status}"):
            sender.send()
    assert len(seen) == attempts


def test_a_wish_to_come_back_later_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selector.device.reporter, "MAX_RETRY_WAIT_S", 0.01)
    for wish in ("999999999999999", "86400", "-5", "soon", "\u0663"):
        with answering((429, {"retry-after": wish.encode().decode("latin-1")}, b""), (202, {}, b"x")) as (
            url,
            _,
        ):
            assert reporter(store, url).send().new


def test_a_service_that_is_gone_or_silent_is_an_error_of_ours(store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(UnreachableError, match="answers go on"):
            reporter(store, f"http://127.0.0.1:{port}", timeout_s=0.05, attempts=2).send()
    with pytest.raises(UnreachableError, match="Check address"):
        reporter(store, f"http://127.0.0.1:{port}").send()


@pytest.mark.parametrize(
    "url", ["http://example.org", "ftp://127.0.0.1", "127.0.0.1:80", "http://127.0.0.1.evil.org"]
)
def test_a_token_is_not_sent_in_the_clear(store: Store, url: str) -> None:
    with pytest.raises(UnreachableError, match="https"):
        reporter(store, url)
    for here in ("http://localhost:1", "http://[::1]:1", "https://example.org"):
        reporter(store, here)


def test_no_proxy_sees_a_token_in_the_clear(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with answering((202, {}, b"{}")) as (url, seen):
        assert reporter(store, url).send().new
    assert len(seen) == 1


def test_without_urllib3_the_extra_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "urllib3", None)
    with pytest.raises(MissingExtraError, match=re.escape(install_command("fetch"))):
        reporter(store, "https://example.org")


@pytest.mark.parametrize("token", ["", "a\r\nX: y", "ü"])
def test_a_token_that_is_none_is_refused(store: Store, token: str) -> None:
    with pytest.raises(UnreachableError, match="token"):
        reporter(store, "https://example.org", token)


def test_a_report_that_is_too_large_loses_its_rarest_questions() -> None:
    many = tuple(
        AskedDemand(kind="precision", level=0.9, environment=f"{i:0200d}", answers=1, unmet=0)
        for i in range(16)
    )
    large = report(demand=tuple(demand(f"b{i}", 99, 0, asked=many) for i in range(16)))
    short = shortened(large)
    assert len(encode_report(short)) <= MAX_REPORT_BYTES
    assert len(short.demand) == 16
    assert short.demand[0].asked == many[: len(short.demand[0].asked)]
    assert 0 < len(short.demand[0].asked) < 16
    assert shortened(report()) == report()
    models = {f"m{i:060d}": 1 for i in range(300)}
    assert shortened(report(demand=(demand(models=models),))).demand == ()


def test_a_store_that_cannot_be_written_is_said(store: Store, tmp_path: Path) -> None:
    sender = reporter(store, "http://127.0.0.1:9")
    shutil.rmtree(store.folder)
    store.folder.write_text("no folder")
    with pytest.raises(ZooError, match="cannot write"):
        sender.send()


@pytest.mark.parametrize("sequence", [MAX_COUNT, -1, 10**30])
def test_a_number_of_reports_that_cannot_be_counted_on_begins_anew(store: Store, sequence: int) -> None:
    (store.folder / IDENTITY_FILE).write_text(
        json.dumps({"schema_version": 1, "device": "0" * 32, "sequence": sequence})
    )
    assert _next_identity(store).sequence == 1
    assert _next_identity(store).sequence == 2


def test_a_folder_in_the_place_of_the_identity_is_replaced(store: Store) -> None:
    (store.folder / IDENTITY_FILE / "inside").mkdir(parents=True)
    assert _next_identity(store).device == _next_identity(store).device


def test_a_service_that_takes_no_more_for_now_is_said_as_that(store: Store) -> None:
    with answering((429, {"retry-after": "7"}, b"")) as (url, _), pytest.raises(BusyError) as raised:
        reporter(store, url, attempts=1).send()
    assert "takes no more for now" in str(raised.value)
    assert "Check address" not in str(raised.value)
    assert raised.value.seconds == 7
