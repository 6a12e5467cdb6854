"""What a Selector follows: the installed models and all that comes from them, replaced as a whole."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypedDict

from selector.answering.batches import Batch, Portion, run_pieces
from selector.answering.engine import Engine
from selector.answering.recent import Question, Recent
from selector.answering.runners import Outcome
from selector.answering.watching import Watch
from selector.bundle.bundle import Bundle, valid_certificates
from selector.bundle.certificate import Certificate, covering
from selector.bundle.source import Source
from selector.drift.monitor import Monitor
from selector.policies.constraint import Constraint, constraint
from selector.policies.policy import Policy
from zoo.errors import BundleError, PrecisionError

_BUDGET = Constraint(kind="mean_ms", level=1.0)
_MAX_COURSES = 1000  # a caller that varies the constraint must not grow memory for ever


# Why an answer is not certified: the inputs have changed; nothing was proven for what was asked; it was, for
# models that are not all installed; for a model that has been exchanged since; or for one that took more time
# or memory than it may, and is left out.
Reason = Literal["drift", "not proven", "models missing", "models changed", "models left out"]


class Asked(TypedDict, total=False):
    """What may be asked of an answer instead of a precision; at most one constraint."""

    accuracy: float  # another word for the precision: the share of right answers
    max_drop: float  # by how much the precision may lie below the reference model's
    mean_ms: float  # budget of mean time; the most accurate way of answering that keeps it is used
    p95_ms: float  # budget for 95 of 100 answers
    mean_uplink_kb: float  # budget of kilobytes sent to servers, in the mean
    max_remote: float  # share of the inputs that may leave the device
    environment: str  # where the image was taken, if certificates of environments are to be used


@dataclass(frozen=True, slots=True)
class Course:
    """What to do for one question.

    Without a certificate the fallback model answers; where a budget of time was asked for, the fastest model.
    """

    asked: Question
    certificate: Certificate | None
    threshold: float | None
    reason: Reason | None  # why there is no certificate

    def void(self) -> Course:
        """The same question where no certificate counts, because inputs have changed."""
        return Course(self.asked, None, None, "drift")


class View:
    """A bundle with some of its models: which policy is followed, what is certified, the open sessions.

    Never changed once it is in use, except for sessions and courses that are added when first needed. An
    answer uses one view from beginning to end.

    Parameters
    ----------
    refuse_unknown
        Raise an error for environments that the bundle does not know. A device goes on answering instead: it
        may change to a variant that knows others.
    left_out
        Names of models, which are not among the installed, and of graphs that took more than they may.
        Without a graph no policy is followed, and nothing is watched.
    """

    def __init__(
        self,
        bundle: Bundle,
        source: Source,
        installed: Sequence[str],
        *,
        threads: int,
        costs_of: str | None = None,
        watch: bool = False,
        before: View | None = None,
        refuse_unknown: bool = False,
        left_out: Collection[str] = (),
    ) -> None:
        if not installed:
            names = ", ".join(card.name for card in bundle.models)
            raise BundleError(
                f"expected at least one of the models {names} to be installed, got none of them."
            )
        self.bundle = bundle
        self.installed = tuple(installed)
        self._refuse_unknown = refuse_unknown
        self.costs = bundle.costs_ms(costs_of)
        self._left_out = frozenset(left_out)
        no_graphs = not self._left_out <= {card.name for card in bundle.models}
        watch = watch and not no_graphs
        index = None if no_graphs else bundle.policy_for(self.installed)
        fallback = next(name for name in bundle.by_accuracy if name in self.installed)
        # what answers where a budget of time is asked for that nothing is certified for
        self.fastest = bundle.alone(_BUDGET, installed, costs_of)
        self.index = index
        self.engine = Engine(
            bundle,
            source,
            None if index is None else bundle.policies[index],
            fallback,
            threads=threads,
            watch=watch,
        )
        self.certificates = [] if index is None else valid_certificates(bundle, index)
        self.courses: dict[tuple[Constraint, str | None] | float | None, Course] = {}
        self.recent = Recent()
        monitor = Monitor(bundle.drift) if watch and bundle.drift is not None else None
        if before is not None:
            self.engine.inherit(before.engine, self.installed)
            if before.bundle == bundle:  # scores of another bundle would say nothing here
                self.recent = before.recent
                monitor = before.watch.monitor if watch and before.watch is not None else None
        self.watch: Watch | None = None if monitor is None else Watch(self.engine, monitor)

    @property
    def policy(self) -> Policy | None:
        """The best policy that needs no other models than the installed ones."""
        return self.engine.policy

    @property
    def needed(self) -> tuple[str, ...]:
        """The models that answers may come from: the policy's and those that answer without a certificate."""
        followed = () if self.policy is None else self.policy.models
        return tuple(dict.fromkeys((*followed, self.engine.fallback, self.fastest)))

    def proven_for(self, environment: str | None) -> str | None:
        """How certificates name an environment: not at all, where they were all made in it.

        Raises
        ------
        PrecisionError
            When the bundle knows environments, but not this one, and is to refuse that.
        """
        if environment is None or environment == self.bundle.calibration.environment:
            return None
        if self._refuse_unknown:
            named = {one.environment for one in self.bundle.certificates}
            known = {self.bundle.calibration.environment, *named} - {None}
            if known and environment not in known:
                raise PrecisionError(
                    f"expected an environment that something is proven for, got {environment!r}. "
                    f"This bundle knows: {', '.join(sorted(filter(None, known)))}."
                )
        return environment

    @property
    def drifted(self) -> bool:
        """Whether inputs are not like those of the certificates any more."""
        return self.watch is not None and self.watch.alarm

    def course(self, precision: float | None, asked: Asked) -> Course:
        """What to do for a constraint; raises :class:`PrecisionError` when it is none."""
        course = self._course(precision, asked)
        return course.void() if self.drifted else course

    def run(self, images: Batch, course: Course, *, answer: bool) -> tuple[Course, list[Outcome]]:
        """Outcomes of images, and the course that they followed.

        Where these answers raise the alarm, no certificate counts for them either: they are made again.
        """
        outcomes = self._outcomes(images, course, answer=answer)
        if answer and self.watch is not None:
            self.watch.notice(images, outcomes)
            if self.watch.alarm and course.certificate is not None:
                course = course.void()
                outcomes = self._outcomes(images, course, answer=answer)
        return course, outcomes

    def _outcomes(self, images: Batch, course: Course, *, answer: bool) -> list[Outcome]:
        alone = self.fastest if course.asked.constraint.on_time else self.engine.fallback
        run = partial(self.engine.run, threshold=course.threshold, alone=alone, answer=answer)
        return run_pieces(run, images) if isinstance(images, Portion) else run(images)

    def _course(self, precision: float | None, asked: Asked) -> Course:
        if not asked and (precision is None or isinstance(precision, float)):  # what most calls ask
            known = self.courses.get(precision)
            if known is not None:
                return known
        return self._new_course(precision, asked)

    def _new_course(self, precision: float | None, asked: Asked) -> Course:
        environment = self.proven_for(asked.get("environment"))
        unknown = asked.keys() - Asked.__optional_keys__
        if unknown:
            names = ", ".join(("precision", *Asked.__annotations__))
            raise PrecisionError(f"expected some of {names}, got {', '.join(sorted(unknown))}.")
        levels: Any = {name: level for name, level in asked.items() if name != "environment"}
        wanted = constraint(precision, **levels) or self.bundle.default
        course = self.courses.get((wanted, environment))
        if course is None:
            best = None
            if self.index is not None:
                best = covering(self.certificates, wanted, policy=self.index, environment=environment)
            threshold = None if best is None else best.threshold
            reason = None if best is not None else self._why_not(wanted, environment)
            course = Course(Question(wanted, environment), best, threshold, reason)
            if len(self.courses) < _MAX_COURSES:
                self.courses[wanted, environment] = course
                if not asked and environment is None:
                    self.courses[precision] = course
        return course

    def _why_not(self, wanted: Constraint, environment: str | None) -> Reason:
        """Why no certificate of the policy that is followed covers what was asked."""
        reason: Reason = "not proven"
        for i, policy in enumerate(self.bundle.policies):
            proofs = self.bundle.certificates
            if covering(proofs, wanted, policy=i, environment=environment) is None:
                continue
            if i == self.index:
                return "models changed"  # or the certificate would count
            lacking = set(policy.models) - set(self.installed)
            if self._left_out and lacking <= self._left_out:
                return "models left out"
            if lacking:
                reason = "models missing"
        return reason
