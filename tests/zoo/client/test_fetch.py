"""Claims about fetching: what the network does wrong never reaches the blobs, and nothing moves twice."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import faulty_server as faults
from tests.support.faulty_server import Fault, FaultyServer, serve
from tests.support.fetching import BIG, NAME, ONE, all_blobs, fetch, partials
from tests.support.fetching import server as server
from tests.support.fetching import store as store
from tests.support.small_blobs import noise, offer
from zoo.client.fetch import Fetcher
from zoo.errors import BudgetError, FetchError, MissingExtraError, StoreFullError, StoreLockedError, ZooError
from zoo.extras import install_command
from zoo.files import sha256_bytes
from zoo.store.store import Store


def test_blobs_arrive_verified_and_read_only(server: FaultyServer, store: Store) -> None:
    blobs = all_blobs(server)
    told: list[tuple[int, int]] = []
    with contextlib.closing(Fetcher(server.url + "/")) as fetcher:
        fetched = fetcher.fetch(blobs, store, progress=lambda *there: told.append(there))
    assert not store.missing(blobs)
    assert not store.verify()
    assert {path.stat().st_mode & 0o777 for path in store.blobs.iterdir()} == {0o444}
    assert (fetched.bytes_on_wire, fetched.requests, fetched.resumed_bytes) == (sum(blobs.values()), 21, 0)
    assert told[-1] == (sum(blobs.values()),) * 2
    assert store.rate_bytes_per_s == pytest.approx(fetched.bytes_on_wire / fetched.seconds, rel=0.2)
    assert not partials(store)


def test_what_is_there_is_not_asked_for(server: FaultyServer, store: Store) -> None:
    fetch(server, store)
    again = fetch(server, store)
    assert (again.requests, again.bytes_on_wire, len(server.requests)) == (0, 0, 1)


def test_connections_are_kept_and_the_largest_blob_comes_first(server: FaultyServer, store: Store) -> None:
    fetch(server, store, all_blobs(server), workers=3)
    assert len({request.connection for request in server.requests}) <= 3
    assert any(NAME in request.path for request in server.requests[:3])
    assert {request.headers["Accept-Encoding"] for request in server.requests} == {"identity"}


def test_requests_run_side_by_side(server: FaultyServer, store: Store) -> None:
    together = threading.Barrier(7, timeout=60)

    def wait_for_the_others(handler: faults.Handler, content: bytes, start: int) -> None:
        together.wait()
        handler.give(content)

    server.misbehave(wait_for_the_others)
    assert fetch(server, store, all_blobs(server), workers=7, timeout_s=60).requests == 21


def test_headers_go_along(server: FaultyServer, store: Store) -> None:
    fetch(server, store, headers={"Authorization": "Bearer secret"})
    assert server.requests[0].headers["Authorization"] == "Bearer secret"


FINAL = {
    "truncated": (faults.truncated, "content of 299,999 bytes instead of 300,000"),
    "overlong": (faults.overlong, "content of 300,001 bytes instead of 300,000"),
    "endless": (faults.endless, "more than 300,000 bytes"),
    "tampered": (faults.tampered, "another digest"),
    "gone": (faults.status(410), "status 410"),
    "forbidden": (faults.status(403), "status 403"),
    "server error": (faults.status(500), "status 500"),
    "busy": (faults.status(503), "status 503"),
    "hang": (faults.hang, "timed out"),
    "hang half-way": (faults.hang_half_way, "timed out"),
    "sign-in page": (faults.sign_in_page, r"a web page \(text/html\) of 50 bytes.*sign in"),
    "long sign-in page": (faults.long_sign_in_page, r"web page \(text/html\) with another digest.*sign in"),
    "compressed": (faults.compressed, "content encoded with gzip"),
    "cut at once": (faults.cut_after(0), "ended after 0 of|IncompleteRead|broken"),
    "redirect to another host": (faults.redirect("http://example.invalid{path}"), "another host"),
    "redirect to another scheme": (faults.redirect("https://127.0.0.1{path}"), "another host"),
    "redirect to a file": (faults.redirect("file:///etc/passwd"), "another host"),
    "redirect for ever": (faults.redirect("{path}"), "too many redirects"),
}


@pytest.mark.parametrize("name", FINAL)
def test_a_fault_that_stays_is_told_and_leaves_no_blob(server: FaultyServer, store: Store, name: str) -> None:
    fault, message = FINAL[name]
    server.misbehave(fault, on=NAME)
    with pytest.raises(FetchError, match=rf"(?s)expected the blob {NAME[:16]}.*got: .*{message}") as caught:
        fetch(server, store, timeout_s=0.4 if "hang" in name else 20)
    assert (caught.value.blob, caught.value.url) == (NAME, f"{server.url}/blobs/{NAME[:2]}/{NAME}")
    assert not store.has(NAME)
    assert server.bytes_sent < 32_000_000  # much more than what the system keeps for a reader that has left
    server.behave()
    fetch(server, store)
    assert store.has(NAME)
    assert not store.verify()


@pytest.mark.parametrize("name", [name for name in FINAL if "page" not in name and "redirect" not in name])
def test_a_fault_that_goes_away_costs_one_more_try(server: FaultyServer, store: Store, name: str) -> None:
    server.misbehave(FINAL[name][0], on=NAME, times=1)
    final = {"truncated", "overlong", "endless", "gone", "forbidden", "compressed"}
    with pytest.raises(FetchError) if name in final else contextlib.nullcontext():
        fetch(server, store, timeout_s=2 if "hang" in name else 20)
    assert len(server.requests) == (1 if name in final else 2)
    assert store.has(NAME) == (name not in final)


def test_a_blob_that_is_not_there_is_told(server: FaultyServer, store: Store) -> None:
    with pytest.raises(FetchError, match="status 404"):
        fetch(server, store, {"0" * 64: 5})


def test_a_failure_leaves_what_arrived(server: FaultyServer, store: Store) -> None:
    server.misbehave(faults.status(404), on=sha256_bytes(noise(1000, seed=0)))  # the smallest comes last
    with pytest.raises(FetchError):
        fetch(server, store, all_blobs(server), workers=1)
    assert len(store.missing(all_blobs(server))) == 1


@pytest.mark.parametrize("tenth", range(1, 10))
def test_a_download_that_was_cut_goes_on_there(server: FaultyServer, store: Store, tenth: int) -> None:
    at = len(BIG) * tenth // 10
    server.misbehave(faults.cut_after(at), times=1)
    fetched = fetch(server, store)
    assert [request.start for request in server.requests] == [0, at]
    assert fetched.bytes_on_wire == server.bytes_sent == len(BIG)
    assert store.has(NAME)


def test_a_connection_cut_at_every_tenth_arrives_in_ten_requests(server: FaultyServer, store: Store) -> None:
    server.misbehave(faults.cut_after(lambda size: size // 10), times=9)
    fetched = fetch(server, store)
    assert (fetched.requests, fetched.bytes_on_wire) == (10, len(BIG))


def test_an_earlier_download_is_continued(server: FaultyServer, store: Store) -> None:
    store.partial(NAME).write_bytes(BIG[:100_000])
    fetched = fetch(server, store)
    assert (fetched.resumed_bytes, fetched.bytes_on_wire) == (100_000, 200_000)


def test_a_complete_download_only_has_to_be_adopted(server: FaultyServer, store: Store) -> None:
    store.partial(NAME).write_bytes(BIG)
    store.partial(NAME).chmod(0o444)  # as a kill between two steps leaves it
    assert fetch(server, store).requests == 0
    assert store.has(NAME)


@pytest.mark.parametrize("there", [noise(100_000, seed=9), noise(300_000, seed=9), noise(300_001, seed=9)])
def test_a_bad_earlier_download_is_begun_anew(server: FaultyServer, store: Store, there: bytes) -> None:
    store.partial(NAME).write_bytes(there)
    fetched = fetch(server, store)
    assert store.has(NAME)
    assert fetched.resumed_bytes == 0


@pytest.mark.parametrize(
    ("fault", "requests"),
    [(faults.ignoring_range, 1), (faults.wrong_range, 2), (faults.no_such_part, 2)],
    ids=["ignored", "wrong", "416"],
)
def test_a_server_that_cannot_continue_gives_all(
    server: FaultyServer, store: Store, fault: Fault, requests: int
) -> None:
    store.partial(NAME).write_bytes(noise(100_000, seed=9))
    server.misbehave(fault)
    fetched = fetch(server, store)
    assert (fetched.requests, fetched.bytes_on_wire, fetched.resumed_bytes) == (requests, len(BIG), 0)
    assert store.has(NAME)


def test_a_part_that_nobody_asked_for_is_refused(server: FaultyServer, store: Store) -> None:
    server.misbehave(lambda handler, content, _: handler.give(content, state=206))
    with pytest.raises(FetchError, match="status 206"):
        fetch(server, store)


def test_a_redirection_on_the_same_host_is_followed(server: FaultyServer, store: Store) -> None:
    moved = server.root / "elsewhere"
    moved.mkdir()
    (moved / NAME).write_bytes(BIG)
    server.misbehave(faults.redirect(f"/elsewhere/{NAME}"), on="blobs/")
    fetch(server, store)
    assert store.has(NAME)


def test_nothing_is_asked_for_that_does_not_fit_the_budget(server: FaultyServer, store: Store) -> None:
    store.budget_bytes = len(BIG) - 1
    with pytest.raises(BudgetError, match=r"at most 299,999 bytes .* got 300,000 .* allow 300,000 bytes"):
        fetch(server, store)
    store.partial(NAME).write_bytes(BIG[:1000])  # counts once
    store.budget_bytes = len(BIG)
    fetch(server, store)
    assert [request.start for request in server.requests] == [1000]
    with pytest.raises(BudgetError):
        fetch(server, store, all_blobs(server))


def test_nobody_fetches_into_a_store_that_another_fetches_into(
    server: FaultyServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "fetching", lambda: Store.fetching(store, timeout_s=0.05))
    with Store.open(store.folder).fetching(), pytest.raises(StoreLockedError, match="at work"):
        fetch(server, store)
    assert not server.requests


def test_a_publisher_that_is_not_there_is_told(store: Store, tmp_path: Path) -> None:
    with serve(tmp_path) as gone:
        pass
    with pytest.raises(FetchError, match="refused"):
        fetch(gone, store)


def test_a_server_that_does_not_speak_tls_is_told(server: FaultyServer, store: Store) -> None:
    fetcher = Fetcher(server.url.replace("http:", "https:"))
    with pytest.raises(FetchError, match=r"(?i)ssl.*Check the address, the clock"):
        fetcher.fetch(ONE, store)
    fetcher.close()
    assert not server.requests


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "urllib3", None)
    with pytest.raises(MissingExtraError, match=re.escape(install_command("fetch"))):
        Fetcher("https://example.org")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "models.example.org",
        "ftp://example.org",
        "https://",
        "file:///tmp",
        "http://a:b@example.org",
        "https://example.org/?q=1",
        "http://[::1",
    ],
)
def test_strange_addresses_are_refused(url: str) -> None:
    with pytest.raises(ZooError, match=r"expected (an|the) address"):
        Fetcher(url)


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 17}, {"tries": 0}, {"timeout_s": 0}])
def test_strange_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ZooError, match="expected"):
        Fetcher("https://example.org", **options)  # type: ignore[arg-type]


def failing(real: Callable[..., object], code: int, after: int) -> Callable[..., object]:
    """The same function, which fails from its `after`-th call on."""
    calls = itertools.count()

    def call(*arguments: object, **named: object) -> object:
        if next(calls) >= after:
            raise OSError(code, os.strerror(code))
        return real(*arguments, **named)

    return call


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fills_up_while_blobs_are_adopted(
    server: FaultyServer, store: Store, monkeypatch: pytest.MonkeyPatch, code: int, step: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, step, failing(getattr(os, step), code, 5))
        with pytest.raises(StoreFullError, match=r"expected room in .*free some space"):
            fetch(server, store, all_blobs(server), workers=1)
    assert len(store.missing(all_blobs(server))) == 16
    assert not store.verify()
    fetch(server, store, all_blobs(server))
    assert not store.missing(all_blobs(server))


FILL_UP = """
import resource, sys
from zoo.errors import StoreFullError
from zoo.client.fetch import Fetcher
from zoo.store.store import Store
url, folder, limit, name, size = sys.argv[1:]
store = Store.open(folder)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
try:
    Fetcher(url).fetch({name: int(size)}, store)
except StoreFullError as error:
    print(error)
    sys.exit(5)
"""


def test_a_disk_that_fills_up_while_bytes_arrive(server: FaultyServer, store: Store) -> None:
    for limit in range(0, len(BIG), 100_000):
        command = [
            sys.executable,
            "-c",
            FILL_UP,
            server.url,
            str(store.folder),
            str(limit),
            NAME,
            str(len(BIG)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert (done.returncode, "expected room" in done.stdout) == (5, True), done.stderr
        assert not store.has(NAME)
        assert partials(store)[NAME] <= limit
    fetched = fetch(server, store)
    assert fetched.resumed_bytes > 0
    assert store.has(NAME)


LARGE = """
import sys
from pathlib import Path
from zoo.client.fetch import Fetcher
from zoo.store.store import Store
def most():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
url, folder, *blobs = sys.argv[1:]
store, fetcher, before = Store.open(folder), Fetcher(url), most()
fetcher.fetch({name: 25 * 2**20 for name in blobs}, store)
print(most() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to measure memory")
def test_memory_stays_small_however_large_the_blobs_are(store: Store, tmp_path: Path) -> None:
    blobs = offer(tmp_path / "large", [noise(2**20, seed=i) * 25 for i in range(3)])
    with serve(tmp_path / "large") as server:
        command = [sys.executable, "-c", LARGE, server.url, str(store.folder), *blobs]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert int(done.stdout) < 10 * 2**20
    assert not store.missing(blobs)
