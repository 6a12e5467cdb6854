"""Trials: the processes in which new models are opened for the first time.

One can be started beforehand, so that it loads Python and ONNX Runtime while a model is still on its way.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType

from zoo.process import Ended, Process

FUNCTION = "zoo.client.selftest:answer"


class Trials:
    """For a ``with``: starts processes, and ends in the end what was not used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready: Process | None = None

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        if self._ready is not None:
            self._ready.end()
            self._ready = None

    def prepare(self) -> None:
        """Start a process now, for the next :meth:`run`; what is wrong with it shows there."""
        if self._ready is None:
            with contextlib.suppress(OSError):
                self._ready = Process(FUNCTION, folder=self._folder)

    def run(self, content: bytes, *, timeout_s: float) -> Ended:
        """Give a process its input and wait for its end.

        Raises
        ------
        TimeoutError
            When it takes longer; it was ended then.
        OSError
            When none can be started.
        """
        process, self._ready = self._ready or Process(FUNCTION, folder=self._folder), None
        return process.ask(content, timeout_s=timeout_s)
