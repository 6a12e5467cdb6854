"""Claims about Platt scaling: raw confidence becomes a probability that holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from selector.policies.cascade import right_probability
from tests.support.world import World
from training.outcomes.outcomes import load_outcomes
from training.policies.cascade import fit_platt


def test_stages_are_calibrated(world: World) -> None:
    development = load_outcomes(world.profile, splits=("fit", "tune"))
    for name in development.models:
        stage = fit_platt(development, name)
        column = development.models.index(name)
        predicted = right_probability(stage, development.log_odds[:, column])
        assert predicted.mean() == pytest.approx(development.right[:, column].mean(), abs=0.01)
        assert stage.scale > 0
        assert stage.model == name


def test_a_model_that_is_always_right_is_nearly_sure_whatever_it_says(world: World) -> None:
    development = load_outcomes(world.profile, splits=("fit", "tune"))
    always = replace(development, labels=development.predicted[:, 0].astype(np.int64))
    stage = fit_platt(always, "tiny")
    assert stage.scale == 0
    assert right_probability(stage, np.zeros(1))[0] == pytest.approx(1 - 1 / (len(always) + 2))
