"""Claims about single models that are as good: paired on the same inputs, in no more time, said first."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from selector.policies.constraint import Constraint
from tests.support.evaluations import PLAIN, rendered, visible
from tests.support.world import World
from training.evaluation.evaluate import evaluate
from training.evaluation.single_model import paired_interval, single_as_good
from training.reports.method_table import table
from training.reports.page import verdict


def right(count: int, of: int = 1000) -> NDArray[np.bool_]:
    return np.arange(of) < count


def test_the_interval_is_that_of_the_differing_inputs() -> None:
    one, other = right(600), right(600)
    other[:53] = False
    one[600:616] = True  # 69 inputs differ, as in the data of Agresti and Min's kind
    low, high = paired_interval(one, other)
    expected = 69 / 1002
    assert (low + high) / 2 == pytest.approx(expected)
    assert (high - low) / 2 == pytest.approx(1.959964 * np.sqrt(70 - 69**2 / 1002) / 1002, rel=1e-5)
    assert paired_interval(other, one) == pytest.approx((-high, -low))


@pytest.mark.parametrize("differ", [0.02, 0.2])
def test_the_interval_holds_the_difference_as_often_as_it_says(differ: float) -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        draw = rng.random(300)
        one, other = draw < differ / 2 + 0.01, (draw > 0.5) & (draw < 0.5 + differ / 2)
        low, high = paired_interval(one, other)
        held += low <= 0.01 <= high
    assert held / 400 > 0.92


def test_a_model_is_as_good_if_it_may_be_as_accurate_and_is_no_slower() -> None:
    ours = (right(900), 1.0)
    assert single_as_good(ours, {"worse": (right(850), 0.5), "slower": (right(950), 1.1)}) is None
    found = single_as_good(ours, {"near": (right(898), 0.9), "better": (right(901), 1.0)})
    assert found is not None
    assert (found.name, found.difference) == ("better", pytest.approx(0.001))
    assert found.sentence.startswith("A single model, better, is as good: right on 90.1% of 1,000 inputs")
    assert "in 1 ms instead of 1" in found.sentence


def test_of_equal_models_the_faster_one_is_named() -> None:
    singles = {"slow": (right(9, 10), 0.9), "quick": (right(9, 10), 0.4)}
    found = single_as_good((right(9, 10), 1.0), singles)
    assert found is not None
    assert found.name == "quick"


def test_where_nothing_is_certified_the_reference_model_is_said_to_answer_alone(
    world: World, tmp_path: Path
) -> None:
    asked = Constraint(kind="precision", level=0.999)
    found = evaluate(world.fits["cascade"], world.profile, asked=asked)
    assert found.as_good is not None
    assert (found.as_good.name, found.as_good.difference, found.as_good.alone) == ("full", 0.0, True)
    assert found.finding == found.as_good.sentence
    assert table(found).startswith("One model, full, answers every input: right on ")
    assert "What was asked is not certified" in found.finding
    assert "full" not in [one.row.name for one in verdict(found)]
    text = visible(rendered(found, tmp_path))
    assert text.index("One model answers every input: full") < text.index("Accuracy and time")
    assert evaluate(world.fits["cascade"], world.profile).as_good is None


def test_a_selector_of_one_model_is_that_model_whatever_the_clock_says() -> None:
    ours = (right(900), 1.0)
    found = single_as_good(ours, {"small": (right(850), 0.5), "full": (right(900), 1.01)}, alone="full")
    assert found is not None
    assert found.alone
    sure = dataclasses.replace(found, certified=True).sentence
    assert sure.startswith("One model, full, answers every input: right on 90.0% of 1,000. It is certified")
    better = single_as_good(ours, {"other": (right(905), 0.9), "full": (right(900), 1.0)}, alone="full")
    assert better is not None
    assert (better.name, better.alone) == ("other", False)


@pytest.mark.parametrize("times_known", [True, False])
def test_the_first_card_says_so(tmp_path: Path, times_known: bool) -> None:
    one = single_as_good((right(900), 0.2), {"small": (right(899), 0.1)}, times_known=times_known)
    assert one is not None
    page = rendered(dataclasses.replace(PLAIN, as_good=one, finding=one.sentence), tmp_path)
    words = "A single model is as good" if times_known else "A single model seems to be as good"
    assert visible(page).index(f"{words}: small") < visible(page).index("6.0× faster")
    assert page.count('class="first"') == 1
