"""Selectors from the package asf: per-instance algorithm selection, here of models."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from benchmarks.peers.peer import SETTINGS, Peer, Scaling, error_prices, optional, some_rows, useful_models
from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Floats, Indices, Simulated

MAX_ROWS = 1500
FOREST_ROWS = 800  # pairs of models times prices of an error are many forests
FOREST_PRICES = 10
FOREST_MODELS = 8
TREES = 20
LEAF = 10
SUNNY_NEIGHBOURS = (10, 50)


class AlgorithmSelector(Peer):
    """A selector of asf, fed with image features and what each model costs on each input.

    asf minimises one number per input and model: here its milliseconds, plus a price where it is wrong.
    The settings are prices. Choosing and features cost `overhead_ms`, for every input.
    """

    folds = 2
    rows = MAX_ROWS
    prices = SETTINGS
    most_models: int | None = None

    def _settle(self, development: Outcomes) -> None:
        rows = some_rows(development, self.rows, self.seed)
        self._scaling = Scaling.of(rows.features)
        self._prices = error_prices(self.costs, self.prices)
        self._columns = useful_models(rows.right, self.costs, self.most_models)
        self._learn(self._frame(rows), ~rows.right[:, self._columns])

    def _points(self, outcomes: Outcomes) -> list[Simulated]:
        return [
            self._answer(outcomes, setting, picks, self.costs[picks] + self.overhead_ms)
            for setting, columns in self._choices(self._frame(outcomes))
            for picks in [self._columns[columns]]
        ]

    @abstractmethod
    def _learn(self, features: Any, wrong: Any) -> None:
        """Fit on a data frame of features and on errors ``[n, K]`` of the K models that take part."""

    @abstractmethod
    def _choices(self, features: Any) -> list[tuple[float, Indices]]:
        """For every setting its number and which of the K models are chosen ``[n]``."""

    def _frame(self, outcomes: Outcomes) -> Any:
        scaled = self._scaling(outcomes.features)
        if not scaled.shape[1]:  # the packages refuse no features at all
            scaled = np.zeros((len(outcomes), 1))
        return optional("pandas").DataFrame(scaled, columns=[f"f{i}" for i in range(scaled.shape[1])])

    def _performance(self, wrong: Any, price: float) -> Any:
        spent = self.costs[self._columns] + price * wrong
        return optional("pandas").DataFrame(spent, columns=[str(k) for k in range(spent.shape[1])])


class _OnePerPrice(AlgorithmSelector):
    """Selectors that are fitted anew for every price of an error."""

    @abstractmethod
    def _selector(self) -> Any:
        """An asf selector that is not fitted."""

    def _learn(self, features: Any, wrong: Any) -> None:
        self._selectors = []
        for price in self._prices:
            selector = self._selector()
            selector.fit(features, self._performance(wrong, float(price)))
            self._selectors.append((float(price), selector))

    def _choices(self, features: Any) -> list[tuple[float, Indices]]:
        return [
            (price, selector.predict(features).to_numpy().astype(np.intp))
            for price, selector in self._selectors
        ]


class SatzillaRidge(_OnePerPrice):
    """SATzilla as of 2008: a ridge regression of each model's logarithmic cost, the least one runs."""

    name = "asf-satzilla"
    source = "asf 0.1.8: SATzilla, Xu, Hutter, Hoos and Leyton-Brown, JAIR 2008"

    def _selector(self) -> Any:
        return optional("asf.selectors").SATzilla(prediction_mode="pandas", random_state=self.seed)


class PairwiseForests(_OnePerPrice):
    """SATzilla as of 2012: for each pair of models a cost-sensitive forest votes for one of them.

    For each pair and price there is a forest; to keep that within seconds there are fewer and smaller
    forests, on at most 800 samples and eight models.
    """

    name = "asf-pairwise-classifier"
    source = "asf 0.1.8: PairwiseClassifier, Xu, Hutter, Hoos and Leyton-Brown, SATzilla2012"
    rows = FOREST_ROWS
    prices = FOREST_PRICES
    most_models = FOREST_MODELS

    def _selector(self) -> Any:
        forest = RandomForestClassifier(TREES, min_samples_leaf=LEAF, random_state=self.seed, n_jobs=1)
        return optional("asf.selectors").PairwiseClassifier(
            estimator=forest, use_weights=True, prediction_mode="pandas", random_state=self.seed
        )


class PairwiseRegression(AlgorithmSelector):
    """For each pair of models a forest estimates the difference of their costs; the least sum runs.

    A forest's estimate follows any shift and scale of what it learns. So the forests learn the difference
    of errors, once, and prices and milliseconds are put in afterwards.
    """

    name = "asf-pairwise-regressor"
    source = "asf 0.1.8: PairwiseRegressor"
    rows = FOREST_ROWS
    most_models = FOREST_MODELS

    def _learn(self, features: Any, wrong: Any) -> None:
        forest = RandomForestRegressor(
            TREES, min_samples_leaf=LEAF, max_features=1 / 3, random_state=self.seed, n_jobs=1
        )
        self._selector = optional("asf.selectors").PairwiseRegressor(estimator=forest, random_state=self.seed)
        self._selector.fit(features, self._performance(wrong, 1.0) - self.costs[self._columns])

    def _choices(self, features: Any) -> list[tuple[float, Indices]]:
        errors = self._selector.generate_features(features).to_numpy()
        costs = self.costs[self._columns]
        times = len(costs) * costs - costs.sum()
        return [(float(price), (times + price * errors).argmin(axis=1)) for price in self._prices]


class Sunny(AlgorithmSelector):
    """SUNNY with a schedule of one model: the one that costs least in sum on the nearest samples.

    A schedule of more makes no sense without a way to tell whether an answer is right. asf's own loop asks
    for one input at a time and sorts data frames; here all inputs are asked at once, with the same result.
    """

    name = "asf-sunny"
    source = "asf 0.1.8: SUNNY, Amadini, Gabbrielli and Mauro, TPLP 2014"
    folds = 5
    prices = SETTINGS // len(SUNNY_NEIGHBOURS)

    def _learn(self, features: Any, wrong: Any) -> None:
        self._wrong = wrong
        self._selectors = []
        for count in SUNNY_NEIGHBOURS:
            selector = self.selector(min(count, len(wrong)))
            selector.fit(features, self._performance(wrong, float(self._prices[-1])))
            self._selectors.append(selector)

    def selector(self, neighbours: int) -> Any:
        """asf's selector, not fitted, with so many neighbours and a schedule of one model."""
        return optional("asf.selectors").SUNNY(
            k=neighbours, algorithm_limit=1, prediction_mode="pandas", random_state=self.seed
        )

    def _choices(self, features: Any) -> list[tuple[float, Indices]]:
        choices = []
        for selector in self._selectors:
            _, near = selector.knn.kneighbors(features.to_numpy())
            errors: Floats = self._wrong[near].sum(axis=1)
            for price in self._prices:
                spent = near.shape[1] * self.costs[self._columns] + price * errors
                choices.append((float(price), spent.argmin(axis=1)))
        return choices
