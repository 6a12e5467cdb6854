"""A selector in one ONNX file: its graph decides and answers, for the constraint it was written for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from selector.answering.engine import Engine
from selector.answering.reach import Asking
from selector.answering.recent import Question
from selector.answering.runners import Outcome
from selector.answering.view import Asked, Course, View
from selector.bundle.one_file import (
    DRIFT_OUTPUTS,
    OUTPUTS,
    OneFile,
    check_runtime,
    feeds_of,
    inputs_of,
    read_one_file,
)
from selector.bundle.ort_copy import open_copied
from selector.bundle.source import FolderSource, Source
from selector.policies.policy import Policy
from selector.policies.rules import MAX_LISTED
from zoo.errors import BundleError, LimitError, ModelError, NotFiniteError, PrecisionError
from zoo.inputs.kind import TYPES, Batch
from zoo.models.runs import Runs
from zoo.models.session import open_session
from zoo.providers import CPU, Provider

_TYPES = {
    "probabilities": "tensor(double)",
    "class_index": "tensor(int64)",
    "label": "tensor(string)",
    "model": "tensor(string)",
    "path": "tensor(string)",
    "probability": "tensor(double)",
    "drift_features": "tensor(float)",
    "confidence": "tensor(double)",
}
_USED = ("probabilities", "path", "probability")


class FileEngine(Engine):
    """Runs the graph of a file, input by input; what it decides is in the graph."""

    def __init__(self, record: OneFile, session: ort.InferenceSession, path: Path, *, watch: bool) -> None:
        bundle = record.bundle
        policy = None if record.threshold is None else bundle.policies[0]
        fallback = next(name for name in bundle.by_accuracy if name in record.models)
        super().__init__(bundle, FolderSource(path.parent), policy, fallback, threads=1, watch=watch)
        self._path, self._session = path, Runs(session)
        self._names = [*_USED, *(name for name in DRIFT_OUTPUTS if watch and name in _held(session))]
        self._estimates = policy is not None

    @property
    def in_use(self) -> bool:
        """Whether any session is open: always."""
        return True

    def open(self, models: Sequence[str]) -> None:
        """Nothing is left to open."""

    def warm_up(self, image: Batch, models: Sequence[str]) -> None:
        """Run once on a batch of one input."""
        self.run(image, None, answer=True)

    def run(
        self,
        batch: Batch,
        threshold: float | None,
        *,
        answer: bool,
        alone: str | None = None,
        asking: Asking | None = None,
    ) -> list[Outcome]:
        """Answers to a batch; nothing else that is asked changes the graph.

        Raises
        ------
        NotFiniteError
            When a model in it gives NaN or infinity.
        ModelError, LimitError
            When it fails.
        """
        return [self._answer(batch[i : i + 1]) for i in range(len(batch))]

    def one(self, image: Batch, threshold: float | None, *, alone: str) -> Outcome:
        """:meth:`run` for one input."""
        return self._answer(image)

    def open_drift(self) -> None:
        """What is watched is in the same graph."""

    def watched(self, batch: Batch) -> NDArray[np.float32]:
        """Features ``[N, F]`` that tell whether inputs have changed."""
        wanted = ["drift_features"]
        return np.stack([self._run(batch[i : i + 1], wanted)[0] for i in range(len(batch))])

    def _answer(self, image: Batch) -> Outcome:
        probabilities, path, probability, *rest = self._run(image, self._names)
        estimate = float(probability)
        top: int | None = None
        if len(probabilities) <= MAX_LISTED:  # one pass over a list takes less time than two of numpy
            listed = probabilities.tolist()
            total, top = sum(listed), listed.index(max(listed))
        else:
            total = probabilities.sum()
        if not math.isfinite(total) or (self._estimates and estimate != estimate):
            raise NotFiniteError(
                f"{self._path}: expected a finite answer, got NaN for {self._words(image)}, which "
                "means nothing. Export the file again without the model that computes it."
            )
        ran = tuple(path.tolist())
        confidence = float(rest[1]) if len(rest) > 1 else None
        return Outcome(ran[-1], ran, estimate, probabilities, None, confidence, top)

    def _run(self, image: Batch, names: list[str]) -> list[NDArray[Any]]:
        try:
            return self._session.run(names, feeds_of(self.kind, image), image.nbytes)
        except MemoryError as error:
            raise LimitError(
                f"{self._path}: expected an answer, got {error}. Give smaller {self.kind.noun}s.",
                str(self._path),
            ) from error
        except Exception as error:  # ONNX Runtime raises a family of unrelated classes
            raise ModelError(
                f"{self._path} failed on {self._words(image)}: {str(error).strip()[:300]}. "
                f"A model in it may not take {self.kind.noun}s of this size."
            ) from error

    def _words(self, image: Batch) -> str:
        return f"one {self.kind.noun} {list(image.shape[1:])}"


class FileView(View):
    """The view of a file: one policy, one question.

    Parameters
    ----------
    record
        Of the file.
    session
        That is open.
    """

    def __init__(
        self,
        record: OneFile,
        session: ort.InferenceSession,
        path: Path,
        *,
        costs_of: str | None = None,
        watch: bool = False,
    ) -> None:
        self._record, self._open, self._path = record, session, path
        super().__init__(
            record.bundle,
            FolderSource(path.parent),
            record.models,
            threads=1,
            costs_of=costs_of,
            watch=watch,
            refuse_unknown=True,
        )
        self._fixed = Question(record.constraint, self.proven_for(record.environment))

    def _engine_of(self, source: Source, policy: Policy | None, fallback: str, *, watch: bool) -> Engine:
        return FileEngine(self._record, self._open, self._path, watch=watch)

    def proven_for(self, environment: str | None) -> str | None:
        """As of :meth:`View.proven_for`; by default the environment that the file was written for."""
        return super().proven_for(self._record.environment if environment is None else environment)

    def course(self, precision: float | None, asked: Asked) -> Course:
        """What to do for a constraint that the file was written for, or a laxer one.

        Raises
        ------
        PrecisionError
            For another one.
        """
        course = super().course(precision, asked)
        if course.certificate is None and course.reason != "drift" and course.asked != self._fixed:
            where = "" if self._fixed.environment is None else f" in {self._fixed.environment!r}"
            raise PrecisionError(
                f"expected what {self._path.name} was written for, {self._fixed.constraint}{where}, or less, "
                f"got {course.asked.constraint}. Ask for that, leave it out, or write another file with "
                "'zooselect export --one-file'."
            )
        return course


def open_one_file(
    path: Path,
    threads: int,
    models: Sequence[str] | None,
    costs_of: str | None,
    watch: bool,
    provider: Provider = CPU,
    cache: str | Path | None = None,
) -> FileView:
    """Open a selector in one file, with the parameters of ``Selector.load``.

    Raises
    ------
    BundleError
        When it is none, or cannot do what is asked of it.
    CardError, SchemaVersionError
        When its record does not validate, or it needs a newer zooselect or ONNX Runtime.
    ModelError
        When ONNX Runtime does not load it, or it has other inputs or outputs.
    """
    record, content = read_one_file(path)
    if models is not None and set(models) != set(record.models):
        raise BundleError(
            f"{path}: expected the models in the file, {', '.join(record.models)}, got {', '.join(models)}. "
            "Leave them out, or write a file with those: it cannot answer with some of its models."
        )
    if watch and not record.drift:
        raise BundleError(
            f"{path}: expected a file with the drift features, got one without. Write it with "
            "'zooselect export --one-file FILE --drift', or do not watch."
        )
    if not provider.is_cpu:
        raise BundleError(
            f"{path}: expected the CPU for a selector in one file, which is certified as a whole there, got "
            f"{provider}. Load a bundle with providers, or leave them out."
        )
    check_runtime(record, ort.__version__, str(path))
    if cache is None:
        session = open_session(content, name=str(path), threads=threads)
    else:
        session = open_copied(content, Path(cache), name=str(path), threads=threads)
    _check_signature(session, record, path)
    return FileView(record, session, path, costs_of=costs_of, watch=watch)


def _held(session: ort.InferenceSession) -> dict[str, str]:
    return {output.name: output.type for output in session.get_outputs()}


def _check_signature(session: ort.InferenceSession, record: OneFile, path: Path) -> None:
    needed = (*OUTPUTS, *(DRIFT_OUTPUTS[:1] if record.drift else ()))
    wanted = {name: _TYPES[name] for name in needed}
    taken = inputs_of(record.bundle.kind)
    inputs = [(one.name, one.type, len(one.shape)) for one in session.get_inputs()]
    outputs = _held(session)
    if (
        inputs != [(one.name, TYPES[one.type], len(one.axes)) for one in taken]
        or {name: outputs.get(name) for name in wanted} != wanted
        or session.get_outputs()[0].shape != [len(record.bundle.classes)]
    ):
        got = ", ".join(f"{name} {kind}" for name, kind in outputs.items())
        raise ModelError(
            f"{path}: expected {', '.join(map(str, taken))} → {', '.join(needed)}, got "
            f"{', '.join(name for name, *_ in inputs)} → {got}. Write the file again."
        )
