"""Claims about the accuracy that profiling ends with: that of the outcomes, and a word where it is chance."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.colours import colour_zoo
from tests.support.small_models import add_colours, build_onnx
from tests.support.world import COLOUR_SPLITS, colour_images
from training.outcomes import profile as profiling
from training.outcomes.accuracy import profiled_accuracy
from training.outcomes.outcomes import load_outcomes
from training.outcomes.profile import profile


def test_accuracy_is_that_of_the_outcomes_without_the_test_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "PART_ROWS", 32)
    zoo = colour_zoo(tmp_path / "zoo")
    record = profile(zoo, colour_images(60), tmp_path / "p", splits=COLOUR_SPLITS, progress=False)
    found = profiled_accuracy(tmp_path / "p", record)
    outcomes = load_outcomes(tmp_path / "p", zoo=zoo)
    assert found is not None
    assert found.samples == len(outcomes)
    assert found.models == pytest.approx(outcomes.accuracy())
    assert list(found.models.values()) == sorted(found.models.values(), reverse=True)


def test_a_model_near_chance_is_named(tmp_path: Path) -> None:
    zoo = colour_zoo(tmp_path / "zoo")
    add_colours(zoo, "turned", build_onnx(channels=(1, 2, 0)))
    add_colours(zoo, "stuck", build_onnx(bias=(99, 0, 0)))
    record = profile(zoo, colour_images(60), tmp_path / "p", splits=COLOUR_SPLITS, progress=False)
    found = profiled_accuracy(tmp_path / "p", record)
    assert found is not None
    assert set(found.near_chance) == {"turned", "stuck"}
