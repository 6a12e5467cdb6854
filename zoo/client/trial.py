"""Trials: the processes in which new models are opened for the first time.

One can be started beforehand, so that it loads Python and ONNX Runtime while a model is still on its way.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline()); "
    "from zoo.client.selftest import answer; answer()"
)


class Trials:
    """For a ``with``: starts processes, and ends in the end what was not used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        if self._ready is not None:
            self._ready.kill()
            self._ready.communicate()
            self._ready = None

    def prepare(self) -> None:
        """Start a process now, for the next :meth:`run`; what is wrong with it shows there."""
        if self._ready is None:
            with contextlib.suppress(OSError):
                self._ready = self._start()

    def run(self, content: bytes, *, timeout_s: float) -> subprocess.CompletedProcess[bytes]:
        """Give a process its input and wait for its end.

        Raises
        ------
        subprocess.TimeoutExpired
            When it takes longer; it was ended then.
        OSError
            When none can be started.
        """
        process, self._ready = self._ready or self._start(), None
        try:
            said, words = process.communicate(content, timeout=timeout_s)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, said, words)

    def _start(self) -> subprocess.Popen[bytes]:
        path = [str(Path(__file__).resolve().parents[1]), *filter(None, sys.path)]
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
            cwd=self._folder,
        )
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended; how, shows in the end
            process.stdin.write(json.dumps(path).encode() + b"\n")
            process.stdin.flush()
        return process
