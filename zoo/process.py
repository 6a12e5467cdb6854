"""A process of our own: a fresh interpreter that runs one function, and that ends for certain.

It is never a fork of this one, so that no lock, thread or session of this one is in it. Python begins there
without its environment variables (``-I``) and start-up files (``-S``); this process tells it where to import
from. It ends when it is told to, when its time is up, and within a second after its parent died. What runs
there is in :mod:`zoo.child`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LISTENER_PATIENCE_S = 1.0  # for the end of its standard error, which others may hold open
MAX_STDERR_BYTES = 4096  # of its standard error, the last ones
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
_ROOT = str(Path(__file__).resolve().parents[1])
_START = (
    "import json, sys; order = json.loads(sys.stdin.buffer.readline()); sys.path[:] = order['path']; "
    "from zoo.child import run; run(order)"
)


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    status: int  # its exit status, or minus the signal that ended it
    said: bytes  # on standard output, as far as nobody has read it before
    words: str  # the last ones on standard error

    @property
    def how(self) -> str:
        """Its status or the name of the signal."""
        return signal.Signals(-self.status).name if self.status < 0 else f"status {self.status}"


class Process:
    """Starts now and loads the function; what is wrong with it shows when it is asked.

    Parameters
    ----------
    function
        ``package.module:name`` of a function of two byte streams: what it is told, and what it answers, which
        it flushes when somebody waits for a line. Other things that it prints go to standard error.
    folder
        Where it works; None: where this process does.
    own_group
        Whether it leads a group of processes: an interrupt from the keyboard does not reach it, and the
        processes that it has started end with it.

    Raises
    ------
    OSError
        When none can be started.
    """

    def __init__(self, function: str, *, folder: Path | None = None, own_group: bool = False) -> None:
        self._own_group = own_group
        words, words_end = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _START],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words_end,
                env={**os.environ, **_ENVIRONMENT},
                cwd=folder,
                start_new_session=own_group,
            )
        except BaseException:
            os.close(words)
            raise
        finally:
            os.close(words_end)
        assert self._process.stdin is not None
        assert isinstance(self._process.stdout, io.RawIOBase)
        self._orders: IO[bytes] = self._process.stdin
        self._answers: IO[bytes] = io.BufferedReader(self._process.stdout)
        self._words: bytes = b""
        listener = threading.Thread(target=self._listen, args=(words,), name="words", daemon=True)
        listener.start()
        self._listener: threading.Thread = listener
        order = {"path": list(_import_path()), "function": function, "parent": os.getpid()}
        with contextlib.suppress(OSError):  # it has ended; how, shows in the end
            self.tell(json.dumps(order).encode() + b"\n")

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def tell(self, content: bytes) -> None:
        """Give it content; raises :class:`OSError` when it has ended."""
        left = memoryview(content)
        while left:
            left = left[self._orders.write(left) :]

    def read_line(self, most_bytes: int) -> bytes:
        """Wait for its next line; without a line break where it has ended, or where the line is longer."""
        return self._answers.readline(most_bytes)

    def ask(self, content: bytes, *, timeout_s: float) -> Ended:
        """Give it the last of its input, and wait for its end.

        Raises
        ------
        TimeoutError
            When it takes longer than `timeout_s` seconds; it was ended then.
        """
        try:
            said, _ = self._process.communicate(content, timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            self.end()
            raise TimeoutError(f"no answer within {timeout_s:g} seconds") from error
        except BaseException:
            self.end()
            raise
        return self._farewell(said)

    def end(self, *, patience_s: float = 0.0) -> Ended:
        """Close its input, and end it where it has not ended by itself `patience_s` seconds later."""
        with contextlib.suppress(OSError):
            self._orders.close()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        return self._farewell(b"")

    def _kill(self) -> None:
        try:
            if not self._own_group:
                raise ProcessLookupError
            os.killpg(self.pid, signal.SIGKILL)
        except (AttributeError, OSError):
            self._process.kill()

    def _farewell(self, said: bytes) -> Ended:
        self._answers.close()
        self._listener.join(LISTENER_PATIENCE_S)
        return Ended(self._process.returncode, said, self._words.decode("utf-8", "replace").strip())

    def _listen(self, words: int) -> None:
        with os.fdopen(words, "rb", buffering=0) as stream:
            while new := stream.read(MAX_STDERR_BYTES):
                self._words = (self._words + new)[-MAX_STDERR_BYTES:]


def _import_path() -> Iterator[str]:
    """Where this process imports from, but never from where it happens to work."""
    yield _ROOT
    yield from (str(Path(entry).absolute()) for entry in sys.path if entry)
