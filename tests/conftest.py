"""Fixtures. What makes models is imported when a test first asks for it; without it that test is skipped."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Before torch: on a busy machine, threads that wait for each other in small networks take minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from tests.support.colours import StoredWorld

if TYPE_CHECKING:
    from benchmarks.distribution.network import SlowServer
    from selector.device.device import Device
    from tests.support.one_files import OneFiles
    from tests.support.small_publisher import Publisher
    from tests.support.small_scenario import SmallScenario
    from tests.support.world import World
    from zoo.models.zoo import Zoo
    from zoo.publisher.keys import Keys

# The same examples in every run, however slow the machine; '--hypothesis-profile default' looks for others.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

pytest_plugins = ["tests.support.command_line", "tests.support.extras"]


@pytest.fixture(scope="session", autouse=True)
def peaks_are_measured_once() -> Iterator[None]:
    """Publishing measures each model in a process; the same one again takes what was measured."""
    if importlib.util.find_spec("onnx") is None:
        yield
        return
    from tests.support.small_repo import measured_once

    with measured_once():
        yield


@pytest.fixture(scope="session")
def tiny_onnx() -> Callable[..., bytes]:
    """The function :func:`tests.support.small_models.build_onnx`."""
    from tests.support.small_models import build_onnx

    return build_onnx


@pytest.fixture
def small_zoo(tmp_path: Path) -> Zoo:
    """Three real models of the classes red, green and blue: ``full`` is right, the others less so."""
    from tests.support.small_models import add_colours, build_onnx
    from zoo.models.zoo import Zoo

    zoo = Zoo.create(tmp_path / "zoo")
    add_colours(zoo, "tiny", build_onnx(bias=(9.0, 0.0, 0.0)))
    add_colours(zoo, "small", build_onnx(noise=0.6, seed=3, work=2))
    add_colours(zoo, "full", build_onnx(work=6))
    return zoo


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets and weights; tests that need it are skipped without it."""
    folder = os.environ.get("ZOOSELECT_DATA")
    if not folder:
        pytest.skip("set ZOOSELECT_DATA to the folder of the real data sets to run this test")
    if not Path(folder).is_dir():
        pytest.fail(f"ZOOSELECT_DATA should name a folder, got {folder}")
    return Path(folder)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World | StoredWorld:
    """The world of colours: zoo, images, profile, latency table, fits and bundles.

    Without the extra ``train`` it is what was stored of it, and a test that asks for a fit is skipped.
    """
    folder = tmp_path_factory.mktemp("world")
    if importlib.util.find_spec("torch") is None:
        return StoredWorld(folder)
    from tests.support.world import make_world

    return make_world(folder)


@pytest.fixture(scope="session")
def one_files(tmp_path_factory: pytest.TempPathFactory) -> OneFiles:
    """Selectors in one file, by kind of policy."""
    pytest.importorskip("onnx")
    from tests.support.one_files import OneFiles

    return OneFiles(tmp_path_factory.mktemp("one-files"))


@pytest.fixture(scope="session")
def small_scenario(tmp_path_factory: pytest.TempPathFactory) -> SmallScenario:
    """A task whose models are certified for 60 % in the light, with a variant for the dark."""
    pytest.importorskip("torch")
    from tests.support.small_scenario import make_scenario

    return make_scenario(tmp_path_factory.mktemp("scenario"))


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """New keys of a publisher."""
    pytest.importorskip("tuf")
    from zoo.publisher.keys import create_keys

    return create_keys(tmp_path / "keys")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Where to publish; nothing is there yet."""
    return tmp_path / "repo"


@pytest.fixture
def quick_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishing without a process for every model; how that measures has claims of its own."""
    import zoo.publisher.prepare
    from tests.support.small_repo import measure_here

    monkeypatch.setattr(zoo.publisher.prepare, "measure_peak", measure_here)


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory, world: World) -> Publisher:
    """The task ``colours`` with all its models."""
    pytest.importorskip("onnx")
    from tests.support.small_publisher import colour_publisher

    folder = tmp_path_factory.mktemp("publisher")
    return colour_publisher(folder / "p", world.zoo, bundles={"colours": world.bundles["cascade"]})


@pytest.fixture
def server(publisher: Publisher) -> Iterator[SlowServer]:
    """A server of the publisher's files."""
    from benchmarks.distribution.network import serving

    with serving(publisher.folder) as running:
        yield running


@pytest.fixture
def device(tmp_path: Path, publisher: Publisher, server: SlowServer) -> Iterator[Device]:
    """A device that was set up and holds nothing."""
    from selector.device.device import Device

    made = Device.set_up(tmp_path / "device", server.url, publisher.root)
    yield made
    made.close()
