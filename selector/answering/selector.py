"""The Selector: opens a bundle, picks a model for every image and answers with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from selector.answering.answers import Prediction, Selection, prediction, selection
from selector.answering.batches import Batch, Images, portions
from selector.answering.engine import Engine
from selector.answering.one_file import open_one_file
from selector.answering.runners import Outcome
from selector.answering.view import Asked, Course, View, check_threads
from selector.bundle.bundle import Bundle, read_bundle
from selector.bundle.certificate import Certificate
from selector.bundle.source import FolderSource
from selector.drift.monitor import DriftStatus
from selector.policies.constraint import ConstraintKind, known_kind
from selector.policies.policy import Policy
from zoo.errors import BundleError, DigestError, LimitError, ModelNotFoundError, ZooError
from zoo.inputs.kind import InputKind
from zoo.inputs.kinds import InputLike
from zoo.providers import CPU, Provider, ProviderLike

__all__ = ["Prediction", "Selection", "Selector"]


class Selector:
    """Answers images, or other inputs, with the cheapest model that meets a precision.

    Safe to use from several threads at once. Model files are verified and opened when first needed.
    Use :meth:`load`; ``selector.predict(image, precision=0.95)`` then answers one image.

    Examples
    --------
    >>> from selector import Selector
    >>> selector = Selector.load("my-bundle")
    >>> selector.predict("photos/red/1.png", precision=0.9).label
    'red'
    """

    def __init__(self, view: View, folder: Path, *, threads: int) -> None:
        self.folder = folder
        self.threads = threads
        self._view = view

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        threads: int = 1,
        models: Sequence[str] | None = None,
        costs_of: str | None = None,
        watch: bool = False,
        providers: ProviderLike = CPU,
        cache: str | Path | None = None,
    ) -> Selector:
        """Open the bundle in the folder `path`, or a selector in one file, for its constraint and laxer ones.

        Parameters
        ----------
        threads
            Threads of one inference.
        models
            Use only these of the models in the bundle; by default all whose files are there. The best policy
            that needs no others is followed.
        costs_of
            The device whose measured costs to report; by default the first in the bundle.
        watch
            Notice when images are not like those of the calibration any more, where the bundle can tell; see
            :attr:`drift`. For images in the order in which they were taken: images sorted by class, or one
            image over and over, are a change as well, after which no certificate counts.
        providers
            What runs the models, such as ``"OpenVINO:device_type=GPU"``. On another execution provider than
            the CPU's a certificate counts only where ``zooselect agree`` has shown how far answers agree.
        cache
            Of a selector in one file: folder for a copy that opens faster, made where it is missing.

        Raises
        ------
        BundleError, ModelNotFoundError
            When there is no bundle, no model file in it, or one of `models` is not there.
        CardError, SchemaVersionError
            When ``bundle.json`` does not validate, or a newer zooselect wrote it.

        Examples
        --------
        >>> small = Selector.load("my-bundle", models=["tiny", "small"])
        >>> small.reference
        'small'
        """
        check_threads(threads)
        folder = Path(path)
        if folder.is_file() or cache is not None:
            found = open_one_file(folder, threads, models, costs_of, watch, Provider.of(providers), cache)
            return cls(found, folder, threads=threads)
        bundle, source = read_bundle(folder), FolderSource(folder, Provider.of(providers))
        held = source.chosen(bundle, models)
        view = View(
            bundle, source, held, threads=threads, costs_of=costs_of, watch=watch, refuse_unknown=True
        )
        return cls(view, folder, threads=threads)

    @property
    def bundle(self) -> Bundle:
        """The bundle that is followed."""
        return self._view.bundle

    @property
    def provider(self) -> Provider:
        """The execution provider that runs the models."""
        return self._engine.source.provider

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of ``Prediction.probabilities``."""
        return self._view.bundle.classes

    @property
    def kind(self) -> InputKind:
        """The kind of input that is answered."""
        return self._view.kind

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the installed models."""
        return self._view.installed

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
        """Certificates that are valid for the installed models; none once inputs have drifted."""
        return () if self._view.drifted else tuple(self._view.certificates)

    @property
    def certified_precisions(self) -> tuple[float, ...]:
        """Precisions that are certified for the installed models, ascending."""
        return self.certified_levels("precision")

    def certified_levels(
        self, kind: ConstraintKind | Literal["accuracy"], environment: str | None = None
    ) -> tuple[float, ...]:
        """Levels of one kind of constraint that are certified for the installed models, ascending.

        Raises
        ------
        PrecisionError
            For no kind of constraint.

        Examples
        --------
        >>> max(selector.certified_levels("precision")) > 0.8
        True
        """
        wanted = known_kind(kind)
        return tuple(
            sorted(
                certificate.constraint.level
                for certificate in self.certificates
                if certificate.constraint.kind == wanted
                and certificate.environment == self._view.proven_for(environment)
            )
        )

    def certificate(self, precision: float | None = None, **asked: Unpack[Asked]) -> Certificate | None:
        """The certificate that covers the constraint (by default the bundle's own), or None.

        A certificate for a stricter constraint covers all laxer ones; the laxest that does is used.

        Examples
        --------
        >>> selector.certificate(accuracy=0.85).constraint.level >= 0.85
        True
        """
        return self._view.for_asked(asked).course(precision, asked).certificate

    def warm_up(self, height: int = 32, width: int = 32) -> None:
        """Open everything now and run it once, so that the first answer is as fast as the others.

        Examples
        --------
        >>> selector.warm_up(480, 640)  # of the size that the camera gives; a signal: warm_up(1, 4096)
        """
        view = self._view
        item = view.kind.random((height, width), np.random.default_rng(0))
        view.engine.warm_up(view.kind.one(item), view.installed)

    def open(self) -> None:
        """Open everything that answers need now, without running it.

        Examples
        --------
        >>> selector.open()
        """
        view = self._view
        view.engine.open(view.needed)

    @property
    def drift(self) -> DriftStatus | None:
        """Whether the images are still like those of the calibration, and what has changed.

        Every input that is answered counts; asking looks at those that wait. After an alarm the reference
        model answers and nothing is certified, until :meth:`reset_drift`. None where the bundle has no drift
        reference, or none is watched.
        """
        watch = self._view.watch
        return None if watch is None else watch.status()

    @property
    def drifted(self) -> bool:
        """Whether there was an alarm; costs nothing to ask after every answer."""
        return self._view.drifted

    @property
    def inputs_seen(self) -> int:
        """Images since watching began or began anew; 0 where none is watched."""
        watch = self._view.watch
        return 0 if watch is None else watch.seen

    def reset_drift(self) -> None:
        """Watch anew, and believe the certificates again: once the cause of an alarm is gone.

        Examples
        --------
        >>> if selector.drifted:  # and its cause is gone
        ...     selector.reset_drift()
        """
        watch = self._view.watch
        if watch is not None:
            watch.reset()

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores ``[N, M]`` of images ``[N, H, W, 3]``: per model of the policy, how likely it is right.
        Raises :class:`BundleError` where there is no selector graph.

        Examples
        --------
        >>> Selector.load("input-bundle").scores(image[np.newaxis]).shape
        (1, 3)
        """
        if self.bundle.selector is None:
            raise BundleError("expected a bundle with a selector graph, got one whose policy needs none.")
        return self._engine.scores(self.kind.batch(images))

    def select(self, image: InputLike, precision: float | None = None, **asked: Unpack[Asked]) -> Selection:
        """Pick the model that is enough for one image.

        An input policy looks at the image alone. A cascade has to run models to know; :meth:`predict` costs
        no more than this then. Takes and raises what :meth:`predict` does.

        Examples
        --------
        >>> selector.select(image, max_drop=0.05).model in selector.models
        True
        """
        view, course, outcomes = self._run(self._view.kind.one(image), precision, asked, answer=False)
        return selection(outcomes[0], course, view)

    def select_batch(
        self, images: Images, precision: float | None = None, **asked: Unpack[Asked]
    ) -> list[Selection]:
        """:meth:`select` for ``[N, H, W, 3]``, or an iterable of images of any sizes.

        Examples
        --------
        >>> [found.certified for found in selector.select_batch([image, "photos/blue/1.png"])]
        [True, True]
        """
        self._view.for_asked(asked).course(precision, asked)  # checked before anything is read
        found: list[Selection] = []
        for portion in portions(images, self._view.kind):
            view, course, outcomes = self._run(portion, precision, asked, answer=False)
            found += [selection(outcome, course, view) for outcome in outcomes]
        return found

    def predict(self, image: InputLike, precision: float | None = None, **asked: Unpack[Asked]) -> Prediction:
        """Answer one image with the cheapest model that meets `precision`.

        Where the precision is not certified for the installed models, the reference model answers and
        ``certified`` is False.

        Parameters
        ----------
        image
            uint8 ``[H, W, 3]``, RGB; a PIL image; or the path of a file; or what :attr:`kind` says.
        precision
            The share of right answers to reach, in (0, 1), also as ``accuracy=``; by default the bundle's own
            constraint.
        **asked
            Instead a constraint of another kind, and the environment; see :class:`Asked`.

        Raises
        ------
        InputError, PrecisionError, DigestError, ModelError
            For bad arguments; when a model file is not the recorded one or fails.

        Examples
        --------
        >>> answer = selector.predict(image, precision=0.9, environment="clear")
        >>> answer.label, answer.certified
        ('red', True)
        """
        batch, start = self._view.kind.one(image), time.perf_counter()
        self._look(start)
        view, failed = self._view, None
        if asked:
            view = view.for_asked(asked)
        if not view.remote:
            try:
                course, outcome = view.one(batch, precision, asked)
            except (DigestError, ModelNotFoundError, LimitError) as error:
                failed = error
        if view.remote or failed is not None:
            view, course, outcomes = self._run(batch, precision, asked, answer=True, failed=failed)
            outcome = outcomes[0]
        view.recent.note(course.asked, course.certificate is not None, outcome)
        return prediction(outcome, course, view, start, 1)

    def predict_batch(
        self, images: Images, precision: float | None = None, **asked: Unpack[Asked]
    ) -> list[Prediction]:
        """:meth:`predict` for ``[N, H, W, 3]``, or an iterable of images of any sizes and of any length.
        A few hundred of an iterable are read at a time; errors name the place of the image.

        Raises
        ------
        InputError
            When one of the images is none; those before it may have been answered and are lost.
        NotFiniteError
            When a model or graph gives NaN or infinity for one of the images: no answer to it can be trusted.

        Examples
        --------
        >>> from pathlib import Path
        >>> [answer.label for answer in selector.predict_batch(sorted(Path("photos").glob("*/1.png")))]
        ['blue', 'green', 'red']
        """
        self._view.for_asked(asked).course(precision, asked)  # checked before anything is read
        found: list[Prediction] = []
        for portion in portions(images, self._view.kind):
            start = time.perf_counter()
            self._look(start)
            view, course, outcomes = self._run(portion, precision, asked, answer=True)
            for outcome in outcomes:
                view.recent.note(course.asked, course.certificate is not None, outcome)
            found += [prediction(outcome, course, view, start, len(outcomes)) for outcome in outcomes]
        return found

    @property
    def _engine(self) -> Engine:
        return self._view.engine

    def _run(
        self,
        images: Batch,
        precision: float | None,
        asked: Asked,
        *,
        answer: bool,
        failed: ZooError | None = None,
    ) -> tuple[View, Course, list[Outcome]]:
        """Outcomes of images, all from the same view; `failed` is what a first attempt ended with."""
        if isinstance(failed, LimitError):
            raise failed
        return self._run_in(self._view, images, precision, asked, answer=answer)

    def _run_in(
        self, view: View, images: Batch, precision: float | None, asked: Asked, *, answer: bool
    ) -> tuple[View, Course, list[Outcome]]:
        """Outcomes of images from a view, or from a newer one where its models are lost."""
        while True:
            try:
                return view.for_asked(asked).answer(images, precision, asked, answer=answer)
            except (DigestError, ModelNotFoundError):
                newer = self._after_loss(view)
                if newer is None:
                    raise
                view = newer

    def _look(self, now: float) -> None:
        """Before an answer: a chance to look for other models. There are none for a bundle in a folder."""

    def _after_loss(self, view: View) -> View | None:
        """The view to go on with when a model of `view` is not there any more, if there is another."""
        return None
