"""Claims about comparing ours with a peer: at equal time, at every level, with honest errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.selection.compare import (
    at_equal_time,
    error,
    gains,
    naive_error,
    speedups,
    strongest,
    verdicts,
)
from benchmarks.selection.mixes import Point, point_of, reaching
from benchmarks.selection.repeated import OFFSETS, Repetition
from benchmarks.selection.report import print_verdicts
from training.policies.frontier import Simulated


def points(*pairs: tuple[float, float]) -> tuple[Point, ...]:
    """Points of mean milliseconds and accuracy."""
    return tuple(Point(accuracy, mean_ms, mean_ms) for mean_ms, accuracy in pairs)


OURS = points((1.0, 0.80), (2.0, 0.84), (4.0, 0.86))


def repetition(seed: int = 0, *, ours: Sequence[Point] = OURS, **peers: Sequence[Point | None]) -> Repetition:
    """A repetition with three levels; what was aimed at the delivered model was reached in half its time."""
    return Repetition(
        seed=seed,
        reference=Point(0.85, 5.0, 5.0),
        named=Point(0.85, 5.0, 5.0),
        levels=(0.80, 0.84, 0.86),
        ours=tuple(ours),
        expected_ms=tuple(point.mean_ms for point in ours),
        settings=tuple(ours),
        at_reference=points(*((2.5, 0.85 + offset) for offset in OFFSETS)),
        certified=(),
        peers={name: tuple(found) for name, found in peers.items()},
        frontiers={},
        kinds=("cascade",) * 3,
        seconds={},
    )


def moved(by: Sequence[float]) -> tuple[Point, ...]:
    return tuple(replace(point, accuracy=point.accuracy + more) for point, more in zip(OURS, by, strict=True))


def test_between_two_settings_accuracy_is_that_of_mixing_them() -> None:
    assert at_equal_time(OURS, 1.5) == pytest.approx(0.82)
    assert at_equal_time(OURS, 3.0) == pytest.approx(0.85)


def test_outside_of_our_settings_nothing_is_gained() -> None:
    assert at_equal_time(OURS, 0.1) == 0.80
    assert at_equal_time(OURS[::-1], 99.0) == 0.86


def setting(costs: Sequence[float], right: int) -> Simulated:
    """Ten samples, of which so many are right."""
    return Simulated(0.0, np.zeros(10, np.intp), np.arange(10) < right, np.resize(np.array(costs), 10))


def test_a_peer_reaches_a_level_with_a_mix_chosen_in_development_and_judged_on_test() -> None:
    known = [setting([1.0], 5), setting([2.0], 5), setting([3.0], 9)]  # the second is beaten by a mix
    tested = [setting([1.0], 4), setting([1.0], 10), setting([3.0], 8)]
    half = reaching(0.7, known, tested)
    assert half is not None
    assert (half.accuracy, half.mean_ms, half.p95_ms) == pytest.approx((0.6, 2.0, 3.0))
    assert reaching(0.1, known, tested) == point_of(tested[0])
    assert reaching(0.9, known, tested) == point_of(tested[2])
    assert reaching(0.91, known, tested) is None
    expected = reaching(0.7, known, tested, [0.5, 1.0, 0.7])
    assert expected is not None
    assert expected.accuracy == pytest.approx(0.6)


def test_a_mix_has_the_p95_of_all_that_it_may_take() -> None:
    known = [setting([1.0], 5), setting([4.0], 10)]
    rare = reaching(0.51, known, known)
    often = reaching(0.6, known, known)
    assert rare is not None
    assert often is not None
    assert (rare.p95_ms, often.p95_ms) == (1.0, 4.0)


def test_a_peer_that_does_the_same_is_neither_ahead_nor_behind() -> None:
    (found,) = verdicts([repetition(seed, same=OURS) for seed in range(3)])
    assert (found.peer, found.levels, found.worst, found.mean) == ("same", 3, 0.0, 0.0)
    assert found.not_behind
    assert not found.ahead


def test_we_are_ahead_of_a_peer_that_is_worse() -> None:
    noise = [(-0.02, -0.03, -0.02), (-0.03, -0.02, -0.02), (-0.02, -0.02, -0.03)]
    (found,) = verdicts([repetition(seed, worse=moved(by)) for seed, by in enumerate(noise)])
    assert found.mean == pytest.approx(0.07 / 3)
    assert found.not_behind
    assert found.ahead


def test_the_error_allows_for_samples_that_splits_share() -> None:
    values = np.array([0.01, 0.02, 0.04, 0.03])
    assert naive_error(values) == pytest.approx(values.std(ddof=1) / 2)
    assert error(values) == pytest.approx(values.std(ddof=1) * np.sqrt(1 / 4 + 0.25 / 0.5))
    assert np.isnan(error(values[:1]))


def test_one_level_at_which_a_peer_is_better_is_enough_to_be_behind() -> None:
    (found,) = verdicts([repetition(seed, peer=moved((-0.05, 0.01, -0.05))) for seed in range(3)])
    assert found.worst == pytest.approx(-0.01)
    assert found.ahead
    assert not found.not_behind
    assert found.behind == 1


def test_the_strongest_peer_is_the_most_accurate_at_our_times_wherever_it_can_be_compared() -> None:
    cheap = (OURS[0], None, None)  # level with ours at one level, but it has nothing for the others
    judged = verdicts(
        [repetition(weak=moved((-0.1,) * 3), near=moved((-0.01,) * 3), cheap=cheap) for _ in range(3)]
    )
    found = strongest(judged)
    assert found is not None
    assert found.peer == "near"
    assert min(judged, key=lambda item: item.mean).peer == "cheap"
    assert found.strength == pytest.approx((0.80 + 0.83 + 0.85) / 3)
    assert strongest(verdicts([repetition(none=(None,) * 3)])) is None


def test_a_peer_is_judged_only_at_levels_that_it_mostly_reaches() -> None:
    rows = [
        repetition(0, peer=(None, OURS[1], OURS[2])),
        repetition(1, peer=(None, OURS[1], None)),
        repetition(2, peer=(OURS[0], OURS[1], OURS[2])),
    ]
    assert [found.levels for found in verdicts(rows)] == [2]
    assert verdicts([repetition(peer=(None,) * 3)])[0].levels == 0


def test_nobody_is_compared_with_the_oracle() -> None:
    assert [found.peer for found in verdicts([repetition(oracle=OURS, single=OURS)])] == ["single"]


def test_speedups_are_those_over_the_delivered_model() -> None:
    rows = speedups([repetition(seed) for seed in range(3)])
    assert [row[0] for row in rows] == list(OFFSETS)
    assert [row[1] for row in rows] == pytest.approx(OFFSETS)
    assert {row[3:] for row in rows} == {(2.0, 0.0)}


def test_a_peer_that_reaches_no_level_is_said_to(capsys: pytest.CaptureFixture[str]) -> None:
    judged = verdicts([repetition(weak=[None] * 3, strong=OURS) for _ in range(2)])
    print_verdicts(judged)
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert lines["weak"].endswith("reaches none of them in most splits")
    assert lines["strong"].endswith("no")
    assert "nan" not in lines["weak"]


def test_gains_count_only_what_keeps_within_the_time() -> None:
    quick = repetition(ours=points((1.0, 0.80), (3.0, 0.88), (3.1, 0.99)))
    assert gains([quick, quick]) == pytest.approx([0.03, 0.03])
    assert not len(gains([repetition(ours=points((4.0, 0.9)))]))


def test_what_keeps_within_the_time_is_chosen_without_test_figures() -> None:
    quick = repetition(ours=points((1.0, 0.80), (3.0, 0.88), (3.1, 0.99)))
    lucky = replace(quick, ours=points((1.0, 0.80), (3.0, 0.88), (2.0, 0.99)))
    assert gains([lucky]) == pytest.approx([0.03])
