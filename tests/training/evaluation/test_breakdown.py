"""Claims about where answers are wrong: counted on the answers themselves, worst first, in bounded length."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest

from selector.policies.constraint import Constraint
from tests.support.colours import KINDS, Kind
from tests.support.evaluations import PLAIN, rendered, visible
from tests.support.world import World
from training.evaluation.breakdown import MAX_CONFUSIONS, MAX_MATRIX_CLASSES, breakdown
from training.evaluation.evaluate import evaluate
from training.evaluation.records import Breakdown

LABELS = np.array([0, 0, 0, 1, 1, 2])
OURS = np.array([0, 1, 1, 1, 0, 2])
SINGLE = np.array([0, 0, 1, 1, 1, 0])


def broken(classes: tuple[str, ...] = ("cat", "dog", "owl")) -> Breakdown:
    places = np.array(["in", "out", "in", "out", "in", "in"])
    return breakdown(
        classes, LABELS, places, ours=(OURS, OURS == LABELS), single=(SINGLE, SINGLE == LABELS), name="full"
    )


def test_pairs_are_counted_with_shares_of_the_true_class() -> None:
    rows = [(one.truth, one.answered, one.count, one.single_count) for one in broken().confusions]
    assert rows == [("cat", "dog", 2, 1), ("dog", "cat", 1, 0), ("owl", "cat", 0, 1)]
    assert broken().confusions[0].share == pytest.approx(2 / 3)
    assert broken().matrix == [[1, 2, 0], [1, 1, 0], [0, 0, 1]]


def test_classes_and_environments_come_worst_first_with_intervals() -> None:
    found = broken()
    assert [(one.name, one.inputs) for one in found.classes] == [("cat", 3), ("dog", 2), ("owl", 1)]
    assert [one.name for one in found.environments] == ["in", "out"]
    for one in (*found.classes, *found.environments):
        assert one.accuracy_low <= one.accuracy <= one.accuracy_high
        assert one.single_low <= one.single <= one.single_high


def test_an_answer_that_counts_as_right_is_no_confusion() -> None:
    all_right = np.ones(len(LABELS), dtype=bool)
    places = np.full(len(LABELS), "in")
    found = breakdown(
        ("cat", "dog", "owl"), LABELS, places, ours=(OURS, all_right), single=(OURS, all_right), name="full"
    )
    assert list(found.confusions) == []


def test_many_classes_have_no_matrix_and_no_endless_list() -> None:
    rng = np.random.default_rng(0)
    labels, answers = rng.integers(0, 100, 3000), rng.integers(0, 100, 3000)
    both = (answers, answers == labels)
    names = tuple(f"class {i}" for i in range(100))
    found = breakdown(names, labels, np.full(3000, "in"), ours=both, single=both, name="full")
    assert (found.names, found.matrix) == ((), ())
    assert len(found.confusions) == MAX_CONFUSIONS
    assert len(found.classes) == 100 > MAX_MATRIX_CLASSES


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [0.9, 0.999])
def test_the_matrix_holds_what_the_selector_answers(world: World, kind: Kind, level: float) -> None:
    found = evaluate(world.fits[kind], world.profile, asked=Constraint(kind="precision", level=level))
    assert found.breakdown is not None
    assert found.ours is not None
    counts = np.array(found.breakdown.matrix)
    assert counts.trace() / counts.sum() == pytest.approx(found.ours.accuracy)
    assert {one.name for one in found.breakdown.environments} == {"clear", "dark", "noise"}
    assert sum(one.inputs for one in found.breakdown.classes) == counts.sum()
    assert found.breakdown.single == "full"


def test_programs_have_all_of_it(world: World) -> None:
    found = evaluate(world.fits["probe"], world.profile)
    read = msgspec.json.decode(msgspec.json.encode(found))
    assert found.breakdown is not None
    assert read["breakdown"]["matrix"] == found.breakdown.matrix
    assert {"as_good", "busy", "finding"} <= set(read)


def test_the_page_folds_long_lists_and_escapes_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels, answers = rng.integers(0, 12, 400), rng.integers(0, 12, 400)
    both = (answers, answers == labels)
    names = tuple(f"<b>{i}</b> & co" for i in range(12))
    shown = breakdown(names, labels, np.full(400, "<i>in</i>"), ours=both, single=both, name="full")
    page = rendered(dataclasses.replace(PLAIN, breakdown=shown), tmp_path)
    assert "<b>3</b>" not in page
    text = visible(page)
    assert "<b>3</b> & co" in text
    assert "2 more classes" in text
    assert f"{len(shown.confusions) - 10} more pairs" in text
