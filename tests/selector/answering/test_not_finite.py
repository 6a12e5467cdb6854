"""Claims about numbers that are none: no answer is made from NaN or infinity, and none is certified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from selector import Selector
from selector.answering.engine import Engine
from selector.bundle.bundle import Bundle
from selector.policies.input import InputPolicy
from selector.policies.staged import StagedPolicy
from tests.support.changed_models import change_models
from tests.support.colours import KINDS, Kind
from tests.support.small_models import COLOURS, build_onnx, plain_image
from zoo.errors import ModelError, NotFiniteError
from zoo.models.card import ModelCard
from zoo.models.model import Model, all_finite

if TYPE_CHECKING:
    from tests.support.world import World

BLUE, RED = plain_image("blue"), plain_image("red")


def spoil(folder: Path, operator: str) -> Bundle:
    """Let all models of a bundle fail on blue, as if it had been certified with them."""
    return change_models(folder, lambda *_: build_onnx(spoiled=operator), classes=COLOURS)


@pytest.mark.parametrize("operator", ["Sqrt", "Log", "Reciprocal"])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_that_are_not_finite_are_no_answer(
    world: World, tmp_path: Path, kind: Kind, operator: str
) -> None:
    spoil(world.copy_bundle(kind, tmp_path / "b"), operator)
    selector = Selector.load(tmp_path / "b", watch=False)
    assert selector.predict(RED).certified
    for precision in (None, 0.9999):  # the policy, and the fallback alone
        with pytest.raises(ModelError, match=r"expected finite logits, got NaN .* 1 of 1 images"):
            selector.predict(BLUE, precision)
        with pytest.raises(NotFiniteError, match=r"image 2: model .* expected finite logits"):
            selector.predict_batch([RED[:7], RED, BLUE, RED, BLUE], precision)
        with pytest.raises(NotFiniteError, match="image 1: model"):
            selector.predict_batch(np.stack([RED, BLUE]), precision)
    if not isinstance(selector.policy, InputPolicy):
        with pytest.raises(ModelError, match="Replace or remove the model"):
            selector.select(BLUE)


def test_scores_that_are_not_finite_choose_nothing(world: World) -> None:
    selector = Selector.load(world.bundles["learned"], watch=False)
    engine, policy = selector._engine, selector.policy
    assert isinstance(engine, Engine)
    assert isinstance(policy, StagedPolicy)
    logits = np.full((1, 1, 3), np.nan, np.float32)
    features = engine.features(RED[np.newaxis]) if policy.features else None
    with pytest.raises(ModelError, match="expected finite scores"):
        engine.judge(policy.states[0], logits, features)


def test_large_logits_are_finite() -> None:
    assert all_finite(np.full((2, 3), 3e38, np.float32))
    assert not all_finite(np.array([[1, np.nan]], np.float32))
    assert not all_finite(np.array([[0, -np.inf]], np.float32))


def test_a_model_says_for_how_many_images_it_has_no_answer() -> None:
    card = ModelCard(
        name="odd", file="models/odd.onnx", sha256="0" * 64, size_bytes=1, classes=COLOURS,
        task="classification", resolution=(8, 8), parameters=1, macs=1,
    )  # fmt: skip
    model = Model(card, build_onnx(spoiled="Sqrt"))
    assert np.isfinite(model.logits(RED[np.newaxis])).all()
    with pytest.raises(ModelError, match=r"2 of 3 images \[8, 8, 3\]"):
        model.logits(np.stack([BLUE, RED, BLUE]))
