"""Claims about what others do with a store while one fetches: they need not wait, and nothing is undone."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.faulty_server import FaultyServer, Handler, serve
from tests.support.small_publisher import Publisher, colour_publisher
from zoo.client.client import Client
from zoo.client.trust import Trust
from zoo.errors import StoreLockedError
from zoo.store.store import Store

if TYPE_CHECKING:
    from tests.support.world import World

PATIENCE_S = 60  # only a hang takes so long


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory, world: World) -> Publisher:
    """Models without a bundle."""
    return colour_publisher(tmp_path_factory.mktemp("publisher") / "p", world.zoo)


@pytest.fixture(scope="module")
def network(publisher: Publisher) -> Iterator[FaultyServer]:
    with serve(publisher.folder) as running:
        yield running


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, publisher: Publisher, network: FaultyServer) -> Path:
    """A store that holds ``tiny`` and ``small``."""
    folder = tmp_path_factory.mktemp("device")
    Trust.pin(folder / "tuf", publisher.root)
    with closing(Client(Store.open(folder), network.url)) as made:
        made.install(models=["tiny", "small"])
    return folder


@pytest.fixture
def client(tmp_path: Path, installed: Path, network: FaultyServer) -> Iterator[Client]:
    """Of a copy of it."""
    folder = shutil.copytree(installed, tmp_path / "copy", symlinks=True)
    with closing(Client(Store.open(folder), network.url, timeout_s=PATIENCE_S)) as made:
        yield made


@contextmanager
def stopped(network: FaultyServer, work: Callable[[], object], *, on: str) -> Iterator[None]:
    """Inside, `work` waits for the network, at the first request for a path with `on` in it."""
    asked, go, done = threading.Event(), threading.Event(), threading.Event()

    def hold(handler: Handler, content: bytes, start: int) -> None:
        asked.set()
        go.wait(PATIENCE_S)
        handler.give(content, start)

    def run() -> None:
        work()
        done.set()

    network.misbehave(hold, on=on, times=1)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert asked.wait(PATIENCE_S)
        yield
    finally:
        go.set()
        thread.join()
    assert done.is_set(), "it failed"


def held(client: Client) -> dict[str, bool]:
    """Model → whether it is pinned; all that is stored is needed, and the other way round."""
    installed = client.store.installed
    assert {path.name for path in client.store.blobs.iterdir()} == set(installed.blobs)
    assert client.store.used_bytes() == sum(installed.blobs.values())
    return {item.release.name: item.pinned for item in installed.models}


@pytest.mark.parametrize("on", ["timestamp.json", "blobs/"])
def test_models_are_removed_and_pinned_while_another_comes(
    client: Client, network: FaultyServer, on: str
) -> None:
    other = Client(Store.open(client.store.folder), network.url)
    with stopped(network, lambda: client.install(models=["full"]), on=on):
        assert other.remove(["tiny"]).removed == ("tiny",)
        other.pin(["small"])
        assert {item.release.name for item in other.store.installed.models} == {"small"}
        assert other.store.verify() == ()
    assert held(client) == {"small": True, "full": False}


def test_what_is_removed_while_its_update_comes_stays_away(
    client: Client, network: FaultyServer, publisher: Publisher
) -> None:
    publisher.change("tiny")
    publisher.publish()
    other = Client(Store.open(client.store.folder), network.url)
    with stopped(network, client.update, on="blobs/"):
        other.remove(["tiny"])
    assert held(client) == {"small": False}


def test_what_is_asked_for_comes_though_its_bytes_were_removed_meanwhile(
    client: Client, network: FaultyServer
) -> None:
    other = Client(Store.open(client.store.folder), network.url)
    with stopped(network, lambda: client.install(models=["tiny", "full"]), on="blobs/"):
        other.remove(["tiny"])
    assert held(client) == {"small": False, "tiny": False, "full": False}


def test_one_at_a_time_asks_the_publisher(client: Client, network: FaultyServer) -> None:
    other = Store.open(client.store.folder)
    with (
        stopped(network, client.refresh, on="timestamp.json"),
        pytest.raises(StoreLockedError, match="at work"),
        other.fetching(timeout_s=0.05),
    ):
        raise AssertionError
    with other.fetching(timeout_s=0):
        pass
