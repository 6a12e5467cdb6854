"""Claims about processes of our own: fresh, told where to import from, and ended for certain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import zoo.process
from tests.support.small_processes import alive, until_gone
from zoo.child import limit
from zoo.process import Process

SUPPORT = "tests.support.small_processes"


def test_it_answers_what_it_is_told_and_nothing_that_it_prints() -> None:
    ended = Process(f"{SUPPORT}:echo").ask(b"x" * 2**20, timeout_s=60)
    assert (ended.status, ended.said) == (0, b"x" * 2**20)
    assert ended.words == "printed"


def test_it_imports_from_where_this_process_does_and_not_from_where_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('mine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ended = Process(f"{SUPPORT}:where", folder=tmp_path).ask(b"", timeout_s=60)
    assert ended.status == 0
    folder, first, *others = ended.said.decode().splitlines()
    assert folder == str(tmp_path)
    assert first == str(Path(zoo.process.__file__).parents[1])
    assert str(tmp_path) not in others
    assert all(Path(entry).is_absolute() for entry in others)


def test_it_answers_line_by_line() -> None:
    process = Process(f"{SUPPORT}:lines")
    for line in (b"one\n", b"two\n"):
        process.tell(line)
        assert process.read_line(100) == line
    assert process.end(patience_s=60).status == 0


def test_one_that_does_not_end_is_killed() -> None:
    process = Process(f"{SUPPORT}:sleep")
    with pytest.raises(TimeoutError, match=r"no answer within 0\.1 seconds"):
        process.ask(b"", timeout_s=0.1)
    assert not alive(process.pid)
    assert Process(f"{SUPPORT}:sleep").end().how == "SIGKILL"


def test_those_that_it_started_end_with_the_leader_of_a_group() -> None:
    process = Process(f"{SUPPORT}:start_another", own_group=True)
    other = int(process.read_line(100))
    assert alive(other)
    process.end()
    until_gone(other)


def test_its_words_are_kept_as_far_as_they_are_the_last() -> None:
    ended = Process(f"{SUPPORT}:talk").ask(b"", timeout_s=60)
    assert ended.status == 3
    assert ended.words.endswith("the end")
    assert len(ended.words) <= zoo.process.MAX_STDERR_BYTES


def test_a_function_that_is_not_there_is_told_in_its_words() -> None:
    ended = Process(f"{SUPPORT}:nothing").ask(b"", timeout_s=60)
    assert ended.status == 1
    assert "AttributeError" in ended.words


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_it_ends_soon_after_its_parent_was_killed() -> None:
    code = f"from zoo.process import Process; print(Process({SUPPORT + ':sleep'!r}).pid, flush=True); input()"
    path = os.pathsep.join(filter(None, sys.path))
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    until_gone(child)


def test_a_platform_without_limits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert limit(2**30, 10) is False
