"""Routers of language models: nearest neighbours of RouterBench, matrix factorisation of RouteLLM."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from benchmarks.peers.peer import SETTINGS, Peer, error_prices, some_rows
from selector.policies.rules import sigmoid
from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Floats, Simulated

NEIGHBOURS = 40
MAX_ROWS = 8000
DIMENSION = 32  # of the vectors of models and inputs
STEPS = 200
LEARNING_RATE = 0.05
WEIGHT_DECAY = 1e-3
MOMENTA = (0.9, 0.999)  # of Adam


class RouterBenchKnn(Peer):
    """Expected quality is the mean over the nearest neighbours; willingness to pay weighs it against cost.

    The model with the largest ``price * quality - cost`` answers; prices are the settings. The published
    router compares embeddings of prompts by their cosine; here it has the features that all methods have,
    standardised.
    """

    name = "routerbench-knn"
    source = "Hu et al., RouterBench: A Benchmark for Multi-LLM Routing System, 2024"
    folds = 5

    def _settle(self, development: Outcomes) -> None:
        rows = some_rows(development, MAX_ROWS, self.seed)
        self._standard = _Standard.of(rows.features)
        self._right = rows.right.astype(np.float64)
        count = min(NEIGHBOURS, len(rows))
        self._near = NearestNeighbors(n_neighbors=count, metric="cosine").fit(self._standard(rows.features))
        self._prices = error_prices(self.costs, SETTINGS)

    def _points(self, outcomes: Outcomes) -> list[Simulated]:
        near = self._near.kneighbors(self._standard(outcomes.features), return_distance=False)
        quality = self._right[near].mean(axis=1)
        points = []
        for price in self._prices.tolist():
            picks = (price * quality - self.costs).argmax(axis=1)
            points.append(self._answer(outcomes, price, picks, self.costs[picks] + self.overhead_ms))
        return points


class RouteLlmFactorisation(Peer):
    """Chance that the strong model wins over a weak one, from a product of vectors of input and model.

    The strong model is the most accurate one; every cheaper model on the upper hull is the weak one in
    turn. An
    input goes to the strong model where its chance to win reaches a threshold; weak models and thresholds are
    the settings. The published router learns from human preferences on embeddings of prompts; here the strong
    model wins where it alone is right, and inputs are the features that all methods have, standardised.
    """

    name = "routellm-mf"
    source = "Ong et al., RouteLLM: Learning to Route LLMs with Preference Data, ICLR 2025"
    folds = 5

    def _settle(self, development: Outcomes) -> None:
        development = some_rows(development, MAX_ROWS, self.seed)
        accuracy = development.right.mean(axis=0)
        self._strong = int(accuracy.argmax())
        self._standard = _Standard.of(development.features)
        inputs = self._standard(development.features)
        right = development.right.astype(np.float64)
        wins = np.stack([right[:, self._strong] * (1 - right[:, j]) for j in range(len(accuracy))], axis=1)
        self._weights = _factorised(inputs, wins, seed=self.seed)
        self._levels = np.linspace(0, 1, max(2, SETTINGS // len(accuracy)))
        self._thresholds = np.quantile(self._chances(inputs), self._levels, axis=0).T

    def _points(self, outcomes: Outcomes) -> list[Simulated]:
        chances = self._chances(self._standard(outcomes.features))
        points = []
        for weak, thresholds in enumerate(self._thresholds.tolist()):
            for level, threshold in zip([*self._levels, 2.0], [*thresholds, np.inf], strict=True):
                picks = np.where(chances[:, weak] >= threshold, self._strong, weak)
                points.append(
                    self._answer(outcomes, weak + level, picks, self.costs[picks] + self.overhead_ms)
                )
        return points

    def _chances(self, inputs: Floats) -> Floats:
        """Log-odds ``[n, W]`` that the strong model wins over each weak one."""
        project, bias, models, weights = self._weights
        odds: Floats = (inputs @ project + bias) @ (models[-1] * weights)[:, np.newaxis] - (
            inputs @ project + bias
        ) @ (models[:-1] * weights).T
        return odds


def _factorised(inputs: Floats, wins: Floats, *, seed: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Projection ``[F, D]``, bias ``[D]``, vectors of weak models and the strong one ``[W + 1, D]``, weights.

    Trained with Adam (Kingma and Ba 2015) on the log loss of who wins, all samples at once.
    """
    rng = np.random.default_rng(seed)
    shapes = ((inputs.shape[1], DIMENSION), (wins.shape[1] + 1, DIMENSION), (DIMENSION,))
    project, models, weights = (rng.normal(size=shape) / np.sqrt(DIMENSION) for shape in shapes)
    bias = np.zeros(DIMENSION)
    values = [project, bias, models, weights]
    first, second = ([np.zeros_like(one) for one in values] for _ in range(2))
    for step in range(1, STEPS + 1):
        seen, apart = inputs @ project + bias, models[-1] - models[:-1]
        error = (sigmoid(seen @ (apart * weights).T) - wins) / wins.size
        to_seen, to_ways = error @ (apart * weights), error.T @ seen
        to_models = np.concatenate([-to_ways * weights, (to_ways * weights).sum(axis=0, keepdims=True)])
        slopes = [inputs.T @ to_seen, to_seen.sum(axis=0), to_models, (to_ways * apart).sum(axis=0)]
        for value, slope, mean, square in zip(values, slopes, first, second, strict=True):
            slope = slope + WEIGHT_DECAY * value
            mean += (1 - MOMENTA[0]) * (slope - mean)
            square += (1 - MOMENTA[1]) * (slope**2 - square)
            length = np.sqrt(square / (1 - MOMENTA[1] ** step)) + 1e-8
            value -= LEARNING_RATE * mean / (1 - MOMENTA[0] ** step) / length
    return project, bias, models, weights


class _Standard:
    """Features with mean 0 and standard deviation 1 on the samples of fit, and a constant."""

    def __init__(self, mean: Floats, spread: Floats) -> None:
        self._mean, self._spread = mean, spread

    @classmethod
    def of(cls, features: NDArray[np.floating]) -> _Standard:
        """Of features ``[n, F]``."""
        known = np.nan_to_num(features.astype(np.float64))
        spread = known.std(axis=0)
        return cls(known.mean(axis=0), np.where(spread > 0, spread, np.inf))

    def __call__(self, features: NDArray[np.floating]) -> Floats:
        """Standardised features ``[n, F + 1]``."""
        known = (np.nan_to_num(features.astype(np.float64)) - self._mean) / self._spread
        return np.concatenate([known, np.ones((len(known), 1))], axis=1)
