"""What a Selector follows: the installed models and all that comes from them, replaced as a whole."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypedDict

import numpy as np

from selector.answering.batches import Batch, Portion, run_pieces
from selector.answering.engine import Engine
from selector.answering.reach import Reach, TooLateError, deadline_of
from selector.answering.recent import Question, Recent
from selector.answering.runners import Outcome
from selector.answering.watching import Watch, one_of
from selector.bundle.bundle import Bundle, valid_certificates
from selector.bundle.certificate import Certificate, covering
from selector.bundle.source import Source
from selector.drift.monitor import Monitor
from selector.policies.constraint import Constraint, constraint
from selector.policies.policy import Policy
from zoo.errors import BundleError, CircuitOpenError, PrecisionError, UnreachableError

_BUDGET = Constraint(kind="mean_ms", level=1.0)
_AT_HOME = Constraint(kind="max_remote", level=0.5)
_NO_CONSTRAINTS = ("environment", "never_remote", "remote_deadline_s")
_MAX_COURSES = 1000  # a caller that varies the constraint must not grow memory for ever


# Why an answer is not certified: the inputs have changed; nothing was proven for what was asked; it was, for
# models that are not all installed; for a model that has been exchanged since; for one that took more time
# or memory than it may, and is left out; for one on a server, which was not to be asked; or for the CPU,
# where another execution provider runs the models that was not shown to agree. Where a server was not reached
# that is said of certified answers too.
Reason = Literal[
    "drift",
    "not proven",
    "models missing",
    "models changed",
    "models left out",
    "never remote",
    "other provider",
    "server not reached",
]


class Asked(TypedDict, total=False):
    """What may be asked of an answer instead of a precision; at most one constraint, and how to answer."""

    accuracy: float  # another word for the precision: the share of right answers
    max_drop: float  # by how much the precision may lie below the reference model's
    mean_ms: float  # budget of mean time; the most accurate way of answering that keeps it is used
    p95_ms: float  # budget for 95 of 100 answers
    mean_uplink_kb: float  # budget of kilobytes sent to servers, in the mean
    max_remote: float  # share of the inputs that may leave the device
    environment: str  # where the image was taken, if certificates of environments are to be used
    never_remote: bool  # send nothing to a server, for inputs that are private: as if it were not there
    remote_deadline_s: float  # of an answer that asks a server; the local one comes within it. Default: 1 s


@dataclass(frozen=True, slots=True)
class Course:
    """What to do for one question.

    Without a certificate the fallback model answers; where a budget of time was asked for, the fastest model.
    """

    asked: Question
    certificate: Certificate | None
    threshold: float | None
    reason: Reason | None  # why there is no certificate

    def beside_server(self, with_server: Course, *, failed: bool) -> Course:
        """The same where a server was not reached; with it, the course was `with_server`.

        An answer on which it `failed` is not certified: which inputs are sent depends on how hard they are,
        and nothing is proven for those alone.
        """
        proven = None if failed else self.certificate
        only_servers = self.reason == "models missing" and with_server.reason is None
        reason = "server not reached" if self.reason is None or only_servers else self.reason
        return replace(self, certificate=proven, reason=reason)

    def void(self) -> Course:
        """The same question where no certificate counts, because inputs have changed."""
        return Course(self.asked, None, None, "drift")


class View:
    """A bundle with some of its models: which policy is followed, what is certified, the open sessions.

    In use only sessions and courses are added, when first needed. An answer uses one view all along.

    Parameters
    ----------
    refuse_unknown
        Raise an error for environments that the bundle does not know. A device goes on answering instead: it
        may change to a variant that knows others.
    left_out
        Names of models, which are not among the installed, and of graphs that took more than they may.
        Without a graph no policy is followed, and nothing is watched.
    brisk
        Whether a change of the inputs is to be noticed soon, beside fast models as well.
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
        brisk: bool = False,
    ) -> None:
        if not installed:
            names = ", ".join(card.name for card in bundle.models)
            raise BundleError(
                f"expected at least one of the models {names} to be installed, got none of them."
            )
        self.bundle = bundle
        self.kind = bundle.kind
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
        self._quiet = bundle.alone(_AT_HOME, installed, costs_of)  # the same for a budget of what is sent
        self.remote = frozenset(installed) - bundle.local
        self.reach: Reach = Reach() if before is None or before.bundle != bundle else before.reach
        self._threads, self._costs_of, self._home = threads, costs_of, threading.Lock()
        self._view_at_home: View | None = None
        self.index = index
        policy = None if index is None else bundle.policies[index]
        self.engine = self._engine_of(source, policy, fallback, watch=watch)
        self._proven = [] if index is None else valid_certificates(bundle, index)  # with their provider
        self.certificates = source.counting(bundle, self._proven)
        self.courses: dict[tuple[Constraint, str | None] | float | None, Course] = {}
        self.recent = Recent()
        watching = watch and bundle.drift is not None
        taken: Watch | None = None  # goes on where it was
        if before is not None:
            self.engine.inherit(before.engine, self.installed)
            if before.bundle == bundle:  # scores of another bundle would say nothing here
                self.recent = before.recent
                taken = before.watch
                watching = watching and taken is not None
        self.watch: Watch | None = None
        if watching and bundle.drift is not None:
            monitor = Monitor(bundle.drift) if taken is None else taken.monitor
            self.watch = Watch(self.engine, monitor, taken, every=one_of(bundle, self.costs, brisk=brisk))

    def _engine_of(self, source: Source, policy: Policy | None, fallback: str, *, watch: bool) -> Engine:
        return Engine(self.bundle, source, policy, fallback, threads=self._threads, watch=watch)

    @property
    def policy(self) -> Policy | None:
        """The best policy that needs no other models than the installed ones."""
        return self.engine.policy

    @property
    def needed(self) -> tuple[str, ...]:
        """The models that answers may come from: the policy's and those that answer without a certificate."""
        followed = () if self.policy is None else self.policy.models
        return tuple(dict.fromkeys((*followed, self.engine.fallback, self.fastest, self._quiet)))

    def alone(self, asked: Constraint) -> str:
        """The model that answers alone where nothing is certified for what is asked."""
        return self.fastest if asked.on_time else self._quiet if asked.on_network else self.engine.fallback

    def at_home(self) -> View:
        """The view without models on servers, which shares all sessions with this one.

        Raises
        ------
        BundleError
            When all installed models are on servers.
        """
        if not self.remote:
            return self
        held = [name for name in self.installed if name not in self.remote]
        if not held:
            raise BundleError(
                f"expected a model on this device, got only models on servers: {', '.join(self.installed)}. "
                "Install one of the bundle that runs here, or answer with the server (without never_remote)."
            )
        with self._home:
            if self._view_at_home is None:
                found = View(
                    self.bundle,
                    self.engine.source,
                    held,
                    threads=self._threads,
                    costs_of=self._costs_of,
                    watch=self.watch is not None,
                    before=self,
                    refuse_unknown=self._refuse_unknown,
                    left_out=self._left_out,
                )
                found.engine.share(self.engine)
                self._view_at_home = found
            return self._view_at_home

    def for_asked(self, asked: Asked) -> View:
        """The view that answers a question: without servers, where nothing may be sent.

        Raises like :meth:`at_home`, and :class:`PrecisionError` for what contradicts itself.
        """
        private = asked.get("never_remote", False)
        if not isinstance(private, bool | np.bool_):
            raise PrecisionError(f"expected never_remote to be True or False, got {private!r}.")
        if "remote_deadline_s" in asked:
            deadline_of(asked["remote_deadline_s"])
            if private:
                raise PrecisionError(
                    "expected never_remote or remote_deadline_s, got both: a server that is not asked has no "
                    "deadline. Leave one of them out."
                )
        return self.at_home() if private else self

    def proven_for(self, environment: str | None) -> str | None:
        """How certificates name an environment: not at all, where they were all made in it.

        Raises
        ------
        PrecisionError
            When the bundle does not know this environment, and is to refuse that.
        """
        if environment is None or environment == self.bundle.calibration.environment:
            return None
        if self._refuse_unknown:
            named = {one.environment for one in self.bundle.certificates}
            known = {self.bundle.calibration.environment, *named} - {None}
            if environment not in known:
                raise PrecisionError(
                    f"expected an environment that something is proven for, got {environment!r}. "
                    + (
                        f"This bundle knows: {', '.join(sorted(filter(None, known)))}."
                        if known
                        else "This bundle knows none: leave it out, or profile images of several."
                    )
                )
        return environment

    @property
    def drifted(self) -> bool:
        """Whether inputs are not like those of the certificates any more."""
        return self.watch is not None and self.watch.alarm

    def course(self, precision: float | None, asked: Asked) -> Course:
        """What to do for a constraint; raises :class:`PrecisionError` when it is none."""
        known: Course | None = None
        if not asked and (precision is None or isinstance(precision, float)):  # what most calls ask
            known = self.courses.get(precision)
        course = self._new_course(precision, asked) if known is None else known
        if asked and course.reason == "models missing" and asked.get("never_remote"):
            course = replace(course, reason="never remote")
        watch = self.watch
        return course.void() if watch is not None and watch.alarm else course

    def one(self, image: Batch, precision: float | None, asked: Asked) -> tuple[Course, Outcome]:
        """:meth:`answer` for one image ``[1, H, W, 3]`` of a view without servers, in less time."""
        course = self.course(precision, asked)
        threshold = course.threshold
        alone = self.alone(course.asked.constraint) if threshold is None else ""
        outcome = self.engine.one(image, threshold, alone=alone)
        watch = self.watch
        if watch is not None:
            watch.notice_one(image, outcome)
            if watch.alarm and course.certificate is not None:
                course = course.void()
                outcome = self.engine.one(image, None, alone=self.alone(course.asked.constraint))
        return course, outcome

    def answer(
        self, images: Batch, precision: float | None, asked: Asked, *, answer: bool
    ) -> tuple[View, Course, list[Outcome]]:
        """Outcomes of images, the course that they followed, and the view that gave them.

        Servers are asked where the policy says so and time is left; where one fails or failed lately, the
        models on the device answer, within the deadline.
        """
        course = self.course(precision, asked)
        if not self.remote:
            return self, *self.run(images, course, answer=answer)
        count = len(images.images if isinstance(images, Portion) else images)
        limit_s = count * deadline_of(asked.get("remote_deadline_s"))
        if self.remote == frozenset(self.installed):
            until = time.monotonic() + limit_s
            return self, *self.run(images, course, answer=answer, until=until)
        home = self.at_home()
        home.engine.open(home.needed)  # costs nothing once they are
        start, failed = time.monotonic(), False
        if self.reach.away:
            self.reach.look(self._probe)
        else:
            reserve_s = count * self.reach.reserve_s(home.expected_s)
            try:
                return self, *self.run(images, course, answer=answer, until=start + limit_s - reserve_s)
            except TooLateError:
                failed = True
            except UnreachableError as error:
                failed = True
                self.reach.failed(asked=not isinstance(error, CircuitOpenError))
        start = time.monotonic()
        instead = home.course(precision, asked).beside_server(course, failed=failed)
        course, outcomes = home.run(images, instead, answer=answer)
        self.reach.took((time.monotonic() - start) / count)
        return home, course, outcomes

    def _probe(self, until: float) -> None:
        """Ask each model on a server for one made-up input; raises UnreachableError."""
        for name in sorted(self.remote):
            kind = self.kind
            self.engine.ask(name, kind.one(kind.reference(self.bundle.card(name).resolution)), until)

    @property
    def expected_s(self) -> float:
        """What an answer of the models on this device takes at most, by the bundle's costs."""
        names = self.needed if self.policy is None else self.policy.models
        return sum(self.costs.models[name] for name in names) / 1e3

    def run(
        self, images: Batch, course: Course, *, answer: bool, until: float | None = None
    ) -> tuple[Course, list[Outcome]]:
        """Outcomes of images, and the course that they followed; servers have time `until` then.

        Where these answers raise the alarm, no certificate counts for them either: they are made again.
        """
        outcomes = self._outcomes(images, course, answer=answer, until=until)
        if answer and self.watch is not None:
            self.watch.notice(images, outcomes)
            if self.watch.alarm and course.certificate is not None:
                course = course.void()
                outcomes = self._outcomes(images, course, answer=answer, until=until)
        return course, outcomes

    def _outcomes(self, images: Batch, course: Course, *, answer: bool, until: float | None) -> list[Outcome]:
        alone = self.alone(course.asked.constraint)
        asking = None if until is None else self.engine.asking(self.reach, until)
        run = partial(self.engine.run, threshold=course.threshold, alone=alone, answer=answer, asking=asking)
        return run_pieces(run, images) if isinstance(images, Portion) else run(images)

    def _new_course(self, precision: float | None, asked: Asked) -> Course:
        environment = self.proven_for(asked.get("environment"))
        unknown = asked.keys() - Asked.__optional_keys__
        if unknown:
            names = ", ".join(("precision", *Asked.__annotations__))
            raise PrecisionError(f"expected some of {names}, got {', '.join(sorted(unknown))}.")
        levels: Any = {name: level for name, level in asked.items() if name not in _NO_CONSTRAINTS}
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
                proven = covering(self._proven, wanted, policy=i, environment=environment)
                return "models changed" if proven is None else "other provider"  # or it would count
            lacking = set(policy.models) - set(self.installed)
            if self._left_out and lacking <= self._left_out:
                return "models left out"
            if lacking:
                reason = "models missing"
        return reason


def check_threads(threads: int) -> None:
    """Raise :class:`BundleError` unless there is a thread to run in."""
    if threads < 1:
        raise BundleError(f"expected at least one thread, got {threads}.")
