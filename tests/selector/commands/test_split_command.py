"""Claims about plan --split: the best place over conditions, in a table and in words."""

from __future__ import annotations

import msgspec
import pytest

from tests.support.command_line import CommandLine
from tests.support.made_cuts import made_cuts
from zoo.models.cuts import save_cuts
from zoo.models.zoo import Zoo


@pytest.fixture
def split(zooselect: CommandLine, small_zoo: Zoo) -> CommandLine:
    save_cuts(made_cuts("full", small_zoo.card("full").sha256), small_zoo.folder)
    return zooselect


def test_every_combination_has_a_row(split: CommandLine, small_zoo: Zoo) -> None:
    command = ("plan", "--split", "full", "--zoo", small_zoo.folder, "--rtt", "5", "--slower", "1,8")
    lines = split(*command, "--rate", "0.01,1,1000").out.splitlines()
    rows = [line.split() for line in lines[2:8]]
    assert [(row[0], row[2]) for row in rows[:4]] == [
        *[(rate, "1x") for rate in ("0.01", "1", "1000")],
        ("0.01", "8x"),
    ]
    assert lines[6].endswith("cut 3 (late)")
    assert lines[7].endswith("all there")
    assert "A cut pays in 1 of 6 cases." in lines
    assert any("5 ms, a cut pays above" in line for line in lines)
    ways = split(*command, "--rate", "10", "--json").json()
    assert [entry["conditions"] for entry in ways] == [
        {"rate_mbps": 10.0, "rtt_ms": 5.0, "slower": slower} for slower in (1.0, 8.0)
    ]
    totals = [way["total_ms"] for way in ways[1]["ways"]]
    assert totals == sorted(totals)
    assert len(totals) == 7


def test_it_says_in_words_when_no_cut_pays(split: CommandLine, small_zoo: Zoo) -> None:
    command = ("plan", "--split", "full", "--zoo", small_zoo.folder)
    done = split(*command, "--rate", "1000", "--rtt", "100")
    assert "No cut pays here." in done.out
    assert "as fast as the measured one, at a round trip of 100 ms, no rate makes a cut pay" in done.out
    stays = split(*command, "--rate", "1000", "--rtt", "1", "--slower", "8", "--raw-stays").out
    assert "The image stays on the device" in stays
    assert "cut 2 (early)" in stays


def test_cuts_of_a_model_without_places_are_none(split: CommandLine, small_zoo: Zoo) -> None:
    table = made_cuts("tiny", small_zoo.card("tiny").sha256)
    save_cuts(msgspec.structs.replace(table, cuts=()), small_zoo.folder)
    done = split("plan", "--split", "tiny", "--zoo", small_zoo.folder, "--rate", "1")
    assert "tiny can be cut nowhere" in done.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--rate", "0"), "a rate above 0 Mbit/s, got 0"),
        (("--rate", "1", "--rtt", "-1"), "a round trip of 0 ms or more"),
        (("--rate", "1", "--slower", "0"), "positive number of times slower"),
        (("--rate", "fast"), "--rate: expected numbers such as 1,10,100, got 'fast'"),
        ((), "expected --rate, got none"),
        (("--rate", "1", "--repo", "x", "--budget", "1"), "not with --split: --budget, --repo"),
    ],
)
def test_bad_conditions_are_told(
    split: CommandLine, small_zoo: Zoo, options: tuple[str, ...], words: str
) -> None:
    assert words in split("plan", "--split", "full", "--zoo", small_zoo.folder, *options, code=1).err


def test_what_was_not_measured_is_told(split: CommandLine, small_zoo: Zoo) -> None:
    command = ("plan", "--zoo", small_zoo.folder, "--rate", "1", "--split")
    assert "zooselect zoo cut small --data IMAGES" in split(*command, "small", code=1).err
    assert "no model 'none'" in split(*command, "none", code=1).err
    assert "only with --split: --rtt" in split("plan", "-", "--repo", "x", "--rtt", "1", code=1).err
    assert "expected STORE, got none, or --split NAME" in split("plan", code=1).err
