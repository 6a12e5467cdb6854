"""Claims about patience: what is slow or takes too long is ended, and gone on with later."""

from __future__ import annotations

import contextlib
import threading

import pytest

from tests.support import faulty_server as faults
from tests.support.faulty_server import Fault, FaultyServer
from tests.support.fetching import BIG, NAME, ONE, all_blobs, fetch, partials
from tests.support.fetching import server as server
from tests.support.fetching import store as store
from zoo.client.fetch import Fetcher
from zoo.errors import FetchError
from zoo.store.store import Store


@pytest.mark.parametrize(
    ("fault", "message"), [(faults.drip, "bytes a second"), (faults.drip_headers, "timed out")]
)
def test_a_slow_drip_is_not_waited_for(
    server: FaultyServer, store: Store, fault: Fault, message: str
) -> None:
    server.misbehave(fault)
    with pytest.raises(FetchError, match=message):
        fetch(server, store, timeout_s=0.2)
    assert len(server.requests) <= 2


def test_a_drip_that_ends_is_continued(server: FaultyServer, store: Store) -> None:
    server.misbehave(faults.drip, times=1)
    fetched = fetch(server, store, timeout_s=0.2)
    assert fetched.requests >= 2
    assert server.requests[1].start > 0


def test_a_deadline_holds_for_all_blobs_together(server: FaultyServer, store: Store) -> None:
    server.misbehave(faults.hang)
    with pytest.raises(FetchError, match=r"not all after 0\.3 seconds"):
        fetch(server, store, all_blobs(server), timeout_s=20, deadline_s=0.3)


def test_a_download_can_be_cancelled_and_continued(server: FaultyServer, store: Store) -> None:
    cancel = threading.Event()

    def stop_after_the_first_bytes(there: int, total: int) -> None:
        if there:
            cancel.set()

    server.misbehave(faults.hang_half_way, times=1)
    with contextlib.closing(Fetcher(server.url, timeout_s=20)) as fetcher:
        with pytest.raises(FetchError, match="cancelled"):
            fetcher.fetch(ONE, store, progress=stop_after_the_first_bytes, cancel=cancel)
        assert partials(store) == {NAME: len(BIG) // 2}
        assert fetcher.fetch(ONE, store).resumed_bytes == len(BIG) // 2


def test_an_interrupt_ends_all_transfers(server: FaultyServer, store: Store) -> None:
    def interrupt(there: int, total: int) -> None:
        raise KeyboardInterrupt

    server.misbehave(faults.hang)
    with contextlib.closing(Fetcher(server.url, timeout_s=20)) as fetcher, pytest.raises(KeyboardInterrupt):
        fetcher.fetch(all_blobs(server), store, progress=interrupt)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fetch")]
