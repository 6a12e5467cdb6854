"""A router: decides step by step which model to run, while the application runs them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from selector.bundle.source import FolderSource
from selector.drift.monitor import DriftStatus, Monitor
from selector.policies.rules import confidence
from selector.routing.constraint import RouteConstraint, route_constraint
from selector.routing.deciders import Columns, Decider, decider_of, log_odds
from selector.routing.evidence import FeatureReader, Number, as_number, log_odds_of
from selector.routing.record import RouteCertificate, RoutedModel, RouterRecord, read_router
from zoo.errors import DataError, ModelNotFoundError, PrecisionError, UnreachableError

Features = Mapping[str, Number] | Sequence[Number] | NDArray[np.floating] | None
Why = Literal["not proven", "models missing", "model failed", "inputs have changed"]

_MAX_COURSES = 1024  # answers to what was asked that are kept


@dataclass(frozen=True, slots=True)
class Said:
    """What a model answered, as a callable of :meth:`Router.answer` may return it.

    Examples
    --------
    >>> from selector.routing.router import Said
    >>> Said("Paris", score=0.97).answer
    'Paris'
    """

    answer: Any
    score: float | None = None
    logits: Sequence[float] | NDArray[np.floating] | None = None
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class _Course:
    """How a question is answered: a policy at a threshold, or one model alone."""

    certificate: RouteCertificate | None
    decider: Decider | None
    threshold: float
    alone: str
    reason: Why | None


@dataclass(frozen=True, slots=True)
class Step:
    """Where an input has got to: a model to run, or the model whose answer counts.

    Steps do not change. Each :meth:`tell` gives the next one, so several inputs can be under way at once.

    Examples
    --------
    >>> step = router.start({"length": 12.0}, precision=0.7)
    >>> step.run
    'small'
    >>> step = step.tell(score=3.0, cost=0.1)
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
    _router: Router = field(repr=False, compare=False, kw_only=True)
    _course: _Course = field(repr=False, compare=False, kw_only=True)
    _columns: Columns = field(repr=False, compare=False, kw_only=True)
    _told: tuple[NDArray[np.float32], ...] = field(default=(), repr=False, compare=False)
    _failed: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    _known: float | None = field(default=None, repr=False, compare=False)

    def tell(
        self,
        *,
        score: float | None = None,
        logits: Sequence[float] | NDArray[np.floating] | None = None,
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
        >>> router.start([12.0], precision=0.7).tell(score=0.1).run
        'large'
        """
        return self._router._after(self, score, logits, cost)

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
        >>> step = router.start([12.0], precision=0.7).failed()
        >>> step.run, step.certified, step.reason
        ('large', False, 'model failed')
        """
        return self._router._without(self)


@dataclass(frozen=True, slots=True)
class Answer:
    """What :meth:`Router.answer` found."""

    answer: Any  # what the callable returned, or the answer of its :class:`Said`
    step: Step  # the last one
    errors: tuple[tuple[str, Exception], ...] = ()  # models that raised, in order


class Router:
    """Decides which model to run, from features of the input and from what models said.

    Thread-safe. A router decides exactly as the simulation did that its certificates are about.

    Examples
    --------
    >>> from selector import Router
    >>> router = Router.load("my-router")
    >>> router.models
    ('small', 'large')
    """

    def __init__(
        self, record: RouterRecord, folder: Path, *, models: Collection[str] | None = None, watch: bool = False
    ) -> None:
        names = tuple(model.name for model in record.models)
        unknown = [name for name in models or () if name not in names]
        if unknown:
            raise ModelNotFoundError(
                f"expected models among {', '.join(names)}, got {', '.join(unknown)}. Name those of the router."
            )
        self.record = record
        self.models = names if models is None else tuple(name for name in names if name in models)
        if not self.models:
            raise ModelNotFoundError(f"expected at least one model among {', '.join(names)}, got none. Name some.")
        self._cards: dict[str, RoutedModel] = {model.name: model for model in record.models}
        self._reader = FeatureReader(record.features)
        self._index = record.policy_for(self.models)
        self._policy = None if self._index is None else record.policies[self._index]
        self._decider = None if self._policy is None else decider_of(self._policy, record, FolderSource(folder))
        self._courses: dict[object, _Course] = {}
        self._monitor = Monitor(record.drift) if watch and record.drift is not None else None
        self._watched = () if record.drift is None else record.drift.columns

    @classmethod
    def load(
        cls, folder: str | Path, *, models: Collection[str] | None = None, watch: bool = False
    ) -> Router:
        """Open the router in `folder`.

        Parameters
        ----------
        models
            Those that the application can run, by default all.
        watch
            Notice inputs that are unlike those of the certificates, by their features and by how sure the
            first model is. After an alarm nothing is certified.

        Raises
        ------
        BundleError
            When there is none.
        CardError, SchemaVersionError
            When ``router.json`` does not validate.
        ModelNotFoundError
            When a model is unknown.

        Examples
        --------
        >>> Router.load("my-router", models=["large"]).start([12.0]).run
        'large'
        """
        return cls(read_router(folder), Path(folder), models=models, watch=watch)

    @property
    def certified_precisions(self) -> tuple[float, ...]:
        """Precisions that are certified with these models, ascending.

        Examples
        --------
        >>> max(router.certified_precisions) > 0.7
        True
        """
        if self._index is None:
            return ()
        found = {one.constraint.level for one in self._certificates() if one.constraint.kind == "precision"}
        return tuple(sorted(found))

    @property
    def drift(self) -> DriftStatus | None:
        """What the monitor has seen; None where nothing is watched."""
        return None if self._monitor is None else self._monitor.status()

    def certificate(self, asked: RouteConstraint | None = None) -> RouteCertificate | None:
        """The certificate that covers a constraint, by default the fitted one, or None.

        Examples
        --------
        >>> router.certificate().confidence
        0.95
        """
        return None if self._index is None else self.record.covering(asked or self.record.default, self._index)

    def start(
        self,
        features: Features = None,
        precision: float | None = None,
        *,
        max_drop: float | None = None,
        mean_cost: float | None = None,
        quantile_cost: float | None = None,
    ) -> Step:
        """The first step of an input.

        Parameters
        ----------
        features
            By name, or in the order of the table; None or NaN where one is missing.
        precision, max_drop, mean_cost, quantile_cost
            What is asked, at most one; by default what the router was fitted for.

        Raises
        ------
        DataError
            When a feature is unknown, missing or no finite number.
        PrecisionError
            When the constraint is none.

        Examples
        --------
        >>> step = router.start({"length": 12.0}, precision=0.7)
        >>> while step.run:
        ...     step = step.tell(score=0.2, cost=0.1)  # of the model step.run
        >>> step.model, step.path
        ('large', ('small', 'large'))
        """
        columns = self._reader.read(features)
        course = self._course(precision, max_drop, mean_cost, quantile_cost)
        if self._monitor is not None and self._monitor.alarm and course.certificate is not None:
            course = self._alone(course, "inputs have changed")
        probability = None
        if course.decider is None:
            run: str | None = course.alone
        else:
            run, probability = course.decider.start(columns, course.threshold)
        certified = course.certificate is not None
        return Step(
            run,
            None,
            (),
            probability,
            certified,
            0.0,
            course.reason,
            _known=probability,
            _router=self,
            _course=course,
            _columns=columns,
        )

    def answer(
        self,
        features: Features,
        models: Mapping[str, Callable[[], Any]],
        precision: float | None = None,
        **asked: Any,
    ) -> Answer:
        """Run the models that are needed, and give the answer that counts.

        Retries and time-outs are the callables' own affair. One that raises an exception is left out: another
        model goes on, and nothing is certified.

        Parameters
        ----------
        models
            For every model a callable without arguments; it returns a :class:`Said`, or where the router needs
            to know nothing of that model, the answer itself.
        precision, **asked
            As of :meth:`start`.

        Raises
        ------
        ModelNotFoundError
            When the callable of a model is missing.
        UnreachableError
            When all models failed; the last exception is its cause.

        Examples
        --------
        >>> said = router.answer(
        ...     [12.0], {"small": lambda: Said("yes", score=3.0), "large": lambda: Said("no", score=9.0)}, 0.7
        ... )
        >>> said.answer, said.step.model
        ('yes', 'small')
        """
        missing = [name for name in self.models if name not in models]
        if missing:
            raise ModelNotFoundError(
                f"expected a callable for every model of the router, got none for {', '.join(missing)}. Give it, or "
                "load the router with models=[…]."
            )
        step = self.start(features, precision, **asked)
        found: dict[str, Any] = {}
        errors: list[tuple[str, Exception]] = []
        while step.run is not None:
            name = step.run
            try:
                said = models[name]()
            except Exception as error:  # of whatever kind: the models are not ours
                errors.append((name, error))
                try:
                    step = step.failed()
                except UnreachableError as none_left:
                    raise none_left from error
                continue
            told = said if isinstance(said, Said) else Said(said)
            step = step.tell(score=told.score, logits=told.logits, cost=told.cost)
            found[name] = told.answer
        assert step.model is not None
        return Answer(found[step.model], step, tuple(errors))

    def _certificates(self) -> list[RouteCertificate]:
        digest = None if self._index is None else self.record.subject(self._index)
        return [
            one
            for one in self.record.certificates
            if one.policy == self._index and one.subject_sha256 == digest
        ]

    def _course(
        self,
        precision: float | None,
        max_drop: float | None,
        mean_cost: float | None,
        quantile_cost: float | None,
    ) -> _Course:
        key = (precision, max_drop, mean_cost, quantile_cost)
        try:
            known = self._courses.get(key)
        except TypeError:
            raise PrecisionError(f"expected numbers as constraints, got {key!r:.100}.") from None
        if known is not None:
            return known
        wanted = (
            route_constraint(
                precision, max_drop=max_drop, mean_cost=mean_cost, quantile_cost=quantile_cost
            )
            or self.record.default
        )
        alone = self.record.alone(wanted, self.models)
        certificate = self.certificate(wanted)
        if certificate is None:
            other = any(self.record.covering(wanted, i) for i in range(len(self.record.policies)))
            reason: Why = "models missing" if other and len(self.models) < len(self._cards) else "not proven"
            course = _Course(None, None, 0.0, alone, reason)
        else:
            course = _Course(certificate, self._decider, certificate.threshold, alone, None)
        if len(self._courses) < _MAX_COURSES:
            self._courses[key] = course
        return course

    def _alone(self, course: _Course, reason: Why) -> _Course:
        return _Course(None, None, 0.0, course.alone, reason)

    def _after(
        self,
        step: Step,
        score: float | None,
        logits: Sequence[float] | NDArray[np.floating] | None,
        cost: float | None,
    ) -> Step:
        name = _to_run(step)
        told = (*step._told, self._evidence(self._cards[name], score, logits))
        paid = self._cards[name].mean_cost if cost is None else as_number("cost", cost, model=name)
        if paid < 0:
            raise DataError(f"expected a cost of at least 0 of {name!r}, got {paid:g}. Tell what was paid.")
        path = (*step.path, name)
        course = step._course
        if course.decider is None:
            run, probability = None, None
        else:
            run, probability = course.decider.go_on(
                path, told, step._columns, course.threshold, step._known
            )
        if not step.path and not step._failed and self._monitor is not None:
            self._watch(step, name, told[0])
        return Step(
            run,
            name if run is None else None,
            path,
            probability,
            step.certified,
            step.cost + paid,
            step.reason,
            told,
            step._failed,
            step._known,
            _router=self,
            _course=course,
            _columns=step._columns,
        )

    def _without(self, step: Step) -> Step:
        """Go on without the model to run: with the best one that was not tried, else the best that answered."""
        failed = step._failed | {_to_run(step)}
        left = [name for name in self.record.by_accuracy if name in self.models and name not in failed]
        untried = [name for name in left if name not in step.path]
        if not left:
            raise UnreachableError(
                f"expected an answer of some model, got none: {', '.join(sorted(failed))} failed. Try again later."
            )
        course = self._alone(step._course, "model failed")
        return Step(
            untried[0] if untried else None,
            None if untried else left[0],
            step.path,
            None,
            False,
            step.cost,
            "model failed",
            step._told,
            failed,
            None,
            _router=self,
            _course=course,
            _columns=step._columns,
        )

    def _evidence(
        self,
        card: RoutedModel,
        score: float | None,
        logits: Sequence[float] | NDArray[np.floating] | None,
    ) -> NDArray[np.float32]:
        """What a model told, as policies see it: logits ``[C]``, or log-odds ``[1]``."""
        if card.tells == "none":
            return np.zeros(1, np.float32)
        if card.tells == "score":
            if score is None:
                raise DataError(
                    f"expected the score of {card.name!r}, got none. Tell it: tell(score=…), of the kind that the "
                    "table had."
                )
            value = as_number("score", score, model=card.name)
        else:
            row = _row(logits, self.record.classes, card.name)
            if self.record.evidence == "logits":
                return row
            value = confidence(row[np.newaxis])[0][0]
        return np.array([0.0 if card.scale is None else log_odds_of(card.scale, value)], np.float32)

    def _watch(self, step: Step, name: str, told: NDArray[np.float32]) -> None:
        """Note the input with what its first model said, where that is the same model for every input."""
        monitor = self._monitor
        assert monitor is not None
        if monitor.passes():
            return
        always = self._policy is None or step._course.decider is None or not self._chooses_first
        sure = (name, log_odds(told)) if always else None
        monitor.update(step._columns[0, list(self._watched)], sure)

    @property
    def _chooses_first(self) -> bool:
        """Whether the first model depends on the input."""
        return self._policy is not None and str(self._policy.__struct_config__.tag) == "input"


def _to_run(step: Step) -> str:
    if step.run is None:
        raise DataError(
            f"expected a step with a model to run, got one that has ended with {step.model!r}. Begin with "
            "router.start(…)."
        )
    return step.run


def _row(logits: Sequence[float] | NDArray[np.floating] | None, classes: int, model: str) -> NDArray[np.float32]:
    """Finite logits float32 ``[C]``."""
    try:
        row = np.asarray(logits, np.float32)
    except (TypeError, ValueError):
        row = np.empty(0, np.float32)
    if row.ndim != 1 or len(row) < 2 or (classes and len(row) != classes) or not np.isfinite(row).all():
        raise DataError(
            f"expected {classes or 'two or more'} finite logits of {model!r}, got "
            f"{'none' if logits is None else 'something else'}. Tell them: tell(logits=[…])."
        )
    return row
