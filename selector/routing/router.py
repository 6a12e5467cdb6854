"""A router: decides step by step which model to run, while the application runs them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selector.bundle.source import FolderSource
from selector.drift.monitor import DriftStatus
from selector.policies.input import InputPolicy
from selector.policies.rules import confidence
from selector.routing.constraint import RouteConstraint, route_constraint
from selector.routing.deciders import decider_of, log_odds
from selector.routing.evidence import FeatureReader, Features, as_number, log_odds_of
from selector.routing.record import RouteCertificate, RoutedModel, RouterRecord, read_router
from selector.routing.step import Answer, Course, Logits, Said, Step, UnderWay, Why
from selector.routing.watching import RouteWatch
from zoo.errors import DataError, ModelNotFoundError, PrecisionError, UnreachableError

_MAX_COURSES = 1024  # answers to what was asked that are kept


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
        self,
        record: RouterRecord,
        folder: Path,
        *,
        models: Collection[str] | None = None,
        watch: bool = False,
    ) -> None:
        names = tuple(model.name for model in record.models)
        unknown = [name for name in models or () if name not in names]
        if unknown:
            raise ModelNotFoundError(
                f"expected models among {', '.join(names)}, got {', '.join(unknown)}. Name those of the "
                "router."
            )
        self.record = record
        self.models = names if models is None else tuple(name for name in names if name in models)
        if not self.models:
            raise ModelNotFoundError(
                f"expected at least one model among {', '.join(names)}, got none. Name some."
            )
        self._cards: dict[str, RoutedModel] = {model.name: model for model in record.models}
        self._reader = FeatureReader(record.features)
        self._index = record.policy_for(self.models)
        self._policy = None if self._index is None else record.policies[self._index]
        self._decider = (
            None if self._policy is None else decider_of(self._policy, record, FolderSource(folder))
        )
        self._courses: dict[object, Course] = {}
        self._watch = RouteWatch(record.drift) if watch and record.drift is not None else None

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
        return None if self._watch is None else self._watch.status()

    def certificate(self, asked: RouteConstraint | None = None) -> RouteCertificate | None:
        """The certificate that covers a constraint, by default the fitted one, or None.

        Examples
        --------
        >>> router.certificate().confidence
        0.95
        """
        return (
            None if self._index is None else self.record.covering(asked or self.record.default, self._index)
        )

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
        >>> step = router.start({"length": 30.0}, precision=0.87)
        >>> while step.run:
        ...     step = step.tell(score=-9.0, cost=0.1)  # of the model step.run
        >>> step.model, step.path
        ('large', ('small', 'large'))
        """
        columns = self._reader.read(features)
        course = self._course(precision, max_drop, mean_cost, quantile_cost)
        if self._watch is not None and self._watch.alarm and course.certificate is not None:
            course = _alone(course, "inputs have changed")
        probability = None
        if course.decider is None:
            run: str | None = course.alone
        else:
            columns = course.decider.known(columns)
            run, probability = course.decider.start(columns, course.threshold)
        certified = course.certificate is not None
        so_far = UnderWay(course, columns, known=probability)
        return Step(run, None, (), probability, certified, 0.0, course.reason, _so_far=so_far, _goes=self)

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
            For every model a callable without arguments; it returns a :class:`Said`, or where the router
            needs to know nothing of that model, the answer itself.
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
        >>> models = {"small": lambda: Said("yes", score=9.0), "large": lambda: Said("no", score=9.0)}
        >>> said = router.answer([30.0], models, precision=0.87)
        >>> said.answer, said.step.model
        ('yes', 'small')
        """
        missing = [name for name in self.models if name not in models]
        if missing:
            raise ModelNotFoundError(
                f"expected a callable for every model of the router, got none for {', '.join(missing)}. Give "
                "it, or load the router with models=[…]."
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
    ) -> Course:
        key = (precision, max_drop, mean_cost, quantile_cost)
        try:
            known = self._courses.get(key)
        except TypeError:
            raise PrecisionError(f"expected numbers as constraints, got {key!r:.100}.") from None
        if known is not None:
            return known
        wanted = (
            route_constraint(precision, max_drop=max_drop, mean_cost=mean_cost, quantile_cost=quantile_cost)
            or self.record.default
        )
        alone = self.record.alone(wanted, self.models)
        certificate = self.certificate(wanted)
        if certificate is None:
            other = any(self.record.covering(wanted, i) for i in range(len(self.record.policies)))
            reason: Why = "models missing" if other and len(self.models) < len(self._cards) else "not proven"
            course = Course(None, None, 0.0, alone, reason)
        else:
            course = Course(certificate, self._decider, certificate.threshold, alone, None)
        if len(self._courses) < _MAX_COURSES:
            self._courses[key] = course
        return course

    def after(self, step: Step, score: float | None, logits: Logits, cost: float | None) -> Step:
        """The step after one whose model has answered; see :meth:`Step.tell`.

        Examples
        --------
        >>> router.after(router.start([30.0], 0.87), 9.0, None, None).model
        'small'
        """
        name, before = _to_run(step), step._so_far
        told = self._evidence(self._cards[name], score, logits)
        paid = self._cards[name].mean_cost if cost is None else as_number("cost", cost, model=name)
        if paid < 0:
            raise DataError(f"expected a cost of at least 0 of {name!r}, got {paid:g}. Tell what was paid.")
        path, course = (*before.path, name), before.course
        so_far = UnderWay(course, before.columns, path, (*before.told, told), before.failed, before.known)
        run, probability = None, None
        if course.decider is not None:
            run, probability = course.decider.go_on(so_far, course.threshold)
        watch = self._watch
        if watch is not None and not before.path and not before.failed and not watch.passes():
            # where features choose the first model, how sure it is depends on them
            chosen = course.decider is not None and isinstance(self._policy, InputPolicy)
            watch.note(before.columns, None if chosen else (name, log_odds(told)))
        return Step(
            run,
            name if run is None else None,
            path,
            probability,
            step.certified,
            step.cost + paid,
            step.reason,
            _so_far=so_far,
            _goes=self,
        )

    def without(self, step: Step) -> Step:
        """The step after one whose model has failed: the best model that was not tried goes on, else the best
        that answered counts; see :meth:`Step.failed`.

        Examples
        --------
        >>> router.without(router.start([30.0], 0.87)).run
        'large'
        """
        before = step._so_far
        failed = before.failed | {_to_run(step)}
        left = [name for name in self.record.by_accuracy if name in self.models and name not in failed]
        untried = [name for name in left if name not in step.path]
        if not left:
            raise UnreachableError(
                f"expected an answer of some model, got none: {', '.join(sorted(failed))} failed. "
                "Try again later."
            )
        so_far = replace(before, course=_alone(before.course, "model failed"), failed=failed, known=None)
        return Step(
            untried[0] if untried else None,
            None if untried else left[0],
            step.path,
            None,
            False,
            step.cost,
            "model failed",
            _so_far=so_far,
            _goes=self,
        )

    def _evidence(
        self,
        card: RoutedModel,
        score: float | None,
        logits: Logits,
    ) -> NDArray[np.float32]:
        """What a model told, as policies see it: logits ``[C]``, or log-odds ``[1]``."""
        if card.tells == "none":
            return np.zeros(1, np.float32)
        if card.tells == "score":
            if score is None:
                raise DataError(
                    f"expected the score of {card.name!r}, got none. Tell it: tell(score=…), of the kind "
                    "that the table had."
                )
            value = as_number("score", score, model=card.name)
        else:
            row = _row(logits, self.record.classes, card.name)
            if self.record.evidence == "logits":
                return row
            value = confidence(row[np.newaxis])[0][0]
        return np.array([0.0 if card.scale is None else log_odds_of(card.scale, value)], np.float32)


def _alone(course: Course, reason: Why) -> Course:
    return Course(None, None, 0.0, course.alone, reason)


def _to_run(step: Step) -> str:
    if step.run is None:
        raise DataError(
            f"expected a step with a model to run, got one that has ended with {step.model!r}. Begin with "
            "router.start(…)."
        )
    return step.run


def _row(logits: Logits, classes: int, model: str) -> NDArray[np.float32]:
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
