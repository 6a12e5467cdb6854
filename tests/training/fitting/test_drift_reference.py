"""The drift reference: bins that are fair whatever the values, a graph that computes what was counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selector.drift.monitor import Monitor
from tests.support.world import World
from training.data.splits import CERTIFY, FIT, TUNE
from training.features.image.features import WATCHED
from training.fitting.drift_bins import bin_edges, drift_feature
from training.fitting.drift_reference import ALPHA, drift_fit
from zoo.models.session import open_session


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60))
def test_any_values_give_bins_that_hold_them_all(values: list[float]) -> None:
    known = np.array(values, np.float32)
    feature = drift_feature("light", known, known)
    assert sum(feature.counts) == len(values)
    assert len(feature.counts) == len(feature.edges) + 1 <= 64


def test_bins_are_narrower_in_the_tails() -> None:
    values = np.random.default_rng(0).normal(size=10_000)
    counts = drift_feature("light", values, values).counts
    assert len(counts) == 25
    assert counts[0] == counts[-1] == 0
    assert max(counts[1], counts[-3]) <= 30
    assert max(counts[4:-5]) <= 650


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_rounding_moves_no_shared_value_into_another_bin(share: float) -> None:
    rng = np.random.default_rng(0)
    known = np.where(rng.random(5000) < share, 0.25, rng.normal(size=5000)).astype(np.float32)
    edges = np.array(bin_edges(known), np.float32)
    for error in (-1e-5, 1e-5):
        assert np.searchsorted(edges, 0.25 + error) == np.searchsorted(edges, 0.25)


@pytest.mark.parametrize("step", [1.0, 1 / 255, 1e-3, 1e-4, 5e-5])
@pytest.mark.parametrize("shift", [0.0, 0.25, 40.0])
def test_coarse_values_keep_their_bins_whatever_their_last_bits(step: float, shift: float) -> None:
    rng = np.random.default_rng(0)
    for levels in (1, 2, 7, 300):
        known = (shift + step * rng.integers(0, levels, 3000)).astype(np.float32)
        edges = np.array(bin_edges(known), np.float32)
        bins = np.searchsorted(edges, known, side="right")
        for towards in (-np.inf, np.inf):
            other = np.nextafter(known, np.float32(towards))
            np.testing.assert_array_equal(np.searchsorted(edges, other, side="right"), bins)


def test_levels_that_are_clearly_apart_have_bins_of_their_own_and_so_has_what_is_between() -> None:
    few = np.repeat(np.arange(5, dtype=np.float32), 100)
    assert drift_feature("light", few, few).counts == (0, *[100, 0] * 5)


def test_the_graph_computes_what_was_counted(world: World) -> None:
    outcomes = world.outcomes.split(FIT, TUNE, CERTIFY)
    fitted = drift_fit(outcomes, grid=32)
    assert fitted is not None
    assert fitted.reference.names == WATCHED
    assert fitted.reference.alpha == ALPHA
    held = outcomes.split(CERTIFY)
    index = {name: i for i, name in enumerate(world.data.ids)}
    images = np.stack([world.data.image(index[name]) for name in held.ids.tolist()])
    values = open_session(fitted.graph, name="drift").run(["features"], {"image": images})[0]
    np.testing.assert_allclose(values, held.feature_columns(WATCHED), atol=1e-4)
    for i, feature in enumerate(fitted.reference.features):
        bins = np.searchsorted(np.array(feature.edges, np.float32), values[:, i], side="right")
        counts = np.bincount(bins, minlength=len(feature.counts))
        assert np.abs(counts - feature.counts).sum() <= 0.02 * len(held)


def test_edges_come_from_other_samples_than_counts(world: World) -> None:
    outcomes = world.outcomes.split(FIT, TUNE, CERTIFY)
    brighter = outcomes.features + (outcomes.splits == CERTIFY)[:, np.newaxis].astype(np.float32)
    one = drift_fit(outcomes, grid=32)
    other = drift_fit(replace(outcomes, features=brighter), grid=32)
    assert one is not None
    assert other is not None
    pairs = list(zip(one.reference.features, other.reference.features, strict=True))
    assert all(a.edges == b.edges for a, b in pairs)
    assert any(a.counts != b.counts for a, b in pairs)


def test_every_model_has_a_confidence(world: World) -> None:
    fitted = drift_fit(world.outcomes.split(FIT, TUNE, CERTIFY), grid=32)
    assert fitted is not None
    assert set(fitted.reference.confidence) == set(world.zoo.names)


def test_an_old_profile_watches_what_it_has_or_nothing(world: World) -> None:
    outcomes = world.outcomes.split(FIT, TUNE, CERTIFY)
    some = replace(outcomes, features=outcomes.feature_columns(["luma_std"]), feature_names=("luma_std",))
    fitted = drift_fit(some, grid=32)
    assert fitted is not None
    assert fitted.reference.names == ("luma_std",)
    none = replace(outcomes, features=outcomes.feature_columns(["entropy"]), feature_names=("entropy",))
    assert drift_fit(none, grid=32) is None


def test_real_features_raise_no_more_false_alarms_than_promised(world: World) -> None:
    outcomes = world.outcomes.environment("clear")
    alarms = 0
    for seed in range(40):
        order = np.random.default_rng(seed).permutation(len(outcomes))
        parts = np.split(order, [200, 400])
        splits = np.empty(len(outcomes), "<U8")
        for part, name in zip(parts, (FIT, CERTIFY, "test"), strict=True):
            splits[part] = name
        fitted = drift_fit(replace(outcomes, splits=splits), grid=32, alpha=0.1)
        assert fitted is not None
        monitor = Monitor(fitted.reference, seed)
        stream = outcomes.rows(parts[2]).feature_columns(fitted.reference.names)
        alarms += [monitor.update(values) for values in stream][-1]
    assert alarms <= 4
