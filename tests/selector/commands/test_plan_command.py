"""Claims about the command plan: it says what moves, how long it takes and what is worth it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.command_line import CommandLine
from tests.support.small_releases import publish
from tests.support.small_store import Shelf

if TYPE_CHECKING:
    from tests.support.world import World


@pytest.fixture
def shelf(world: World, tmp_path: Path) -> Shelf:
    """A store with the tiny model of the cascade."""
    shelf = Shelf(world.bundles["cascade"], tmp_path / "store")
    shelf.install("tiny")
    return shelf


@pytest.fixture
def repo(shelf: Shelf, tmp_path: Path) -> Path:
    """A publisher of the cascade and its three models."""
    root = tmp_path / "published"
    bundle = shelf.bundle_release()
    releases = [shelf.model_release(name) for name in bundle.models]
    publish(
        root,
        {f"models/{one.name}.json": one for one in releases} | {f"bundles/{bundle.name}.json": bundle},
    )
    path = root / bundle.record.path
    path.parent.mkdir(parents=True)
    path.write_bytes((shelf.folder / "bundle.json").read_bytes())
    shelf.install("tiny")
    return root


def test_a_new_device_is_told_all_that_moves(zooselect: CommandLine, repo: Path) -> None:
    done = zooselect("plan", "-", "--repo", repo, "--rate", 0.01, "--deadline", 1)
    lines = done.out.splitlines()
    assert lines[0].split() == ["wanted", "kind", "version", "MB", "missing", "MB"]
    assert {line.split()[0] for line in lines[2:6]} == {"full", "small", "tiny", "colours"}
    assert "To fetch: " in done.out
    assert "too late for 1 s" in done.out
    assert "Within 1 s: at least " in done.out
    assert "in 60 s" in done.out
    assert "Worth" not in done.out


def test_a_device_with_a_store_fetches_the_rest(zooselect: CommandLine, shelf: Shelf, repo: Path) -> None:
    everything = zooselect("plan", "-", "--repo", repo, "--json").json()
    facts = zooselect("plan", shelf.store.folder, "--repo", repo, "--json").json()
    items = {item["name"]: item for item in facts["plan"]["items"]}
    assert [name for name, item in items.items() if item["installed"]] == ["tiny", "colours"]
    held = items["tiny"]["size_bytes"] + items["colours"]["size_bytes"]
    assert facts["plan"]["missing_bytes"] == everything["plan"]["missing_bytes"] - held
    assert len(facts["rates"]) == 3
    assert facts["worth"] is None
    one = zooselect("plan", shelf.store.folder, "--repo", repo, "--model", "small", "--json").json()
    assert [item["name"] for item in one["plan"]["items"]] == ["small"]
    assert one["plan"]["missing_bytes"] == items["small"]["size_bytes"]


def test_within_a_budget_it_names_what_goes_and_what_is_worth_it(
    zooselect: CommandLine,
    shelf: Shelf,
    repo: Path,
) -> None:
    enough = zooselect("plan", shelf.store.folder, "--repo", repo, "--budget", 1, "--json").json()
    assert enough["worth"]["models"] == ["small", "tiny"]  # the cascade that the bundle's constraint needs
    assert enough["worth"]["exact"]
    assert enough["worth"]["gain"] > 1
    done = zooselect("plan", shelf.store.folder, "--repo", repo, "--budget", 0.001)
    assert "It does not fit: " in done.out
    assert "Worth their bytes: nothing for no bundle" in done.out
    shelf.install("tiny", "full")
    sizes = {item["name"]: item["size_bytes"] for item in enough["plan"]["items"]}
    room = sum(sizes.values()) - sizes["full"]
    done = zooselect("plan", shelf.store.folder, "--repo", repo, "--model", "small", "--budget", room / 1e6)
    assert "To evict: full, which frees" in done.out


def test_it_says_what_is_wrong(zooselect: CommandLine, repo: Path, tmp_path: Path) -> None:
    done = zooselect("plan", tmp_path / "nowhere", "--repo", repo, code=1)
    assert "expected the store of a device" in done.err
    assert not (tmp_path / "nowhere").exists()
    assert "expected the folder of a publisher" in zooselect("plan", "-", "--repo", tmp_path, code=1).err
    assert (
        "Published: full, small, tiny" in zooselect("plan", "-", "--repo", repo, "--model", "x", code=1).err
    )
    assert "such as 1,5,10" in zooselect("plan", "-", "--repo", repo, "--deadlines", "soon", code=1).err
