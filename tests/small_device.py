"""A device with a publisher of small models, and how tests wait for what happens in the background."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.network import SlowServer, serving
from selector.device import Device

if TYPE_CHECKING:  # small_publisher needs conftest, and conftest these fixtures
    from conftest import World
    from small_publisher import Publisher


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory, world: World) -> Publisher:
    """The task ``colours`` with all its models."""
    from small_publisher import colour_publisher

    folder = tmp_path_factory.mktemp("publisher")
    return colour_publisher(folder / "p", world.zoo, bundles={"colours": world.bundles["cascade"]})


@pytest.fixture
def server(publisher: Publisher) -> Iterator[SlowServer]:
    """A server of the publisher's files."""
    with serving(publisher.folder) as running:
        yield running


@pytest.fixture
def device(tmp_path: Path, publisher: Publisher, server: SlowServer) -> Iterator[Device]:
    """A device that was set up and holds nothing."""
    made = Device.set_up(tmp_path / "device", server.url, publisher.root)
    yield made
    made.close()


def until(claim: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something that happens in the background."""
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.002)
