"""Answers: what a Selector returns, and how an outcome of the engine becomes one."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import msgspec
import numpy as np
from msgspec.structs import force_setattr
from numpy.typing import NDArray

from selector.answering.runners import Outcome, probabilities_of
from selector.answering.view import Course, Reason, View
from selector.policies.paths import ALONE, steps_of


@dataclass(frozen=True, slots=True)
class Selection:
    """Which model is enough for an input.

    Examples
    --------
    >>> found = selector.select(image)
    >>> found.model, found.certified
    ('tiny', True)
    """

    model: str  # the cheapest that is enough
    probability: float | None  # estimate that its answer is right; None: nothing estimates it
    cost_ms: float  # expected time of the whole answer on the bundle's device, selection included
    certified: bool  # whether a certificate covers this choice at the asked precision
    reason: Reason | None = None  # why not, or "server not reached", also where certified; see Reason


class Prediction(msgspec.Struct, frozen=True, eq=False):  # made in a third of the time of a dataclass
    """An answer and how it came about.

    Examples
    --------
    >>> answer = selector.predict(image)
    >>> answer.label, answer.model, answer.certified, answer.reason
    ('red', 'tiny', True, None)
    """

    label: str  # name of the most probable class
    _answer: NDArray[np.floating] | list[float]  # see `probabilities`
    model: str  # the model that gave the answer, the last one of a committee
    path: tuple[str, ...]  # all models that ran, in order
    probability: float | None  # estimate that the answer is right; None: nothing estimates it
    latency_ms: float  # wall-clock time without reading; in a batch, the mean
    certified: bool  # whether a certificate covers what was asked
    reason: Reason | None = None  # why not, or "server not reached", also where certified; see Reason

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Class probabilities float64 ``[C]``, in the order of ``Selector.classes``; the sum is 1.

        They are worked out when first asked for.

        Examples
        --------
        >>> answer = selector.predict(image)
        >>> answer.probabilities.shape, int(answer.probabilities.argmax())
        ((3,), 0)
        """
        found = probabilities_of(self._answer)
        if found is not self._answer:
            force_setattr(self, "_answer", found)
        return found

    def __eq__(self, other: object) -> bool:
        """Whether both say the same of an input, in whatever time; probabilities of all classes aside."""
        return isinstance(other, Prediction) and self._said == other._said

    def __hash__(self) -> int:
        """Of what is compared."""
        return hash(self._said)

    @property
    def _said(self) -> tuple[object, ...]:
        return self.label, self.model, self.path, self.probability, self.certified, self.reason

    def __repr__(self) -> str:
        """One line, without the probabilities of all classes."""
        probability = None if self.probability is None else round(self.probability, 4)
        return (
            f"Prediction(label={self.label!r}, probability={probability}, model={self.model!r}, "
            f"path={self.path!r}, certified={self.certified}, reason={self.reason!r}, "
            f"latency_ms={round(self.latency_ms, 3)})"
        )


def selection(outcome: Outcome, course: Course, view: View) -> Selection:
    """What was picked, and its cost on the bundle's device."""
    costs, certified = view.costs, course.certificate is not None
    followed = view.policy if certified else None
    whole = costs.path(ALONE if followed is None else steps_of(followed), outcome.path)
    if whole is not None:
        cost = whole.mean_ms
    else:
        cost = sum(costs.models[name] for name in outcome.path)
        cost += 0.0 if followed is None else followed.decision_ms(costs, len(outcome.path))
    return Selection(outcome.model, _known(outcome.probability), cost, certified, course.reason)


def prediction(outcome: Outcome, course: Course, view: View, start: float, count: int) -> Prediction:
    """What was answered, since `start` on the performance counter, as one of `count` answers."""
    model, path, probability, answer, _, _, top = outcome
    assert answer is not None
    if top is None:
        top = int(outcome.probabilities.argmax())
    return Prediction(
        view.bundle.classes[top],
        answer,
        model,
        path,
        probability if probability == probability else None,  # NaN is unknown
        (time.perf_counter() - start) * 1e3 / count,
        course.certificate is not None,
        course.reason,
    )


def _known(probability: float) -> float | None:
    return None if math.isnan(probability) else probability
