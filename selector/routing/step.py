"""Steps: where an input has got to, and what a caller tells of the models that it ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from selector.routing.deciders import Columns, Decider
from selector.routing.record import RouteCertificate

Why = Literal["not proven", "models missing", "model failed", "inputs have changed"]
Logits = Sequence[float] | NDArray[np.floating] | None


class Goes(Protocol):
    """Makes the next step of one."""

    def after(self, step: Step, score: float | None, logits: Logits, cost: float | None) -> Step:
        """The model to run has answered."""
        ...

    def without(self, step: Step) -> Step:
        """The model to run has failed."""
        ...


@dataclass(frozen=True, slots=True)
class Said:
    """What a model answered, as a callable of :meth:`Router.answer` may return it.

    Examples
    --------
    >>> from selector.routing.step import Said
    >>> Said("Paris", score=0.97).answer
    'Paris'
    """

    answer: Any
    score: float | None = None
    logits: Logits = None
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """How a question is answered: a policy at a threshold, or one model alone."""

    certificate: RouteCertificate | None
    decider: Decider | None
    threshold: float
    alone: str
    reason: Why | None


@dataclass(frozen=True, slots=True)
class UnderWay:
    """What a router knows of an input under way."""

    course: Course
    columns: Columns
    path: tuple[str, ...] = ()  # models that answered
    told: tuple[NDArray[np.float32], ...] = ()  # by each of them
    failed: frozenset[str] = frozenset()
    known: float | None = None  # probability that the decider gave at the start


@dataclass(frozen=True, slots=True)
class Step:
    """Where an input has got to: a model to run, or the model whose answer counts.

    Steps do not change. Each :meth:`tell` gives the next one, so several inputs can be under way at once.

    Examples
    --------
    >>> step = router.start({"length": 30.0}, precision=0.87)
    >>> step.run
    'small'
    >>> step = step.tell(score=9.0, cost=0.1)
    >>> step.run, step.model, step.certified
    (None, 'small', True)
    """

    run: str | None  # the model to run next; None: the answer of `model` counts
    model: str | None  # whose answer counts, once `run` is None
    path: tuple[str, ...]  # models that answered, in order
    probability: float | None  # estimate that stopping here is right; None: nothing estimates it
    certified: bool  # whether a certificate covers what was asked
    cost: float  # of the answers so far: what was told, or else expected
    reason: Why | None = None  # why it is not certified
    _so_far: UnderWay = field(repr=False, compare=False, kw_only=True)
    _goes: Goes = field(repr=False, compare=False, kw_only=True)

    def tell(
        self,
        *,
        score: float | None = None,
        logits: Logits = None,
        cost: float | None = None,
    ) -> Step:
        """What to do once the model to run has answered.

        Parameters
        ----------
        score
            How sure it is, any number that grows with confidence, of the kind that the table had.
        logits
            One number a class, where the table had them.
        cost
            Of this answer; without, the mean of the table counts.

        Raises
        ------
        DataError
            When there is no model to run, or it told too little or what is no number.

        Examples
        --------
        >>> router.start([30.0], precision=0.87).tell(score=-9.0).run
        'large'
        """
        return self._goes.after(self, score, logits, cost)

    def failed(self) -> Step:
        """What to do when the model to run could not answer: another one goes on, uncertified.

        Raises
        ------
        UnreachableError
            When no model is left.
        DataError
            When there is no model to run.

        Examples
        --------
        >>> step = router.start([30.0], precision=0.87).failed()
        >>> step.run, step.certified, step.reason
        ('large', False, 'model failed')
        """
        return self._goes.without(self)


@dataclass(frozen=True, slots=True)
class Answer:
    """What :meth:`Router.answer` found.

    Examples
    --------
    >>> said = {"small": lambda: Said("yes", score=9.0), "large": lambda: Said("no", score=9.0)}
    >>> found = router.answer([12.0], said)
    >>> found.answer, found.errors
    ('yes', ())
    """

    answer: Any  # what the callable returned, or the answer of its :class:`Said`
    step: Step  # the last one
    errors: tuple[tuple[str, Exception], ...] = ()  # models that raised, in order
