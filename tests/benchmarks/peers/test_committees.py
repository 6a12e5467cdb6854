"""Claims about peers that answer as committees: calibrated as published, thresholds joint, votes counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from benchmarks.peers import PEERS, Peer
from benchmarks.peers.agreement import AgreementCascade, Tiers, arrangements
from benchmarks.peers.calibration import fit_calibration
from benchmarks.peers.committees import Committee, CommitteeCascade, JointSearch, Pooled, pool
from selector.policies.rules import softmax
from training.outcomes.outcomes import Outcomes

COSTS = {"tiny": 1.0, "small": 2.0, "full": 5.0}
COMMITTEES = ["committee-temperature", "committee-vector", "boosted-deferral", "agreement-cascade"]


def outcomes(logits: np.ndarray, labels: np.ndarray) -> Outcomes:
    """Outcomes of the three models from logits ``[n, 3, C]``."""
    count, _, classes = logits.shape
    names = np.array([f"{i}" for i in range(count)])
    return Outcomes(
        classes=tuple(f"c{i}" for i in range(classes)),
        models=tuple(COSTS),
        ids=names,
        labels=labels,
        environments=np.full(count, ""),
        groups=names,
        splits=np.full(count, "fit"),
        logits=logits.astype(np.float32),
        features=np.zeros((count, 1), np.float32),
        feature_names=("nothing",),
    )


def made(count: int = 400, seed: int = 0, *, noise: Sequence[float] = (2.0, 1.5, 1.0)) -> Outcomes:
    """Three models whose logits show the label under independent noise of so many standard deviations."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    shown = 3.0 * (np.arange(4) == labels[:, np.newaxis])[:, np.newaxis]
    return outcomes(shown + rng.normal(size=(count, 3, 4)) * np.array(noise)[:, np.newaxis], labels)


def fit(name: str, development: Outcomes) -> Peer:
    peer = PEERS[name]()
    peer.fit(development, COSTS, overhead_ms=0.25, decide_ms=0.01)
    return peer


def test_a_temperature_is_found_again() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(20_000, 5)) * 2
    labels = (true + rng.gumbel(size=true.shape)).argmax(axis=1)
    found = fit_calibration(true * 4, labels, biases=False)
    assert found.factor == pytest.approx(0.25, rel=0.05)
    np.testing.assert_array_equal(found.biases, 0)


def test_biases_are_found_again_and_make_shares_those_of_labels() -> None:
    rng = np.random.default_rng(1)
    true = rng.normal(size=(20_000, 4)) * 2
    labels = (true + rng.gumbel(size=true.shape)).argmax(axis=1)
    moved = np.array([1.5, 0.0, -1.0, 0.0])
    found = fit_calibration(true - moved, labels, biases=True)
    np.testing.assert_allclose(found.biases - found.biases.mean(), moved - moved.mean(), atol=0.1)
    expected = np.bincount(labels) / len(labels)
    np.testing.assert_allclose(found(true - moved).mean(axis=0), expected, atol=0.005)


def test_a_class_that_never_occurs_and_answers_that_are_always_right_stay_finite() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 50)
    logits = np.eye(3)[labels] * 5
    found = fit_calibration(logits, labels, biases=True)
    assert np.isfinite(found.factor)
    assert np.isfinite(found.biases).all()
    assert np.isfinite(found(logits)).all()


@pytest.mark.parametrize("name", COMMITTEES)
def test_where_no_other_model_is_better_the_cheapest_answers_alone(name: str) -> None:
    same = made(300, noise=(0.3, 1.5, 1.5))
    points = fit(name, same).frontier(same)
    assert max(point.mean_ms for point in points) <= 1.0 + 0.011


@pytest.mark.parametrize("name", COMMITTEES)
def test_a_committee_may_be_better_than_each_of_its_models(name: str) -> None:
    known, fresh = made(1200, noise=(1.8, 1.8, 1.8)), made(1200, 1, noise=(1.8, 1.8, 1.8))
    points = fit(name, known).frontier(fresh)
    assert points[-1].accuracy > max(fresh.accuracy().values()) + 0.02


@pytest.mark.parametrize("name", COMMITTEES)
def test_labels_of_what_is_answered_change_neither_stops_nor_answers(name: str) -> None:
    fresh = made(200, 1)
    shifted = [replace(fresh, labels=(fresh.labels + shift) % 4) for shift in range(4)]
    peer = fit(name, made())
    fronts = [peer.frontier(one) for one in shifted]
    for points in zip(*fronts, strict=True):
        np.testing.assert_array_equal(np.sum([point.right for point in points], axis=0), 1)
        assert len({point.mean_ms for point in points}) == 1


def searched(stages: tuple[int, ...]) -> tuple[JointSearch, dict[tuple[int, ...], Pooled], np.ndarray]:
    known = made(200)
    pools = pool(np.stack([softmax(known.logits[:, j]) for j in range(3)], axis=1), known, [stages])
    costs = np.array(list(COSTS.values()))
    return JointSearch.of(stages, pools, costs, np.arange(200) % 4), pools, costs


def test_combinations_of_thresholds_are_counted_as_they_run() -> None:
    found, pools, costs = searched((0, 1, 2))
    sizes = [len(cut) for cut in found.cuts]
    spent = np.cumsum(costs)
    for one, two in product((0, sizes[0] // 2, sizes[0] - 1), (1, sizes[1] // 3, sizes[1] - 1)):
        number = one * sizes[1] + two
        stops = found.committee(number).stops(pools)
        right = [pools[tuple(range(stop + 1))].right[i] for i, stop in enumerate(stops)]
        assert found.right[:, number].sum() == sum(right)
        assert found.spent[:, number].sum() == pytest.approx(spent[stops].sum())
        assert found.right[1, number] == sum(right[1::4])


def test_the_dearer_an_error_the_higher_the_threshold() -> None:
    found, _, _ = searched((0, 2))
    prices = np.geomspace(0.1, 1000, 30)
    _, whole, _ = found.choices(prices)
    thresholds = [found.committee(number).thresholds[0] for number in whole]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] < thresholds[-1]


def test_thresholds_of_a_committee_compare_the_mean_of_what_ran() -> None:
    pools = {
        (0,): Pooled(np.array([0.9, 0.5, 0.5]), np.array([True, False, False])),
        (0, 1): Pooled(np.array([0.1, 0.8, 0.6]), np.array([True, True, False])),
        (0, 1, 2): Pooled(np.array([0.1, 0.1, 0.1]), np.array([True, True, True])),
    }
    np.testing.assert_array_equal(Committee((0, 1, 2), (0.7, 0.7)).stops(pools), [0, 1, 2])


def test_biases_help_where_models_favour_a_class() -> None:
    favour = np.array([4.0, 0.0, 0.0, 0.0], np.float32)
    known, fresh = (replace(one, logits=one.logits + favour) for one in (made(), made(400, 1)))
    plain, vector = (fit(name, known).frontier(fresh)[-1] for name in COMMITTEES[:2])
    assert vector.accuracy > plain.accuracy + 0.05


def test_boosted_deferral_sees_the_predicted_class() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 1200)
    told = np.where(labels == 3, 2, labels)  # cheap models take the last class for the one before
    sure = rng.uniform(2, 4, (1200, 3, 1))
    logits = sure * np.eye(4)[np.stack([told, told, labels], axis=1)]
    logits[:, 2] *= 3
    known = outcomes(logits, labels)
    points = fit("boosted-deferral", known).frontier(known)
    enough = [point.mean_ms for point in points if point.accuracy == 1]
    assert min(enough) < 1 + 0.55 * COSTS["full"]  # half of the inputs are answered at once


def test_an_ensemble_answers_where_it_agrees() -> None:
    said = np.array([[0, 0, 1], [0, 1, 2], [1, 1, 1]])
    known = outcomes(5.0 * np.eye(4)[said], np.array([0, 2, 1]))
    peer = AgreementCascade()
    peer.fit(known, COSTS, overhead_ms=0.0)
    peer.settings = [
        Tiers(((0, 1), (2,)), 1.0, together=False),
        Tiers(((0, 1), (2,)), 1.0, together=True),
        Tiers(((0, 1, 2),), 1.0, together=False),
    ]
    alone, together, flat = peer.frontier(known)
    np.testing.assert_array_equal(alone.cost_ms, [3.0, 8.0, 3.0])
    np.testing.assert_array_equal(alone.right, [True, True, True])
    np.testing.assert_array_equal(together.cost_ms, alone.cost_ms)
    np.testing.assert_array_equal(flat.cost_ms, 8.0)
    assert flat.right[[0, 2]].all()


def test_no_tier_but_the_last_has_one_model_and_none_is_tried_twice() -> None:
    tried = list(arrangements([0, 1, 2, 3]))
    assert len(set(tried)) == len(tried)
    assert {len(tier) for setting in tried for tier in setting.tiers[:-1]} == {2, 3}
    assert Tiers(((0, 1), (2,)), 1.0, together=True) in tried


def test_levels_are_promised_by_samples_that_calibrations_were_not_fitted_on() -> None:
    noise = made(300, noise=(50.0, 50.0, 50.0))  # nothing can be learned here: one of four is right
    peer = fit("committee-vector", noise)
    assert isinstance(peer, CommitteeCascade)
    assert max(point.accuracy for point in peer.development_frontier()) < 0.36
