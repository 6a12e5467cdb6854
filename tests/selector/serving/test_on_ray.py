"""The same server on Ray Serve: what it needs. What runs there is in tests/test_ray.py."""

from __future__ import annotations

import pytest

from selector.bundle.bundle import read_bundle
from selector.serving.on_ray import packed
from tests.support.colours import StoredWorld
from tests.support.command_line import CommandLine
from zoo import Zoo


def test_what_goes_to_the_nodes_is_all_that_serving_needs(small_zoo: Zoo, world: StoredWorld) -> None:
    assert set(packed(small_zoo.folder)) == {"zoo.json", *(card.file for card in small_zoo.cards)}
    bundle = read_bundle(world.bundles["cascade"])
    assert {"bundle.json", *(card.file for card in bundle.models)} <= set(packed(world.bundles["cascade"]))


def test_without_ray_the_command_says_what_to_install(small_zoo: Zoo, zooselect: CommandLine) -> None:
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError:
        found = zooselect("zoo", "serve", small_zoo.folder, "--ray", "local", code=1)
        assert "[ray,serve]" in found.err
    else:
        pytest.skip("Ray is installed")
