"""Claims about findings in words: they say what was found, also when it is unwelcome."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
from conftest import World

from training.evaluate import evaluate
from training.findings import explain_uncertified, facts, notes, subtitle
from training.fitted import Fitted


def with_best(fitted: Fitted, accuracy: float) -> Fitted:
    """The same fit, had cross-validation seen another accuracy."""
    comparisons = tuple(
        msgspec.structs.replace(item, accuracy=accuracy) for item in fitted.record.comparisons
    )
    return dataclasses.replace(fitted, record=msgspec.structs.replace(fitted.record, comparisons=comparisons))


def test_an_uncertified_precision_is_explained_with_what_can_be_done(world: World) -> None:
    fitted = with_best(world.fits["cascade"], 0.97)
    text = explain_uncertified(fitted, 0.96)
    assert "Precision 0.96 cannot be certified with 256 certify samples" in text
    assert "the highest that can is 0.9" in text
    assert "The reference model full answers instead" in text
    assert "about " in text
    assert "certify samples would do" in text
    assert "a better model is needed" in explain_uncertified(fitted, 0.98)


def test_where_nothing_is_certified_that_is_said(world: World) -> None:
    fitted = world.fits["input"]
    bundle = msgspec.structs.replace(fitted.record.bundle, certificates=())
    empty = dataclasses.replace(fitted, record=msgspec.structs.replace(fitted.record, bundle=bundle))
    assert "no precision above 0.5 can" in explain_uncertified(empty, 0.9)


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_slower_than_a_single_model_is_not_hidden(world: World, factor: float) -> None:
    rows = [
        dataclasses.replace(row, mean_ms=row.mean_ms * factor) if row.kind == "ours" else row
        for row in evaluate(world.fits["cascade"], world.profile).rows
    ]
    text = " ".join(notes(world.fits["cascade"], rows, 0.9))
    assert ("is no faster than small" in text) == (factor > 1)
    assert ("of the time of small" in text) == (factor < 1)


def test_facts_name_policy_certificate_and_times(world: World) -> None:
    for kind, fitted in world.fits.items():
        found = dict(facts(fitted, 171, 0.9, wall_clock=False))
        assert found["Policy"].startswith(f"{kind}: tiny → small")
        assert found["Times"] == "added up from the latency table of bench-top"
        assert found["Certificate"].startswith("right with probability ≥ 0.9")
        assert ("Features + scores" in found) == (kind == "input")
        assert "device bench-top (1 thread), asked precision 0.9" in subtitle(fitted, 171, 0.9)
