"""Answers: what a Selector returns, and how an outcome of the engine becomes one."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selector.answering.runners import Outcome
from selector.answering.view import Course, View


@dataclass(frozen=True, slots=True)
class Selection:
    """Which model is enough for an input."""

    model: str  # the cheapest that is enough
    probability: float  # estimated probability that its answer is right
    cost_ms: float  # expected time of the whole answer on the bundle's device, selection included
    certified: bool  # whether a certificate covers this choice at the asked precision


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer and how it came about."""

    label: str  # name of the most probable class
    probabilities: NDArray[np.float64]  # [C], in the order of Selector.classes
    model: str  # the model that gave the answer, the last one of a committee
    path: tuple[str, ...]  # all models that ran, in order
    probability: float  # estimated probability that the answer is right; NaN where nothing estimates it
    latency_ms: float  # wall-clock time of this answer; in a batch, the mean over the batch
    certified: bool  # whether a certificate covers what was asked


def selection(outcome: Outcome, course: Course, view: View) -> Selection:
    """What was picked, and its cost on the bundle's device."""
    costs = view.costs
    cost = sum(costs.models[name] for name in outcome.path)
    if course.certificate is not None and view.policy is not None:
        cost += view.policy.decision_ms(costs, len(outcome.path))
    return Selection(outcome.model, outcome.probability, cost, course.certificate is not None)


def prediction(outcome: Outcome, course: Course, view: View, start: float, count: int) -> Prediction:
    """What was answered, since `start` on the performance counter, as one of `count` answers."""
    assert outcome.answer is not None
    return Prediction(
        label=view.bundle.classes[int(outcome.answer.argmax())],
        probabilities=outcome.answer,
        model=outcome.model,
        path=outcome.path,
        probability=outcome.probability,
        latency_ms=(time.perf_counter() - start) * 1e3 / count,
        certified=course.certificate is not None,
    )
