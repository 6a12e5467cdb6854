"""Claims about the latency table of a fit: given, in a file, or by its name in the profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.world import World
from training.fitting.costs import costs_table
from training.fitting.fit import fit
from zoo.errors import LatencyError
from zoo.models.latency import save_table


@pytest.fixture
def profile(world: World, tmp_path: Path) -> Path:
    for name in ("desk", "kitchen"):
        save_table(world.table, tmp_path / "latency" / f"{name}.json")
    return tmp_path


def test_a_table_its_file_and_its_name_are_the_same(world: World, profile: Path) -> None:
    assert costs_table(profile, world.table) is world.table
    assert costs_table(profile, profile / "latency" / "desk.json") == world.table
    assert costs_table(profile, None, "kitchen") == world.table


def test_an_unknown_name_names_the_known_ones(world: World, profile: Path) -> None:
    with pytest.raises(LatencyError, match=r"got 'attic'; there are: desk, kitchen\. Name one"):
        costs_table(profile, None, "attic")
    with pytest.raises(LatencyError, match="there are: none"):
        fit(world.profile, world.zoo, costs_of="attic")


def test_neither_and_both_are_told(world: World, profile: Path) -> None:
    with pytest.raises(LatencyError, match="got neither"):
        fit(world.profile, world.zoo, precision=0.9)
    with pytest.raises(LatencyError, match="got both"):
        costs_table(profile, world.table, "desk")
