"""Runs of an open graph: what a rare large input took of memory is given back, and limits are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from zoo.models.limits import RunLimits, is_short_of_memory
from zoo.providers import CPU

_LARGE_BYTES = 2**20  # an input below this takes no memory that is worth giving back
_ALIKE = 2  # inputs that differ by this factor at most are of one size
_SEED_SIDE = 32

_GIVES_BACK = ("memory.enable_memory_arena_shrinkage", "cpu:0")


class OneByOne:
    """Runs of single inputs in place of a batch: what its session takes."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def run(
        self, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]], input_bytes: int
    ) -> list[NDArray[Any]]:
        """As of :class:`Runs`."""
        count = min(map(len, feeds.values()))
        if count == 1:
            return self._runs.run(outputs, feeds, input_bytes)
        rows = [
            self._runs.run(
                outputs,
                {name: value[i : i + 1] for name, value in feeds.items()},
                input_bytes // max(1, count),
            )
            for i in range(count)
        ]
        return [np.concatenate(values) for values in zip(*rows, strict=True)]


class Runs:
    """Runs a session. Safe to use from several threads.

    ONNX Runtime keeps the memory of a run for the next one. It is kept here as long as inputs are of one
    size, and given back when a large one was followed by another size, or comes after one: so memory is held
    for what is asked again and again, and a single photograph of many megapixels leaves nothing behind.

    Parameters
    ----------
    arena
        Whether the session keeps memory at all.
    limits
        What a run may take; None: anything.
    """

    def __init__(
        self, session: ort.InferenceSession, *, arena: bool = True, limits: RunLimits | None = None
    ) -> None:
        self.session = session
        # Without checks in Python of what a caller here has checked; beside a small model they would be felt.
        # On other providers they also fall back to the CPU.
        on_cpu = session.get_providers() == [CPU.name]
        self._run = getattr(session, "_sess", session).run if on_cpu else session.run
        self._arena = arena
        self._limits = limits
        self._last_bytes = 0
        self._gives_back = ort.RunOptions()
        self._gives_back.add_run_config_entry(*_GIVES_BACK)

    def run(
        self, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]], input_bytes: int
    ) -> list[NDArray[Any]]:
        """Values of `outputs`, for inputs of that many bytes; raises what ONNX Runtime does.

        Raises
        ------
        TimeoutError, MemoryError
            When it takes more than the limits allow.
        """
        last, self._last_bytes = self._last_bytes, input_bytes
        options = None
        if (input_bytes > _LARGE_BYTES or last > _LARGE_BYTES) and self._arena:
            if not last <= _ALIKE * input_bytes <= _ALIKE * _ALIKE * last:
                options = self._gives_back
            if not last and self._limits is None:
                self._seed(feeds)
        if self._limits is not None:
            return self._limited(self._limits, outputs, feeds, gives_back=options is not None)
        values: list[NDArray[Any]] = self._run(outputs, feeds, options)
        return values

    def _limited(
        self,
        limits: RunLimits,
        outputs: Sequence[str],
        feeds: Mapping[str, NDArray[Any]],
        *,
        gives_back: bool,
    ) -> list[NDArray[Any]]:
        options = ort.RunOptions()  # of its own: it may be told to end
        if gives_back:
            options.add_run_config_entry(*_GIVES_BACK)
        try:
            values: list[NDArray[Any]] = limits.run(
                lambda: self.session.run(outputs, feeds, options), options, max(map(len, feeds.values()))
            )
        except Exception as error:
            if is_short_of_memory(error):
                most = "there is" if limits.memory_bytes is None else f"{limits.memory_bytes:,} bytes"
                raise MemoryError(f"a run that takes more memory than {most}") from error
            raise
        return values

    def _seed(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Begin the arena with a small input: it never gives its first region back."""
        try:
            self.session.run(
                None,
                {
                    name: value[(slice(1), *[slice(_SEED_SIDE)] * min(2, value.ndim - 1))]
                    for name, value in feeds.items()
                },
            )
        except Exception:  # it takes no other size, so that its memory is that of its one size
            return


def all_finite(values: NDArray[np.float32]) -> bool:
    """Whether no value is NaN or infinite.

    The sum of squares costs less than looking at each value, which would be felt beside a small model. Only
    where that sum overflows is each value looked at.
    """
    return math.isfinite(np.vdot(values, values)) or bool(np.isfinite(values).all())
