"""Claims about the plot of a timeline: every model has a bar, every phase a name, wide and narrow."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from training.evaluation.timeline import Answer, Mark, Timeline, phase_of
from training.reports.timeline_page import render_timeline
from training.reports.timeline_plot import timeline_plot


def made() -> Timeline:
    answers = [
        Answer(
            right=i % 3 > 0, certified=i < 60, model="net", bundle="birds" if i < 70 else "birds.dark",
            latency_ms=0.5 + i % 5, bytes_moved=i * 10, stored_bytes=500,
            installed=("net",) if i < 70 else ("net", "net-dark"),
        )
        for i in range(120)
    ]  # fmt: skip
    marks = (
        Mark(at=60, kind="change", text="dark"),
        Mark(at=65, kind="alarm", text="light"),
        Mark(at=70, kind="switch", text="birds.dark"),
    )
    phases = (
        phase_of("clear", "birds", 0, answers[:60], [True] * 60, marks, moved_before=0),
        phase_of("fog", None, 60, answers[60:], [None] * 60, marks, moved_before=590),
    )
    return Timeline(
        title="t", control="device", budget_bytes=1000, inputs_per_s=1.0, precision=0.9, phases=phases,
        marks=marks, answers=tuple(answers), own=(*[True] * 60, *[None] * 60), longest_ms=4.5,
        reported={}, seconds=1.0,
    )  # fmt: skip


@pytest.mark.parametrize("narrow", [False, True])
def test_it_names_phases_and_models(narrow: bool) -> None:
    svg = timeline_plot(made(), narrow=narrow)
    for word in ("clear", "fog", "net-dark", "accuracy", "inputs"):
        assert word in svg
    assert svg.startswith("<svg")


def over_networks() -> Timeline:
    """The same with a server that is there in the first half."""
    whole = made()
    answers = [
        msgspec.structs.replace(
            one, asked=i < 30, sent_bytes=min(i, 30) * 700, reason=None if i < 60 else "server not reached"
        )
        for i, one in enumerate(whole.answers)
    ]
    phases = tuple(
        msgspec.structs.replace(one, network=name)
        for one, name in zip(whole.phases, ("wifi", "none"), strict=True)
    )
    marks = (
        *whole.marks,
        Mark(at=60, kind="network", text="none"),
        Mark(at=90, kind="server", text="killed"),
    )
    return msgspec.structs.replace(
        whole, answers=tuple(answers), phases=phases, marks=marks, deadline_ms=500.0
    )


def test_over_networks_it_shows_who_answered_and_what_was_sent(tmp_path: Path) -> None:
    timeline = over_networks()
    svg = timeline_plot(timeline, narrow=True)
    for word in ("wifi", "none", "server", "not reached", "kB sent"):
        assert word in svg
    render_timeline(timeline, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    for words in ("clear, wifi", "deadline of 500 ms", "25 %", "killed"):
        assert words in page
    assert msgspec.json.decode(msgspec.json.encode(timeline), type=Timeline) == timeline


def test_it_is_the_same_for_the_same_timeline() -> None:
    assert timeline_plot(made()) == timeline_plot(made())
