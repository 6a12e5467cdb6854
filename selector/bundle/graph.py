"""Graphs of a bundle: verified, opened once when first needed, and run with errors that say what to do."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import onnxruntime as ort
from numpy.typing import NDArray

from selector.bundle.source import Source
from zoo.errors import LimitError, ModelError
from zoo.models.runs import Runs
from zoo.models.session import open_session


class File(Protocol):
    """The record of a graph."""

    @property
    def file(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...


class Graph:
    """One graph. Safe to use from several threads.

    Parameters
    ----------
    name
        What it is called in errors.
    inputs
        Name of every input → its type, as in ``tensor(uint8)``.
    outputs
        Outputs that are used → length of their last axis, or None for any.
    """

    def __init__(
        self,
        source: Source,
        record: File,
        *,
        name: str,
        inputs: Mapping[str, str],
        outputs: Mapping[str, int | None],
    ) -> None:
        self._source = source
        self._record = record
        self._name = name
        self._inputs = dict(inputs)
        self._outputs = dict(outputs)
        self._lock = threading.Lock()
        self._runs: Runs | None = None

    @property
    def opened(self) -> bool:
        """Whether it has been opened."""
        return self._runs is not None

    def is_like(self, other: Graph) -> bool:
        """Whether both are the same file with the same inputs and outputs."""
        mine, its = self._record, other._record
        return (mine.sha256, self._inputs, self._outputs) == (its.sha256, other._inputs, other._outputs)

    def open(self) -> Runs:
        """Open it, unless it is open.

        Raises
        ------
        BundleError, DigestError
            When the file is not there, or not the recorded one.
        ModelError
            When it does not load, or has other inputs or outputs.
        """
        with self._lock:
            if self._runs is None:
                record, limits = self._record, self._source.limits
                content = self._source.read(record.file, record.sha256, record.size_bytes)
                memory = None if limits is None else limits.memory_bytes
                session = open_session(content, name=self._name, threads=1, memory_bytes=memory)
                self._check(session)
                self._runs = Runs(session, limits=limits)
            return self._runs

    def run(
        self, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]], input_bytes: int | None = None
    ) -> list[NDArray[Any]]:
        """Values of `outputs`, for inputs of that many bytes, by default those of `feeds`.

        Raises
        ------
        ModelError
            When it fails; also what :meth:`open` raises.
        LimitError
            When it takes more than the source's limits allow.
        """
        runs = self._runs or self.open()
        if input_bytes is None:
            input_bytes = sum(value.nbytes for value in feeds.values())
        try:
            return runs.run(outputs, feeds, input_bytes)
        except (TimeoutError, MemoryError) as error:
            raise LimitError(
                f"{self._name}: expected its answer, got {error}. "
                "Give smaller images, or raise the limit if this machine can.",
                self._name,
            ) from error
        except Exception as error:
            shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in feeds.items())
            raise ModelError(
                f"{self._name} failed on {shapes}: {str(error)[:300]}. Export the bundle again."
            ) from error

    def _check(self, session: ort.InferenceSession) -> None:
        inputs = {item.name: item.type for item in session.get_inputs()}
        outputs = {item.name: item.shape[-1] if item.shape else None for item in session.get_outputs()}
        missing = [
            name
            for name, length in self._outputs.items()
            if name not in outputs or length not in (None, outputs[name])
        ]
        if inputs != self._inputs or missing:
            raise ModelError(
                f"{self._name}: expected {_signature(self._inputs, self._outputs)}, "
                f"got {_signature(inputs, outputs)}. Export the bundle again."
            )


def _signature(inputs: Mapping[str, str], outputs: Mapping[str, object]) -> str:
    taken = ", ".join(f"{name} {kind}" for name, kind in inputs.items())
    given = ", ".join(name if size is None else f"{name} [{size}]" for name, size in outputs.items())
    return f"{taken} → {given}"
