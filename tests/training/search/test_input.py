"""Claims about input fits: with a scout, too, a device does what was simulated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import training.fitting.fit
import training.search.input_fit
from selector import Selector
from selector.policies.input import InputPolicy
from tests.support.colours import COSTS_MS
from tests.support.world import CANDIDATES, World, steady
from training.evaluation.evaluate import evaluate
from training.fitting.export import check_bundle, export_bundle
from training.fitting.fitted import Fitted, load_fit, save_fit
from training.outcomes.folds import grouped_folds
from training.outcomes.outcomes import load_outcomes, pixels_of
from training.outcomes.profile import held_out_images
from training.search.input_fit import fit_input, scout_log_odds
from training.search.tuning import Tuned, tune_and_score


def tune_scout_alone(
    features: NDArray[np.float32], names: Sequence[str], *others: Any, **named: Any
) -> tuple[Tuned, NDArray[np.float64] | None]:
    """Tuning that sees nothing but what a scout says."""
    columns = [i for i, name in enumerate(names) if name.startswith("scout_")]
    return tune_and_score(features[:, columns], [names[i] for i in columns], *others, **named)


@pytest.fixture(scope="module", params=["input", "probe"])
def scouted(world: World, request: pytest.FixtureRequest) -> Fitted:
    """A fit whose only features come from a scout."""
    with steady(CANDIDATES[request.param], scout=True) as patch:
        patch.setattr(training.search.input_fit, "tune_and_score", tune_scout_alone)
        patch.setattr("training.features.scout_network.MAX_EPOCHS", 4)
        return training.fitting.fit.fit(
            world.profile, world.zoo, world.table, precision=0.85, policy=request.param
        )


def test_a_device_scouts_as_was_simulated(world: World, scouted: Fitted, tmp_path: Path) -> None:
    graph = scouted.record.bundle.selector
    assert graph is not None
    assert {name.partition("_")[0] for name in graph.features} == {"scout"}
    export_bundle(scouted, world.zoo, tmp_path / "bundle")
    images = held_out_images(world.profile, world.data)
    assert check_bundle(tmp_path / "bundle", scouted, [images.image(i) for i in range(100)], world.zoo) == 100
    judged = evaluate(scouted, world.profile).ours
    assert judged is not None
    found = Selector.load(tmp_path / "bundle").predict_batch([images.image(i) for i in range(len(images))])
    right = [item.label == images.classes[label] for item, label in zip(found, images.labels, strict=True)]
    assert np.mean(right) == pytest.approx(judged.accuracy)
    assert judged.certified


def test_a_fit_with_a_scout_comes_back_with_it(world: World, scouted: Fitted, tmp_path: Path) -> None:
    save_fit(scouted, tmp_path)
    again = load_fit(tmp_path)
    assert again.record == scouted.record
    assert (again.scout, again.graph) == (scouted.scout, scouted.graph)
    one, other = (evaluate(item, world.profile).ours for item in (scouted, again))
    assert one == other


def test_a_scout_tells_compared_samples_what_it_did_not_learn_from_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.features.scout_network.MAX_EPOCHS", 2)
    outcomes = load_outcomes(world.profile, zoo=world.zoo)
    compared = outcomes.split("fit", "tune")
    log_odds, scout = scout_log_odds(outcomes, compared, lambda ids: pixels_of(world.profile, ids), seed=0)
    known = scout.log_odds(pixels_of(world.profile, outcomes.ids))
    held = outcomes.splits == "certify"
    np.testing.assert_allclose(log_odds[held], known[held], atol=1e-4)
    assert np.abs(log_odds[~held] - known[~held]).mean() > 1e-3


def test_folded_scores_are_those_of_estimators_that_did_not_see_the_sample(world: World) -> None:
    from dataclasses import replace

    development = world.outcomes.split("fit", "tune")
    folds = grouped_folds(development.groups)
    held = folds[0][1]
    labels = development.labels.copy()
    labels[held] = (labels[held] + 1) % 3
    turned = replace(development, labels=labels)
    with steady() as patch:
        patch.setattr(training.search.input_fit, "tune_and_score", lambda *_, **__: (FIXED, None))
        one, other = (
            fit_input(item, item, folds, COSTS_MS, world.zoo, world.table, grid=32, seed=0)
            for item in (development, turned)
        )
    np.testing.assert_array_equal(one.folded[held], other.folded[held])
    assert not np.array_equal(one.folded, other.folded)
    policy = one.policy(InputPolicy(order=one.order), COSTS_MS)
    assert policy.models == ("tiny", "small", "full")


FIXED = Tuned(("saturation", "luma_mean"), "logistic", (), {})
