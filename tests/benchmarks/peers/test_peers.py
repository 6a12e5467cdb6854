"""Claims about the peers: settings fixed in development, everything charged, methods as published."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from benchmarks.peers import PEERS, Peer, ceiling
from benchmarks.peers.algorithm_selectors import PairwiseRegression, SatzillaRidge, Sunny
from benchmarks.peers.cascades import (
    Chain,
    MaxSoftmaxCascade,
    Table,
    by_coordinates,
    candidates,
    every_threshold,
)
from benchmarks.peers.dynamic_ensembles import DynamicEnsemble
from benchmarks.peers.greedy import GreedyCascade
from benchmarks.peers.peer import error_prices
from benchmarks.peers.premodel import KnnPremodel, include_models, optimal, uncorrelated
from benchmarks.peers.singles import RandomMix
from training.outcomes.outcomes import Outcomes
from zoo.errors import DataError, MissingExtraError, ZooError
from zoo.extras import install_command

COSTS = {"tiny": 1.0, "small": 2.0, "full": 5.0}
OVERHEAD = 0.25
NEEDS = {"deslib": "deslib", "asf": "asf"}
REAL = [name for name in PEERS if name != "oracle"]


@pytest.fixture(scope="module", autouse=True)
def few_prices() -> Iterator[None]:
    """SATzilla is fitted anew for each price of an error, which takes long; fewer show as much."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SatzillaRidge, "prices", 4)
        yield


def made(count: int = 240, seed: int = 0, *, perfect: bool = False, copies: int = 1) -> Outcomes:
    """Outcomes of three models; the first feature says how hard a sample is, the third is constant.

    With `perfect` confidence, a model is surer of each right answer than of any wrong one. Samples are in
    groups of `copies`, whose features and outcomes are the same.
    """
    rng = np.random.default_rng(seed)
    originals = count // copies
    hard = rng.random(originals)
    chances = np.stack([1.05 - 0.7 * hard, 1.1 - 0.55 * hard, 1.1 - 0.4 * hard], axis=1)
    right = rng.random((originals, 3)) < chances
    labels = rng.integers(0, 4, originals)
    told = np.where(right, labels[:, None], (labels[:, None] + rng.integers(1, 4, (originals, 3))) % 4)
    sure = rng.uniform(0.1, 3.0, (originals, 3)) + right * (5.0 if perfect else 1.0)
    logits = rng.normal(0, 0.01, (originals, 3, 4))
    np.put_along_axis(logits, told[..., None], sure[..., None], axis=2)
    noise = rng.random((originals, 2))
    first = hard + 0.1 * noise[:, 0]
    features = np.stack([first, noise[:, 1], np.full(originals, 7.0), 3 * first + 1], axis=1)
    names = np.array([f"{i}" for i in range(originals)])
    return Outcomes(
        classes=("a", "b", "c", "d"),
        models=("full", "tiny", "small"),
        ids=np.array([f"{i}" for i in range(originals * copies)]),
        labels=labels.repeat(copies),
        environments=np.full(originals * copies, ""),
        groups=names.repeat(copies),
        splits=np.full(originals * copies, "fit"),
        logits=logits[:, [2, 0, 1]].repeat(copies, axis=0).astype(np.float32),
        features=features.repeat(copies, axis=0).astype(np.float32),
        feature_names=("hardness", "noise", "constant", "copy"),
    )


def fit(name: str, development: Outcomes, costs: dict[str, float] = COSTS) -> Peer:
    pytest.importorskip(NEEDS.get(name.partition("-")[0], "numpy"))
    peer = PEERS[name]()
    peer.fit(development, costs, overhead_ms=OVERHEAD)
    return peer


@cache
def development_of(name: str) -> Outcomes:
    """What a method is fitted to, once for all claims."""
    return made()


@cache
def fitted(name: str) -> Peer:
    return fit(name, development_of(name))


def table(outcomes: Outcomes) -> Table:
    aligned = outcomes.with_models(tuple(COSTS))
    return Table(aligned.log_odds, aligned.right, np.array(list(COSTS.values())))


@pytest.mark.parametrize("name", PEERS)
def test_settings_are_fixed_at_fit(name: str) -> None:
    peer, before = fitted(name), fitted(name).frontier(made(60, 1))
    other = peer.frontier(made(90, 2))
    after = peer.frontier(made(60, 1))
    assert [p.threshold for p in other] == [p.threshold for p in before]
    assert [p.threshold for p in peer.development_frontier()] == [p.threshold for p in before]
    for one, two in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.answered_by, two.answered_by)
        np.testing.assert_array_equal(one.right, two.right)
    assert {len(p.right) for p in peer.development_frontier()} == {240}


@pytest.mark.parametrize("name", REAL)
def test_choices_never_depend_on_the_labels_of_what_is_answered(name: str) -> None:
    test = made(60, 1)
    relabelled = replace(test, labels=(test.labels + 1) % 4)
    for one, two in zip(fitted(name).frontier(test), fitted(name).frontier(relabelled), strict=True):
        np.testing.assert_array_equal(one.answered_by, two.answered_by)
        np.testing.assert_array_equal(one.cost_ms, two.cost_ms)


@pytest.mark.parametrize("name", PEERS)
def test_development_outcomes_are_not_needed_after_fit(name: str) -> None:
    test, development = made(60, 1), development_of(name)
    before = fitted(name).frontier(test)
    lost = development.labels, development.features, development.logits
    kept = [values.copy() for values in lost]
    for values in lost:
        values[:] = 0
    for one, two in zip(before, fitted(name).frontier(test), strict=True):
        np.testing.assert_array_equal(one.right, two.right)
    for values, old in zip(lost, kept, strict=True):
        values[:] = old


@pytest.mark.parametrize("name", PEERS)
def test_answers_are_those_of_the_model_named_whatever_the_order(name: str) -> None:
    test = made(60, 1)
    turned = test.with_models(("small", "full", "tiny"))
    for one, two in zip(fitted(name).frontier(test), fitted(name).frontier(turned), strict=True):
        np.testing.assert_array_equal(one.right, two.right)
        chosen = one.answered_by >= 0
        rows = np.flatnonzero(chosen)
        np.testing.assert_array_equal(one.right[rows], test.right[rows, one.answered_by[rows]])
        np.testing.assert_array_equal(two.right[rows], turned.right[rows, two.answered_by[rows]])


@pytest.mark.parametrize("name", REAL)
def test_no_method_pays_less_than_the_model_that_answers(name: str) -> None:
    test = made(60, 1)
    prices = np.array([COSTS[model] for model in test.models])
    for point in fitted(name).frontier(test):
        least = np.where(point.answered_by >= 0, prices[point.answered_by], prices.min())
        assert (point.cost_ms >= least).all()


@pytest.mark.parametrize("name", PEERS)
def test_odd_outcomes_are_no_problem(name: str) -> None:
    few, one = made(20), made(40).with_models(("small",))
    features = few.features.copy()
    features[3, 1], features[:, 0] = np.nan, 0.0
    same = replace(few, features=np.zeros_like(few.features), logits=few.logits[:, [0, 0, 0]])
    right = replace(same, labels=same.predicted[:, 0].astype(np.int64))
    for odd in (replace(few, features=features), one, same, right):
        points = fit(name, odd).frontier(made(20, 1).with_models(odd.models))
        assert all(np.isfinite(point.mean_ms) for point in points)


def test_a_perfect_confidence_takes_the_cascade_to_the_ceiling() -> None:
    development = made(perfect=True)
    points = fit("max-softmax-cascade", development).frontier(development)
    assert points[-1].accuracy == ceiling(development)
    assert points[-1].mean_ms < COSTS["full"] / 2


def test_a_perfect_confidence_gives_the_greedy_cascade_its_reference_for_less() -> None:
    development = made(perfect=True)
    points = fit("greedy-cascade", development).frontier(development)
    enough = [point for point in points if point.accuracy >= development.accuracy()["full"]]
    assert min(point.mean_ms for point in enough) < COSTS["full"] / 2


def test_every_threshold_is_never_worse_than_a_coarse_choice() -> None:
    known = table(made())
    found = candidates(known)
    for stages in ((0, 1), (0, 2), (1, 2)):
        for level in np.quantile(known.scores, np.linspace(0, 1, 9)):
            cost, accuracy = known.try_chain(Chain(stages, (float(level),)))
            assert any(c <= cost + 1e-9 and a >= accuracy - 1e-9 for c, a, _ in found)


def test_exhaustive_thresholds_are_accounted_for_as_they_run() -> None:
    known = table(made(100))
    tried = every_threshold(known, 0, 2)
    assert len(tried) == len(np.unique(known.scores[:, 0])) + 1
    for cost, accuracy, chain in tried:
        assert known.try_chain(chain) == pytest.approx((cost, accuracy))


def test_equal_scores_are_accepted_together() -> None:
    known = Table(np.zeros((6, 2)), np.array([[True, False]] * 3 + [[False, True]] * 3), np.array([1.0, 2.0]))
    assert [(cost, accuracy) for cost, accuracy, _ in every_threshold(known, 0, 1)] == [
        (3.0, 0.5),
        (1.0, 0.5),
    ]


def test_improving_a_chain_stage_by_stage_never_makes_it_dearer() -> None:
    known = table(made())
    for price in error_prices(known.costs, 8):
        start = Chain((0, 1, 2), (1.5, 1.5))
        values = [
            price * accuracy - cost
            for cost, accuracy in map(known.try_chain, (start, by_coordinates(known, start, float(price))))
        ]
        assert values[1] >= values[0] - 1e-9


def test_the_cascade_is_charged_for_every_model_that_ran() -> None:
    test = made(60, 1)
    peer = fitted("max-softmax-cascade")
    assert isinstance(peer, MaxSoftmaxCascade)
    sums = {1.0, 2.0, 5.0, 3.0, 6.0, 7.0, 8.0}
    assert {cost for point in peer.frontier(test) for cost in point.cost_ms.tolist()} <= sums


def test_the_greedy_cascade_keeps_its_constraint_on_the_fitting_samples() -> None:
    development = made()
    peer = fitted("greedy-cascade")
    assert isinstance(peer, GreedyCascade)
    reference = max(development.accuracy().values())
    points = peer.frontier(development)
    assert len(points) > 3
    for point in points:
        assert point.accuracy >= point.threshold * reference - 1e-9


def test_the_greedy_cascade_starts_with_what_answers_most_per_millisecond() -> None:
    test = made(60, 1)
    lax = fitted("greedy-cascade").frontier(test)[0]
    assert set(lax.answered_by.tolist()) == {test.models.index("tiny")}
    assert lax.mean_ms == COSTS["tiny"]


@pytest.mark.parametrize("name", [name for name in PEERS if name.startswith("deslib")])
def test_dynamic_ensembles_are_charged_for_their_whole_pool(name: str) -> None:
    peer = fitted(name)
    assert isinstance(peer, DynamicEnsemble)
    points = peer.frontier(made(60, 1))
    assert [point.mean_ms for point in points] == pytest.approx([1 + 2 + OVERHEAD, 1 + 2 + 5 + OVERHEAD])
    assert all((point.answered_by == -1).all() for point in points)


def test_dynamic_ensembles_answer_with_classes_that_development_never_saw() -> None:
    development = made()
    seen = development.rows(development.labels != 3)
    point = fit("deslib-knora-e", seen).frontier(development)[-1]
    assert point.right[development.labels == 3].any()


@pytest.mark.parametrize("name", [name for name in PEERS if name.startswith("deslib")])
def test_votes_never_depend_on_the_labels_of_what_is_answered(name: str) -> None:
    test = made(60, 1)
    shifted = [replace(test, labels=(test.labels + shift) % 4) for shift in range(4)]
    fronts = [fitted(name).frontier(outcomes) for outcomes in shifted]
    for points in zip(*fronts, strict=True):
        np.testing.assert_array_equal(np.sum([point.right for point in points], axis=0), 1)


def test_dynamic_ensembles_take_more_classes_than_samples() -> None:
    few = made(20)
    logits = np.concatenate([few.logits, np.full((20, 3, 36), -5.0, np.float32)], axis=2)
    point = fit("deslib-meta-des", replace(few, logits=logits, labels=np.arange(20))).frontier(few)[-1]
    assert len(point.right) == 20


def test_the_premodel_ignores_constant_and_repeated_features() -> None:
    development, test = made(), made(60, 1)
    peer = fitted("knn-premodel")
    assert isinstance(peer, KnnPremodel)
    assert "constant" not in peer.features
    assert not {"hardness", "copy"} <= set(peer.features)
    features = test.features.copy()
    features[:, development.feature_names.index("constant")] = 99.0
    for one, two in zip(peer.frontier(test), peer.frontier(replace(test, features=features)), strict=True):
        np.testing.assert_array_equal(one.answered_by, two.answered_by)


def test_the_premodel_includes_models_until_they_add_too_little() -> None:
    right = np.zeros((1000, 3), bool)
    right[:600, 0] = right[100:900, 1] = right[898:902, 2] = True
    assert include_models(right, "accuracy") == (1, 0)
    assert include_models(right, "optimal") == (0, 1)
    right[896:906, 2] = True
    assert include_models(right, "accuracy") == (1, 0, 2)


def test_a_model_is_optimal_where_it_is_the_cheapest_right_one() -> None:
    right = np.array([[True, True], [False, True], [False, False], [True, False]])
    np.testing.assert_array_equal(
        optimal(right, (1, 0)), [[False, True], [True, False], [False, False], [False, True]]
    )


def test_of_two_correlated_features_the_first_is_kept() -> None:
    rng = np.random.default_rng(0)
    base = rng.random((50, 2))
    assert uncorrelated(np.stack([base[:, 0], 1 - base[:, 0], base[:, 1]], axis=1)) == [0, 2]


def test_variants_of_one_original_do_not_flatter_the_choice_of_settings() -> None:
    development = made(400, copies=4)
    peer = fit("knn-premodel", development)
    flattered = max(point.accuracy for point in peer.frontier(development))
    honest = max(point.accuracy for point in peer.development_frontier())
    assert honest < flattered - 0.02


def test_sunny_chooses_as_the_package_does() -> None:
    development, test = made(), made(25, 1)
    peer = fit("asf-sunny", development)
    assert isinstance(peer, Sunny)
    aligned, features = development.with_models(peer.models), peer._frame(test)
    points = peer.frontier(test.with_models(peer.models))
    for index in (2, 10, 17):
        selector = peer.selector(10)
        price = points[index].threshold
        selector.fit(peer._frame(aligned), peer._performance(~aligned.right, price))
        expected = selector.predict(features).to_numpy().astype(int)
        np.testing.assert_array_equal(points[index].answered_by, expected)


def test_pairwise_regression_puts_prices_in_afterwards_to_the_same_effect() -> None:
    development, test = made(), made(60, 1)
    peer = fit("asf-pairwise-regressor", development)
    assert isinstance(peer, PairwiseRegression)
    aligned = development.with_models(peer.models)
    points = peer.frontier(test.with_models(peer.models))
    for index in (8, 20):
        peer._selector.prediction_mode = "pandas"
        peer._selector.fit(peer._frame(aligned), peer._performance(~aligned.right, points[index].threshold))
        expected = peer._selector.predict(peer._frame(test)).to_numpy().astype(int)
        assert (points[index].answered_by == expected).mean() > 0.95


def test_a_random_mix_lies_between_its_two_models() -> None:
    test = made(60, 1)
    peer = fitted("random-mix")
    assert isinstance(peer, RandomMix)
    accuracy = test.accuracy()
    points = peer.frontier(test)
    expected = peer.expected(test)
    assert expected[0] == pytest.approx((COSTS["tiny"], accuracy["tiny"]))
    assert expected[-1] == pytest.approx((COSTS["full"], accuracy["full"]))
    assert [point.mean_ms for point in points] == pytest.approx([cost for cost, _ in expected], abs=0.05)
    for (_, share), point in zip(expected, points, strict=True):
        assert accuracy["tiny"] <= share <= accuracy["full"]
        assert point.accuracy == pytest.approx(share, abs=0.2)


def test_the_oracle_reaches_the_ceiling_and_no_choice_of_one_model_passes_it() -> None:
    test = made(60, 1)
    assert fitted("oracle").frontier(test)[0].accuracy == ceiling(test)
    for name in REAL:
        if name.partition("-")[0] not in NEEDS:
            points = fitted(name).frontier(test)
            alone = [point.accuracy for point in points if (point.answered_by >= 0).all()]
            assert max(alone, default=0.0) <= ceiling(test)


def test_outcomes_without_a_model_of_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"got none of full\. Fit on the models"):
        fitted("single").frontier(made(20).with_models(("tiny", "small")))
    with pytest.raises(DataError, match="expected development samples, got none"):
        fit("single", made().rows(np.zeros(240, bool)))


@pytest.mark.parametrize("name", ["deslib-ola", "asf-sunny"])
def test_a_missing_package_is_named_with_how_to_install_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("deslib.dcs.ola", "pandas", "asf.selectors"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=re.escape(install_command("peers"))) as caught:
        PEERS[name]().fit(made(40), COSTS, overhead_ms=0.0)
    assert isinstance(caught.value, ZooError)


def test_the_packages_are_imported_only_when_a_method_needs_them() -> None:
    code = "import sys, benchmarks.peers; print({'asf', 'deslib'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout.strip() == "set()"
