"""Claims about timelines: what happened to a device is added up as it was."""

from __future__ import annotations

import msgspec
import pytest

from training.evaluation.timeline import (
    NOT_REACHED,
    Answer,
    Mark,
    Phase,
    Timeline,
    changes,
    late_answers,
    moving_mean,
    phase_of,
    spans,
    timeline_table,
)


def answer(right: bool, bundle: str, moved: int = 0, *models: str) -> Answer:
    return Answer(
        right=right, certified=right, model="net", bundle=bundle, latency_ms=1.0,
        bytes_moved=moved, stored_bytes=10, installed=models or ("net",),
    )  # fmt: skip


def dark(*marks: Mark) -> Phase:
    """Ten inputs in the dark after ten others: two wrong answers, then the specialist's."""
    answers = [answer(False, "birds", 5)] * 2 + [answer(True, "birds.dark", 70)] * 8
    return phase_of(
        "dark", "birds.dark", 10, answers, [True] * 9 + [False], marks, moved_before=5
    )  # fmt: skip


def test_a_phase_is_cut_where_the_specialist_began_to_answer() -> None:
    phase = dark(Mark(at=11, kind="alarm", text="light"), Mark(at=12, kind="evict", text="old, older"))
    assert (phase.alarm, phase.switched, phase.evicted) == (1, 2, ("old", "older"))
    assert (phase.before, phase.after, phase.own) == (0.0, 1.0, 7 / 8)
    assert (phase.bytes_moved, phase.certified) == (65, 0.8)
    assert (phase.late, phase.own_late) == (None, None), "it has no inputs so late"


def test_what_happened_in_another_phase_does_not_count() -> None:
    phase = dark(Mark(at=9, kind="alarm", text="x"), Mark(at=20, kind="evict", text="y"))
    assert (phase.alarm, phase.evicted) == (None, ())


def test_without_a_specialist_all_inputs_are_from_before() -> None:
    answers = [answer(i % 2 == 0, "birds") for i in range(400)]
    phase = phase_of("fog", None, 0, answers, [None] * 400, (), moved_before=0)
    assert (phase.switched, phase.before, phase.after, phase.own) == (None, 0.5, None, None)
    assert phase.late == 0.5


def test_the_table_has_a_line_for_every_phase_and_dashes_for_what_is_not_known() -> None:
    timeline = Timeline(
        title="t", control="device", budget_bytes=100, inputs_per_s=1.0, precision=0.9,
        phases=(dark(),), marks=(), answers=(), own=(), longest_ms=1.0, reported={}, seconds=1.0,
    )  # fmt: skip
    lines = timeline_table(timeline).splitlines()
    assert len(lines) == 3
    shown = " ".join(lines[2].split())
    assert shown == "dark – 2 0.000 0.0 % 100.0 % 87.5 % – – 80.0 % –"


def test_a_moving_mean_begins_with_what_there_is() -> None:
    assert moving_mean([1, 0, 1, 1], 2) == pytest.approx([1.0, 0.5, 0.5, 1.0])
    assert moving_mean([], 3) == []


def test_models_that_come_again_have_two_stretches() -> None:
    assert spans([("a",), ("a", "b"), ("b",), ("a",)]) == {"a": [(0, 2), (3, 4)], "b": [(1, 3)]}


def test_over_a_network_it_is_told_who_answered_what_was_sent_and_what_came_late() -> None:
    answers = [
        msgspec.structs.replace(
            answer(True, "birds"), asked=i < 3, sent_bytes=900 * min(i + 1, 3), latency_ms=100.0 * (i + 1),
            certified=i < 4, reason=None if i < 4 else NOT_REACHED,
        )
        for i in range(6)
    ]  # fmt: skip
    phase = phase_of("clear", "birds", 0, answers, [True] * 6, (), moved_before=0, network="4g")
    assert (phase.network, phase.asked, phase.sent_bytes) == ("4g", 0.5, 2700)
    assert (phase.not_reached, phase.slowest_ms) == (pytest.approx(1 / 3), 600.0)
    timeline = Timeline(
        title="t", control="device", budget_bytes=1000, inputs_per_s=1.0, precision=0.9, phases=(phase,),
        marks=(), answers=tuple(answers), own=(True,) * 6, longest_ms=600.0, reported={}, seconds=1.0,
        deadline_ms=500.0,
    )  # fmt: skip
    assert late_answers(timeline) == 1
    head, _, row = timeline_table(timeline).splitlines()
    assert "not reached" in head
    assert row.split()[:3] == ["clear", "4g", "–"]
    assert "2.7" in row.split()


def test_a_specialist_that_comes_on_the_next_network_came_in_its_environment() -> None:
    def phase(environment: str, first: int, switched: int | None) -> Phase:
        return msgspec.structs.replace(dark(), environment=environment, first=first, switched=switched)

    phases = [phase("clear", 0, 0), phase("dark", 10, None), phase("dark", 20, 3), phase("dark", 30, 0)]
    later = [*phases, phase("clear", 40, None)]
    assert [inputs for _, inputs in changes(later)] == [13, None]
    assert changes(phases[:1]) == []
