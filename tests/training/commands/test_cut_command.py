"""Claims about zoo cut: it lists places, measures them, and adds a model that answers as its parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.residual_net import SIDE, residual_net
from tests.support.small_models import COLOURS
from training.data.sources import load
from training.data.splits import TRAIN, Splits
from zoo.convert.count import add_counted
from zoo.models.cuts import load_cuts, load_parts, read_part
from zoo.models.zoo import Zoo


@pytest.fixture
def zoo(zooselect: CommandLine) -> Zoo:
    made = Zoo.open_or_create("my-zoo")
    add_counted(made, "net", residual_net(), COLOURS, (SIDE, SIDE))
    return made


def test_places_are_listed_without_images(zooselect: CommandLine, zoo: Zoo) -> None:
    lines = zooselect("zoo", "cut", "net").out.splitlines()
    assert lines[3].split() == ["2", "r1", "4x8x8", "1,024", "256", "59.9%"]
    assert len(lines) == 2 + 4 + 1
    assert len(zooselect("zoo", "cut", "net", "--every", "--json").json()) == 11
    assert not (zoo.folder / "cuts").exists()


def test_what_was_measured_is_what_plan_reads(zooselect: CommandLine, zoo: Zoo, pictures: Path) -> None:
    done = zooselect("zoo", "cut", "net", "--data", pictures)
    assert "as JPEG" in done.out
    assert "zooselect plan --split net" in done.out
    assert len(load_cuts(zoo.folder, zoo.card("net")).cuts) == 4
    assert "all here" in zooselect("plan", "--split", "net", "--rate", "1,10").out


def test_a_cut_model_is_profiled_on_other_images(zooselect: CommandLine, zoo: Zoo, pictures: Path) -> None:
    done = zooselect("zoo", "cut", "net", "--data", pictures, "--at", "r2", "--name", "net-split")
    assert "8-bit codes, one scale: the whole model's class for" in done.err
    assert str(zoo.folder / "cuts" / "net-split") in done.err
    card, data = Zoo.open("my-zoo").card("net-split"), load(str(pictures))
    assert load_parts(zoo.folder, card).tensor == "r2"
    (part,) = card.learned_from
    profiled = zooselect("profile", "--data", pictures, "--json").json()
    names = Splits(seed=part.seed, train=part.share).assign(data.groups)
    assert profiled["samples"] == int((names != TRAIN).sum()) < len(data)


def test_a_model_with_its_tail_on_a_server_is_added_on_request(
    zooselect: CommandLine, zoo: Zoo, pictures: Path
) -> None:
    command = ("zoo", "cut", "net", "--data", pictures, "--at", "2", "--remote", "https://models.example.org")
    done = zooselect(*command, "--served-as", "rest", "--json")
    assert "Serve its tail there as rest." in done.err
    found = done.json()
    assert (found["name"], found["remote"]["model"]) == ("net-cut2-remote", "rest")
    assert Zoo.open("my-zoo").names == ("net", "net-cut2", "net-cut2-remote")
    assert "net-cut2, its tail on https://models.example.org" in zooselect("zoo", "list").out
    assert "expected --at PLACE" in zooselect("zoo", "cut", "net", "--remote", "https://x.org", code=1).err


def test_cuts_and_parts_go_with_a_model_that_is_renamed_or_removed(
    zooselect: CommandLine, zoo: Zoo, pictures: Path
) -> None:
    zooselect("zoo", "cut", "net", "--data", pictures)
    zooselect("zoo", "cut", "net", "--data", pictures, "--at", "r2", "--name", "split")
    (zoo.folder / "cuts" / "mine.txt").write_text("of the user", encoding="utf-8")
    zooselect("zoo", "rename", "net", "large")
    zooselect("zoo", "rename", "split", "halves")
    renamed = Zoo.open(zoo.folder)
    assert load_cuts(zoo.folder, renamed.card("large")).model == "large"
    parts = load_parts(zoo.folder, renamed.card("halves"))
    assert (parts.model, parts.parent) == ("halves", "large")
    assert read_part(zoo.folder, parts, "head")
    assert sorted(path.name for path in (zoo.folder / "cuts").iterdir()) == [
        "halves",
        "large.json",
        "mine.txt",
    ]
    for name in ("halves", "large"):
        zooselect("zoo", "remove", name)
    assert [path.name for path in (zoo.folder / "cuts").iterdir()] == ["mine.txt"]


def test_bad_input_is_told_before_images_are_read(zooselect: CommandLine, zoo: Zoo) -> None:
    assert "expected --data IMAGES" in zooselect("zoo", "cut", "net", "--at", "2", code=1).err
    done = zooselect("zoo", "cut", "net", "--at", "c3", "--data", "nowhere", code=1)
    assert "beside which 'r2' crosses, too. Near: 1 (input/normalised), 2 (r1), 3 (r2), 4 (flat)" in done.err
    at = ("zoo", "cut", "net", "--at", "2", "--data", "nowhere")
    for wrong, said in (
        (["--remote", "file:///x"], "expected an address"),
        (["--remote", "http://models.example.org", "--token-env", "TOKEN"], "expected https for a token"),
        (["--served-as", "rest"], "expected --remote ADDRESS"),
    ):
        assert said in zooselect(*at, *wrong, code=1).err
    assert zoo.names == ("net",)
