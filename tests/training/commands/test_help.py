"""Claims about the command line as a whole: it teaches, it is light, it ends as programs should."""

from __future__ import annotations

import pytest

from selector import cli
from tests.support.command_line import CommandLine
from tests.support.world import World

COMMANDS = [
    (),
    ("zoo",),
    *(("zoo", name) for name in ("train", "add", "compress", "list")),
    *((name,) for name in ("demo", "profile", "bench", "fit", "evaluate", "export", "select", "predict")),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_teaches(zooselect: CommandLine, command: tuple[str, ...]) -> None:
    text = " ".join(zooselect(*command, "--help").out.replace("│", " ").split())
    assert "Usage: zooselect" in text
    assert len(text) > 250 or command == ("zoo",)
    assert any(
        word in text for word in ("Example", "See it work", "about two minutes", "one folder", "Judge")
    )


def test_commands_are_listed_in_the_order_of_their_use(zooselect: CommandLine) -> None:
    text = zooselect("--help").out
    for first, second in zip(("profile", "fit", "evaluate"), ("fit", "evaluate", "export"), strict=True):
        assert text.index(f"│ {first} ") < text.index(f"│ {second} ")


def test_says_its_version(zooselect: CommandLine) -> None:
    assert zooselect("--version").out.startswith("zooselect ")


def test_wrong_usage_is_code_2(zooselect: CommandLine) -> None:
    assert "No such command" in zooselect("fly", code=2).err
    assert "--precision" in zooselect("predict", "b", "i", "--precision", "high", code=2).err
    assert "Missing argument" in zooselect("predict", code=2).err


def test_a_second_command_of_a_process_adds_no_commands(zooselect: CommandLine) -> None:
    zooselect("bench", "nowhere", code=1)
    before = len(cli.app.registered_commands), len(cli.app.registered_groups)
    zooselect("bench", "nowhere", code=1)
    assert (len(cli.app.registered_commands), len(cli.app.registered_groups)) == before


def test_an_interrupted_command_says_that_it_continues(
    zooselect: CommandLine, monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("selector.answering.selector.Selector.load", interrupt)
    done = zooselect("predict", world.bundles["input"], "x.png", code=130)
    assert "interrupted; finished work is kept, the same command continues" in done.err
