"""The Selector: opens a bundle, picks a model for every image and answers with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from selector.bundle import Bundle, Certificate, covering, needs_graph, read_bundle
from selector.constraint import Constraint, ConstraintKind, constraint
from selector.engine import Engine, Outcome
from selector.policy import CascadePolicy, Policy, StagedPolicy
from zoo.errors import BundleError, ImageError, ModelNotFoundError
from zoo.image import check_batch, check_image

_BATCH = 64  # images per inference of a batch call; bounds memory


@dataclass(frozen=True, slots=True)
class Selection:
    """Which model is enough for an input."""

    model: str
    probability: float  # estimated probability that its answer is right
    cost_ms: float  # expected time of the whole answer on the bundle's device, selection included
    certified: bool  # whether a certificate covers this choice at the asked precision


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer and how it came about."""

    label: str
    probabilities: NDArray[np.float64]  # [C], in the order of Selector.classes
    model: str  # the model that gave the answer, the last one of a committee
    path: tuple[str, ...]  # all models that ran, in order
    probability: float  # estimated probability that the answer is right
    latency_ms: float  # wall-clock time of this answer; in a batch, the mean over the batch
    certified: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to do for one asked precision; without a certificate, the fallback model answers."""

    certificate: Certificate | None
    threshold: float | None


class Asked(TypedDict, total=False):
    """What may be asked of an answer instead of a precision; at most one constraint."""

    max_drop: float  # by how much the precision may lie below the reference model's
    mean_ms: float  # budget of mean time; the most accurate way of answering that keeps it is used
    p95_ms: float  # budget for 95 of 100 answers
    environment: str  # where the image was taken, if certificates of environments are to be used


class Selector:
    """Answers images with the cheapest model that meets a precision.

    Safe to use from several threads at once. Model files are verified and opened when first needed.

    Use :meth:`load`; ``selector.predict(image, precision=0.95)`` then answers one image.
    """

    def __init__(
        self, bundle: Bundle, folder: Path, *, threads: int, models: Sequence[str] | None, device: str | None
    ) -> None:
        self.bundle = bundle
        self.folder = folder
        self.threads = threads
        held = [card.name for card in bundle.models if (folder / card.file).is_file()]
        if models is not None:
            missing = [bundle.card(name).name for name in models if name not in held]
            if missing:
                raise ModelNotFoundError(
                    f"the files of {', '.join(missing)} are not in {folder}. "
                    f"It holds: {', '.join(held) or 'none'}."
                )
            held = [name for name in held if name in models]
        if not held:
            raise BundleError(
                f"expected the file of at least one model in {folder / 'models'}, got none. "
                "Export with the models, or copy the files that bundle.json names."
            )
        self._installed = tuple(held)
        self._costs = bundle.costs_ms(device)
        self._policy = bundle.policy_for(self._installed)
        fallback = next(name for name in bundle.by_accuracy if name in held)
        policy = None if self._policy is None else bundle.policies[self._policy]
        self._engine = Engine(bundle, folder, policy, fallback, threads=threads)
        self._certificates = self._valid_certificates()
        self._plans: dict[tuple[Constraint, str | None] | float | None, _Plan] = {}

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        threads: int = 1,
        models: Sequence[str] | None = None,
        device: str | None = None,
    ) -> Selector:
        """Open the bundle in the folder `path`.

        Parameters
        ----------
        threads
            Threads of one inference.
        models
            Use only these of the models in the bundle; by default all whose files are there.
            The best policy that needs no others is followed.
        device
            Whose costs to report; by default the first device in the bundle.

        Raises
        ------
        BundleError
            When there is no bundle, or no model file in it.
        CardError
            When ``bundle.json`` does not validate.
        SchemaVersionError
            When a newer zooselect wrote it.
        ModelNotFoundError
            When one of `models` is not there.
        """
        if threads < 1:
            raise BundleError(f"expected at least one thread, got {threads}.")
        folder = Path(path)
        return cls(read_bundle(folder), folder, threads=threads, models=models, device=device)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of ``Prediction.probabilities``."""
        return self.bundle.classes

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the installed models."""
        return self._installed

    @property
    def reference(self) -> str:
        """The most accurate installed model: it answers when nothing is certified."""
        return self._engine.fallback

    @property
    def policy(self) -> Policy | None:
        """The policy that is followed with the installed models; None where there is none for them."""
        return self._engine.policy

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """Certificates that are valid for the installed models."""
        return tuple(self._certificates)

    @property
    def certified_precisions(self) -> tuple[float, ...]:
        """Precisions that are certified for the installed models, ascending."""
        return self.certified_levels("precision")

    def certified_levels(self, kind: ConstraintKind, environment: str | None = None) -> tuple[float, ...]:
        """Levels of one kind of constraint that are certified for the installed models, ascending."""
        return tuple(
            sorted(
                certificate.constraint.level
                for certificate in self._certificates
                if certificate.constraint.kind == kind and certificate.environment == environment
            )
        )

    def certificate(self, precision: float | None = None, **asked: Unpack[Asked]) -> Certificate | None:
        """The certificate that covers the constraint (by default the bundle's own), or None.

        A certificate for a stricter constraint covers all laxer ones; the laxest that does is used.
        """
        return self._plan(precision, asked).certificate

    def warm_up(self, height: int = 32, width: int = 32) -> None:
        """Open everything now and run it once, so that the first answer is as fast as the others."""
        self._engine.warm_up(np.zeros((1, height, width, 3), dtype=np.uint8), self._installed)

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores ``[N, M]`` of images ``[N, H, W, 3]``: per model of the policy, how likely it is right.

        Raises
        ------
        BundleError
            When the policy of this bundle needs no selector graph.
        """
        if self.bundle.selector is None:
            raise BundleError("expected a bundle with a selector graph, got one whose policy needs none.")
        return self._engine.scores(check_batch(images))

    def select(
        self, image: NDArray[np.uint8], precision: float | None = None, **asked: Unpack[Asked]
    ) -> Selection:
        """Pick the model that is enough for one image.

        An input policy looks at the image alone. A cascade has to run models to know; :meth:`predict` costs
        no more than this then.

        Parameters
        ----------
        image
            uint8 ``[H, W, 3]``, RGB.
        precision
            Required probability of a right answer, in (0, 1); by default the bundle's own constraint.
        **asked
            Instead a constraint of another kind, and the environment; see :class:`Asked`.

        Raises
        ------
        ImageError, PrecisionError
            For bad arguments.
        """
        plan = self._plan(precision, asked)
        return self._selection(self._engine.run(check_image(image), plan.threshold, answer=False)[0], plan)

    def select_batch(
        self,
        images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
        precision: float | None = None,
        **asked: Unpack[Asked],
    ) -> list[Selection]:
        """:meth:`select` for ``[N, H, W, 3]`` or a sequence of images of any sizes."""
        plan = self._plan(precision, asked)
        return [self._selection(outcome, plan) for outcome in self._run_all(images, plan, answer=False)]

    def predict(
        self, image: NDArray[np.uint8], precision: float | None = None, **asked: Unpack[Asked]
    ) -> Prediction:
        """Answer one image with the cheapest model that meets `precision`.

        Where the precision is not certified for the installed models, the reference model answers and
        ``certified`` is False.

        Parameters
        ----------
        image
            uint8 ``[H, W, 3]``, RGB.
        precision
            Required probability of a right answer, in (0, 1); by default the bundle's own constraint.
        **asked
            Instead a constraint of another kind, and the environment; see :class:`Asked`.

        Raises
        ------
        ImageError, PrecisionError
            For bad arguments.
        DigestError, ModelError
            When a model file is not the recorded one or fails.
        """
        start = time.perf_counter()
        plan = self._plan(precision, asked)
        return self._prediction(
            self._engine.run(check_image(image), plan.threshold, answer=True)[0], plan, start, 1
        )

    def predict_batch(
        self,
        images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
        precision: float | None = None,
        **asked: Unpack[Asked],
    ) -> list[Prediction]:
        """:meth:`predict` for ``[N, H, W, 3]`` or a sequence of images of any sizes."""
        start = time.perf_counter()
        plan = self._plan(precision, asked)
        outcomes = self._run_all(images, plan, answer=True)
        return [self._prediction(outcome, plan, start, len(outcomes)) for outcome in outcomes]

    def _valid_certificates(self) -> list[Certificate]:
        if self._policy is None:
            return []
        digest = self.bundle.subject(self._policy)
        return [
            certificate
            for certificate in self.bundle.certificates
            if certificate.policy == self._policy and certificate.subject_sha256 == digest
        ]

    def _plan(self, precision: float | None, asked: Asked) -> _Plan:
        if not asked and (precision is None or isinstance(precision, float)):  # what most calls ask
            known = self._plans.get(precision)
            if known is not None:
                return known
        return self._new_plan(precision, asked)

    def _new_plan(self, precision: float | None, asked: Asked) -> _Plan:
        environment = asked.get("environment")
        levels: Any = {name: level for name, level in asked.items() if name != "environment"}
        wanted = constraint(precision, **levels) or self.bundle.default
        plan = self._plans.get((wanted, environment))
        if plan is None:
            best = None
            if self._policy is not None:
                best = covering(self._certificates, wanted, policy=self._policy, environment=environment)
            plan = _Plan(best, best.threshold if best else None)
            if len(self._plans) < 1000:  # a caller that varies the constraint must not grow memory for ever
                self._plans[wanted, environment] = plan
                if not asked and environment is None:
                    self._plans[precision] = plan
        return plan

    def _run_all(
        self, images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], plan: _Plan, *, answer: bool
    ) -> list[Outcome]:
        if isinstance(images, np.ndarray):
            batch = check_batch(images)
            return [
                outcome
                for first in range(0, len(batch), _BATCH)
                for outcome in self._engine.run(batch[first : first + _BATCH], plan.threshold, answer=answer)
            ]
        by_size: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            try:
                check_image(image)
            except ImageError as error:
                raise ImageError(f"image {i}: {error}") from None
            by_size.setdefault(image.shape, []).append(i)
        outcomes: dict[int, Outcome] = {}
        for rows in by_size.values():
            for first in range(0, len(rows), _BATCH):
                chunk = rows[first : first + _BATCH]
                run = self._engine.run(np.stack([images[i] for i in chunk]), plan.threshold, answer=answer)
                outcomes.update(zip(chunk, run, strict=True))
        return [outcomes[i] for i in range(len(outcomes))]

    def _selection(self, outcome: Outcome, plan: _Plan) -> Selection:
        cost = sum(self._costs.models[name] for name in outcome.path)
        policy = self._engine.policy
        if plan.certificate is not None and policy is not None:
            if needs_graph(policy):
                cost += self._costs.selector_ms
            if isinstance(policy, StagedPolicy):
                cost += self._costs.stage_ms * len(outcome.path)
            elif isinstance(policy, CascadePolicy) and len(policy.stages) > 1:
                cost += self._costs.confidence_ms * len(outcome.path)
        return Selection(outcome.model, outcome.probability, cost, plan.certificate is not None)

    def _prediction(self, outcome: Outcome, plan: _Plan, start: float, count: int) -> Prediction:
        assert outcome.answer is not None
        return Prediction(
            label=self.classes[int(outcome.answer.argmax())],
            probabilities=outcome.answer,
            model=outcome.model,
            path=outcome.path,
            probability=outcome.probability,
            latency_ms=(time.perf_counter() - start) * 1e3 / count,
            certified=plan.certificate is not None,
        )
