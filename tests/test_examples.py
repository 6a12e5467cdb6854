"""Everything public has an example, and the examples in docstrings say what is true."""

from __future__ import annotations

import doctest
import importlib
import inspect
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, is_typeddict

import numpy as np
import pytest
from PIL import Image

from selector import Selector, read_bundle
from selector.policies.constraint import Constraint
from tests.support.colours import colour_zoo, latency_table
from tests.support.fresh_interpreter import ROOT
from tests.support.small_models import COLOURS, build_onnx, plain_image

if TYPE_CHECKING:
    from tests.support.world import World

sys.path.insert(0, str(ROOT / "docs"))
from generators.api import PARTS, expand

ON_DEVICE = "A device that follows a publisher"
IN_TRAINING = "From labelled images to a bundle"
OF_ROUTERS = ("Models that the application runs", "From a table of outcomes to a router")


def names_of(part: str) -> list[str]:
    """Names of what stands on the page of the Python interface under one heading."""
    return [name for entry in PARTS[part] for name in (expand(entry) if entry.endswith("*") else [entry])]


def with_parts(target: Any) -> tuple[Any, ...]:
    """The thing itself, and of a class those of ours that it inherits public methods from."""
    if not inspect.isclass(target):
        return (target,)
    return tuple(one for one in target.__mro__ if one is target or one.__name__ in ("Answers", "Space"))


def methods_without_example() -> Iterator[str]:
    for part in PARTS:
        for name in names_of(part):
            module, _, last = name.rpartition(".")
            for target in with_parts(getattr(importlib.import_module(module), last)):
                for key, value in vars(target).items() if inspect.isclass(target) else ():
                    method = getattr(value, "__func__", value)
                    if (
                        not key.startswith("_")
                        and inspect.isfunction(method)
                        and ">>>" not in (method.__doc__ or "")
                    ):
                        yield f"{last}.{key}"


def run(name: str, given: dict[str, Any]) -> None:
    """Run the examples of one function, or of a class and its methods; there must be one of its own."""
    module, _, last = name.rpartition(".")
    target = getattr(importlib.import_module(module), last)
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for one in with_parts(target) for test in finder.find(one, one.__name__, globs={})]
    assert any(test.name == last and test.examples for test in found) or is_typeddict(target), name
    told: list[str] = []
    for test in found:
        test.globs = dict(given)
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=told.append)
    assert not told, "".join(told)


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that examples stand in; each example has a copy."""
    made = tmp_path_factory.mktemp("examples")
    for colour in COLOURS:
        (made / "photos" / colour).mkdir(parents=True)
        for name in ("1.png", "2.png"):
            Image.fromarray(plain_image(colour, size=(12, 12))).save(made / "photos" / colour / name)
    shutil.copytree(world.watched["cascade"], made / "my-bundle")
    shutil.copytree(world.bundles["input"], made / "input-bundle")
    for name in ("my-zoo", "other-zoo"):
        colour_zoo(made / name)
    return made


@pytest.fixture
def given(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What examples of answers and zoos find, in the folder that they stand in."""
    from zoo import Zoo

    here = tmp_path / "here"
    shutil.copytree(folder, here)
    monkeypatch.chdir(here)
    return {
        "np": np,
        "image": plain_image("red", size=(12, 12)),
        "content": build_onnx(),
        "Selector": Selector,
        "selector": Selector.load("my-bundle"),
        "bundle": read_bundle("my-bundle"),
        "zoo": Zoo.open("my-zoo"),
        "Zoo": Zoo,
        "Constraint": Constraint,
        "table": latency_table(Zoo.open("my-zoo")),
    }


@pytest.fixture(scope="module")
def served(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, bytes, Path]]:
    """Address and root of a publisher of the colours, and a device that has installed them."""
    pytest.importorskip("onnx")
    pytest.importorskip("tuf")
    from benchmarks.distribution.network import serving
    from selector.device.device import Device
    from tests.support.small_publisher import colour_publisher

    made = tmp_path_factory.mktemp("published")
    publisher = colour_publisher(made / "p", world.zoo, bundles={"colours": world.bundles["cascade"]})
    with serving(publisher.folder) as server:
        with Device.set_up(made / "device", server.url, publisher.root) as device:
            device.install("colours")
        yield server.url, publisher.root, made / "device"


@pytest.fixture
def on_device(given: dict[str, Any], served: tuple[str, bytes, Path]) -> Iterator[dict[str, Any]]:
    """What examples of devices find beside that."""
    from selector.device.device import Device
    from zoo.client.client import Client

    url, root, installed = served
    shutil.copytree(installed, "my-device")
    with Device.open("my-device") as device, Client(device.store, url) as client:
        more = {"device": device, "client": client, "store": device.store, "url": url, "root": root}
        yield given | more | {"Device": Device, "Store": type(device.store)}


@pytest.fixture
def in_training(given: dict[str, Any], world: World) -> Iterator[dict[str, Any]]:
    """What examples of fitting find beside answers; fits are steady, so that they take no second."""
    pytest.importorskip("torch")
    from tests.support.world import CANDIDATES, steady
    from training.data.splits import Splits

    shutil.copytree(world.profile, "my-profile")
    more = {"data": world.data.subset(np.arange(300)), "fitted": world.fits["cascade"], "Splits": Splits}
    with steady(CANDIDATES["cascade"]):
        yield given | more | {"zoo": world.zoo}


@pytest.mark.parametrize("name", [*names_of("Answers from a bundle"), *names_of("A zoo and its models")])
def test_examples_of_answers_and_zoos_are_true(given: dict[str, Any], name: str) -> None:
    run(name, given)


@pytest.fixture(scope="module")
def routed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of outcomes, its profile, a fit and the router."""
    pytest.importorskip("sklearn")
    pytest.importorskip("pyarrow")
    from tests.support.small_router import routed

    return routed(tmp_path_factory.mktemp("routed")).parent


@pytest.mark.parametrize("name", [name for part in OF_ROUTERS for name in names_of(part)])
def test_examples_of_routers_are_true(
    routed_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from selector import Router
    from selector.routing.constraint import RouteConstraint
    from selector.routing.step import Said

    shutil.copytree(routed_folder, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    router = Router.load("my-router")
    given = {"np": np, "router": router, "Router": Router, "Said": Said}
    run(name, given | {"RouteConstraint": RouteConstraint})


@pytest.mark.parametrize("name", names_of(ON_DEVICE))
def test_examples_of_devices_are_true(on_device: dict[str, Any], name: str) -> None:
    run(name, on_device)


@pytest.mark.parametrize("name", names_of(IN_TRAINING))
def test_examples_of_fitting_are_true(in_training: dict[str, Any], name: str) -> None:
    run(name, in_training)


def test_every_public_method_has_an_example() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("tuf")
    assert list(methods_without_example()) == []
