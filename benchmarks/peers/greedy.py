"""The greedily built cascade of abstaining models (Streeter 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from benchmarks.peers.peer import SETTINGS, Peer, some_rows
from selector.policies.rules import softmax
from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Floats, Simulated

MAX_ROWS = 8000
HIGHEST_SHARE = 1.08  # of the reference's accuracy; above 1, most pools cannot answer everything
LEVELS = 150


@dataclass(frozen=True)
class AbstainingModel:
    """One stage: a model that answers only where its estimated accuracy reaches a threshold."""

    model: int
    threshold: float


class GreedyCascade(Peer):
    """Stages are added greedily: always the one that answers most of what is left per millisecond.

    A stage is a model with a threshold on its estimated accuracy, a logistic regression on entropy,
    log-odds of the top class and gap of the two largest logits. It may be added only if, on what it answers
    of the remaining development samples, it is right at least `alpha` times as often as the reference model;
    this constraint holds for a whole if it holds for its parts. A model that ran already costs nothing
    again. The settings are values of alpha, of which those that leave samples without an answer are dropped.
    """

    name = "greedy-cascade"
    decides = True
    source = "Streeter, Approximation Algorithms for Cascading Prediction Models, ICML 2018"

    def _settle(self, development: Outcomes) -> None:
        rows = some_rows(development, MAX_ROWS, self.seed)
        self._estimates = [_fit_estimate(_signs(rows, j), rows.right[:, j]) for j in range(len(self.models))]
        accuracy = rows.right.mean(axis=0)
        reference = int(accuracy.argmax())
        lowest = accuracy.min() / accuracy[reference] if accuracy[reference] > 0 else 1.0
        quality = self._quality(rows)
        built: dict[tuple[AbstainingModel, ...], float] = {}
        for alpha in np.unique([*np.linspace(lowest, HIGHEST_SHARE, LEVELS), 1.0]).tolist():
            stages = greedy_stages(quality, rows.right, self.costs, reference, alpha)
            if stages is not None:
                built[stages] = alpha
        distinct = list(built.items())
        chosen = np.linspace(0, len(distinct) - 1, min(SETTINGS, len(distinct))).round().astype(int)
        self._cascades = [distinct[i] for i in chosen]

    def _points(self, outcomes: Outcomes) -> list[Simulated]:
        quality = self._quality(outcomes)
        return [
            self._answer(outcomes, alpha, *run_stages(stages, quality, self.costs))
            for stages, alpha in self._cascades
        ]

    def _quality(self, outcomes: Outcomes) -> Floats:
        return np.stack([_signs(outcomes, j) @ weights for j, weights in enumerate(self._estimates)], axis=1)


def greedy_stages(
    quality: Floats, right: NDArray[np.bool_], costs: Floats, reference: int, alpha: float
) -> tuple[AbstainingModel, ...] | None:
    """Algorithm GreedyCascade of the paper, with the constraint relative to a reference model.

    Parameters
    ----------
    quality
        Estimated accuracy of every model on every sample ``[n, M]``, in any monotone scale.
    right
        Whether it is right ``[n, M]``.

    Returns
    -------
    tuple or None
        Stages in order; the last one answers everything. None when some samples cannot be answered.
    """
    order = np.argsort(-quality, axis=0, kind="stable")
    remaining = np.ones(len(right), dtype=bool)
    ran: set[int] = set()
    stages = []
    while remaining.any():
        best: tuple[float, int] | None = None
        for model in range(len(costs)):
            ranked = order[remaining[order[:, model]], model]
            score = quality[ranked, model]
            # Counting in rights, with room for rounding of alpha times a count.
            slack = np.cumsum(right[ranked, model] - alpha * right[ranked, reference])
            ends = np.append(np.diff(score) != 0, True)
            feasible = np.flatnonzero(ends & (slack >= -1e-9))
            if not feasible.size:
                continue
            count = int(feasible[-1]) + 1
            ratio = np.inf if model in ran else count / costs[model]
            if best is None or (ratio, count) > best:
                best, rows = (ratio, count), ranked[:count]
                everything = count == len(ranked)
                stage = AbstainingModel(model, -np.inf if everything else float(score[count - 1]))
        if best is None:
            return None
        stages.append(stage)
        ran.add(stage.model)
        remaining[rows] = False
    return tuple(stages)


def run_stages(
    stages: tuple[AbstainingModel, ...], quality: Floats, costs: Floats
) -> tuple[NDArray[np.intp], Floats]:
    """Who answers ``[n]`` and what it costs ``[n]``; every model is paid for once."""
    remaining = np.ones(len(quality), dtype=bool)
    answers = np.zeros(len(quality), dtype=np.intp)
    spent = np.zeros(len(quality))
    ran: set[int] = set()
    for stage in stages:
        if stage.model not in ran:
            spent[remaining] += costs[stage.model]
            ran.add(stage.model)
        accepted = remaining & (quality[:, stage.model] >= stage.threshold)
        answers[accepted] = stage.model
        remaining &= ~accepted
    return answers, spent


def _signs(outcomes: Outcomes, model: int) -> Floats:
    """A constant, entropy, log-odds of the top class and gap of the two largest logits ``[n, 4]``."""
    logits = outcomes.logits[:, model].astype(np.float64)
    shares = softmax(logits)
    entropy = -(shares * np.log(shares + 1e-30)).sum(axis=1)
    second, first = np.partition(logits, -2, axis=1)[:, -2:].T
    return np.stack([np.ones(len(logits)), entropy, outcomes.log_odds[:, model], first - second], axis=1)


def _fit_estimate(signs: Floats, right: NDArray[np.bool_]) -> Floats:
    """Weights ``[4]`` of the logistic regression; the log-odds alone where there is nothing to learn."""
    if right.all() or not right.any():
        return np.array([0.0, 0.0, 1.0, 0.0])
    centre, spread = signs[:, 1:].mean(axis=0), signs[:, 1:].std(axis=0) + 1e-9
    model = LogisticRegression(C=100.0, max_iter=1000).fit((signs[:, 1:] - centre) / spread, right)
    weights = model.coef_[0] / spread
    return np.concatenate([model.intercept_ - (weights * centre).sum(), weights])
