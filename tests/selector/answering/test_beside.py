"""Claims about the thread beside the answers: it works in order, survives what goes wrong, and ends."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from selector.answering import beside as module
from tests.support.fresh_interpreter import ROOT

# At the end there is work at hand, and some that waits.
_ENDS = """
import time
from selector.answering import beside
beside.has_room = lambda: True
for word in ("first", "second"):
    assert beside.beside(lambda word=word: (time.sleep(0.05), print(word, flush=True)))
"""


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "has_room", lambda: True)
    monkeypatch.setattr(module, "_alone", None)
    return module.beside


def test_work_is_done_in_order_in_another_thread_whatever_is_raised(beside) -> None:  # type: ignore[no-untyped-def]
    done, ended = list[object](), threading.Event()

    def fails() -> None:
        done.append("fails")
        raise ValueError("lost")

    assert all(map(beside, (fails, lambda: done.append(threading.get_ident()), ended.set)))
    assert ended.wait(30)
    assert done[0] == "fails"
    assert done[1] != threading.get_ident()


def test_where_there_is_one_core_nothing_is_done_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_waiting", None)
    monkeypatch.setattr(module, "_alone", True)
    assert not module.beside(lambda: None)


def test_a_process_ends_once_its_work_is_done() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ENDS], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout.split(), done.stderr) == (["first", "second"], "")
