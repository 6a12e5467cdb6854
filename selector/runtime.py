"""The Selector: opens a bundle, picks a model for every image and answers with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selector.bundle import Bundle, Certificate, read_bundle
from selector.engine import Engine, Outcome
from selector.policy import check_precision, softmax
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
    model: str  # the model that gave the answer
    path: tuple[str, ...]  # all models that ran, in order
    probability: float  # estimated probability that the answer is right
    latency_ms: float  # wall-clock time of this answer; in a batch, the mean over the batch
    certified: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to do for one asked precision; without a certificate, the fallback model answers."""

    certificate: Certificate | None
    threshold: float | None


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
        self._engine = Engine(bundle, folder, self._installed, threads=threads)
        self._costs = bundle.costs_ms(device)
        self._certificates = self._valid_certificates()
        self._plans: dict[float, _Plan] = {}

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
            A certificate counts only for the exact set it was made for.
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
    def certified_precisions(self) -> tuple[float, ...]:
        """Precisions that are certified for the installed models, ascending."""
        return tuple(certificate.precision for certificate in self._certificates)

    def certificate(self, precision: float | None = None) -> Certificate | None:
        """The certificate that covers `precision` (by default the bundle's own), or None.

        A certificate for a higher precision covers all lower ones; the lowest that does is used.
        """
        return self._plan(precision).certificate

    def warm_up(self, height: int = 32, width: int = 32) -> None:
        """Open everything now and run it once, so that the first answer is as fast as the others."""
        image = np.zeros((1, height, width, 3), dtype=np.uint8)
        if self.bundle.selector is not None:
            self._engine.scores(image)
        for name in self._installed:
            self._engine.logits(name, image)

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

    def select(self, image: NDArray[np.uint8], precision: float | None = None) -> Selection:
        """Pick the model that is enough for one image.

        An input policy looks at the image alone. A cascade has to run models to know; :meth:`predict` costs
        no more than this then.

        Parameters
        ----------
        image
            uint8 ``[H, W, 3]``, RGB.
        precision
            Required probability of a right answer, in (0, 1); by default the bundle's own.

        Raises
        ------
        ImageError, PrecisionError
            For bad arguments.
        """
        plan = self._plan(precision)
        return self._selection(self._engine.run(check_image(image), plan.threshold, answer=False)[0], plan)

    def select_batch(
        self, images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], precision: float | None = None
    ) -> list[Selection]:
        """:meth:`select` for ``[N, H, W, 3]`` or a sequence of images of any sizes."""
        plan = self._plan(precision)
        return [self._selection(outcome, plan) for outcome in self._run_all(images, plan, answer=False)]

    def predict(self, image: NDArray[np.uint8], precision: float | None = None) -> Prediction:
        """Answer one image with the cheapest model that meets `precision`.

        Where the precision is not certified for the installed models, the reference model answers and
        ``certified`` is False.

        Parameters
        ----------
        image
            uint8 ``[H, W, 3]``, RGB.
        precision
            Required probability of a right answer, in (0, 1); by default the bundle's own.

        Raises
        ------
        ImageError, PrecisionError
            For bad arguments.
        DigestError, ModelError
            When a model file is not the recorded one or fails.
        """
        start = time.perf_counter()
        plan = self._plan(precision)
        return self._prediction(
            self._engine.run(check_image(image), plan.threshold, answer=True)[0], plan, start, 1
        )

    def predict_batch(
        self, images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], precision: float | None = None
    ) -> list[Prediction]:
        """:meth:`predict` for ``[N, H, W, 3]`` or a sequence of images of any sizes."""
        start = time.perf_counter()
        plan = self._plan(precision)
        outcomes = self._run_all(images, plan, answer=True)
        return [self._prediction(outcome, plan, start, len(outcomes)) for outcome in outcomes]

    def _valid_certificates(self) -> list[Certificate]:
        digest = self.bundle.subject(sorted(self._installed))
        return sorted(
            (
                certificate
                for certificate in self.bundle.certificates
                if set(certificate.models) == set(self._installed) and certificate.subject_sha256 == digest
            ),
            key=lambda certificate: certificate.precision,
        )

    def _plan(self, precision: float | None) -> _Plan:
        asked = check_precision(self.bundle.default_precision if precision is None else precision)
        plan = self._plans.get(asked)
        if plan is None:
            covering = next((c for c in self._certificates if c.precision >= asked - 1e-12), None)
            plan = _Plan(covering, covering.threshold if covering else None)
            if len(self._plans) < 1000:  # a caller that varies the precision must not grow memory for ever
                self._plans[asked] = plan
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
        if plan.certificate is not None and not self._engine.stages:
            cost += self._costs.selector_ms
        return Selection(outcome.model, outcome.probability, cost, plan.certificate is not None)

    def _prediction(self, outcome: Outcome, plan: _Plan, start: float, count: int) -> Prediction:
        assert outcome.logits is not None
        probabilities = softmax(outcome.logits[np.newaxis])[0]
        label = self.classes[int(probabilities.argmax())]
        return Prediction(
            label=label,
            probabilities=probabilities,
            model=outcome.model,
            path=outcome.path,
            probability=outcome.probability,
            latency_ms=(time.perf_counter() - start) * 1e3 / count,
            certified=plan.certificate is not None,
        )
