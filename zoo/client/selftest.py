"""The self-test: the image that a model is tried with, on the publisher and on every device.

A device opens a new model for the first time in a process of its own, with limits on memory and time, and
compares its answer with the publisher's. A file that is made to crash or to fill the memory does that there.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import SelfTestError
from zoo.process import Ended, Process

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zoo.releases.release import ModelRelease
    from zoo.store.store import Store

FUNCTION = "zoo.client.tested:answer"
TIMEOUT_S = 60.0
MAX_TEST_INPUT = 1024 * 1024  # pixels, or length, of the largest input that a publisher states a test for
ADDRESS_SPACE_MARGIN_BYTES = 256 * 2**20  # allocators reserve more addresses than memory is used
_MEMORY = ("bad_alloc", "MemoryError", "Failed to allocate", "bad allocation")


class Trials:
    """Processes in which new models are opened for the first time; for a ``with``.

    One can be started beforehand, so that it loads Python and ONNX Runtime while a model is still on its way.
    In the end, what was not used is ended.
    """

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


@dataclass(frozen=True)
class SelfTested:
    """A self-test that was passed."""

    seconds: float  # the start of the process included, if it was not started beforehand
    largest_difference: float  # of a logit from the publisher's
    limited: bool  # False: this platform has no limits on memory and time, so the test ran without


def self_test(
    store: Store,
    release: ModelRelease,
    *,
    memory_limit_bytes: int | None = None,
    timeout_s: float = TIMEOUT_S,
    trials: Trials | None = None,
) -> SelfTested:
    """Open a model of the store in another process, and compare its logits with the release's.

    Parameters
    ----------
    memory_limit_bytes
        What the model may take on top of Python and ONNX Runtime; None: twice what it took at the publisher,
        but no more than half of what this device has.
    timeout_s
        Longest time; the process itself has a second more of processor time, should nobody be left to end it.
    trials
        Where to run it; None: in a process that is started now.

    Raises
    ------
    DigestError, ModelError
        When a blob is missing, or the graph is not one that may be opened.
    SelfTestError
        When the model does not open, crashes, takes too much or answers something else.
    """
    begin = time.perf_counter()
    graph = store.graph(release)
    _check_version(release)
    memory = _memory(release) if memory_limit_bytes is None else memory_limit_bytes
    feeds = _feeds(release)
    task = {
        "folder": str(store.blobs.absolute()),
        "name": release.name,
        "classes": len(release.card.classes),
        "feeds": [(name, values.dtype.name, values.shape) for name, values in feeds.items()],
        "memory": memory,
        "seconds": math.ceil(timeout_s) + 1,
    }
    given = (np.ascontiguousarray(values).tobytes() for values in feeds.values())
    content = b"".join((json.dumps(task).encode(), b"\n", *given, graph))
    try:
        if trials is None:
            with Trials(store.folder) as own:
                done = own.run(content, timeout_s=timeout_s)
        else:
            done = trials.run(content, timeout_s=timeout_s)
    except TimeoutError as error:
        raise _failed(release, str(error)) from error
    except OSError as error:
        raise _failed(release, f"no process to test it in: {error.strerror}") from error
    said = _said(release, done, memory)
    if not said["limited"]:
        _say_unlimited()
    expected = np.array(release.selftest.logits)
    got = np.array(said["logits"], dtype=np.float64)
    if got.shape != expected.shape or not np.isfinite(got).all():
        raise _failed(release, f"{got.size} logits, {int(np.isfinite(got).sum())} of them finite")
    difference = float(np.abs(got - expected).max())
    if difference > release.selftest.tolerance:
        allowed = release.selftest.tolerance
        raise _failed(release, f"logits that differ by {difference:.3g}, where {allowed:.3g} is allowed")
    return SelfTested(time.perf_counter() - begin, difference, bool(said["limited"]))


def _said(release: ModelRelease, ended: Ended, memory: int) -> dict[str, Any]:
    """What the process answered."""
    too_much = f"it wants more than {memory / 2**20:,.0f} MiB of memory"
    if ended.status < 0:
        if any(word in ended.words for word in _MEMORY):
            raise _failed(release, too_much)
        reasons = {"SIGXCPU": "too much processor time", "SIGKILL": "the system ended it, mostly for memory"}
        raise _failed(release, reasons.get(ended.how, f"a crash ({ended.how})"))
    try:
        said: dict[str, Any] = json.loads(ended.said)
    except ValueError as error:
        raise _failed(release, f"no answer: {ended.words[-300:] or 'not a word'}") from error
    if "error" in said:
        short_of_memory = any(word in said["error"] for word in _MEMORY)
        raise _failed(release, too_much if short_of_memory else said["error"])
    return said


@functools.cache
def _say_unlimited() -> None:
    logging.getLogger("zooselect").warning(
        "On this system nothing limits the memory and the processor time of a model that is tested; only how "
        "long it takes is limited. Take models from publishers that you trust."
    )


def _feeds(release: ModelRelease) -> dict[str, NDArray[Any]]:
    """What the graph is given. Made here: the process that waits for it then starts with fewer imports."""
    size, kind = release.selftest.image, release.card.kind
    if math.prod(size) > MAX_TEST_INPUT:
        raise _failed(release, f"a test input of {size[0]} x {size[1]}, larger than any that is published")
    return kind.feeds(kind.one(kind.reference(size)))


def _memory(release: ModelRelease) -> int:
    stated = 2 * release.peak_memory_bytes + release.size_bytes + ADDRESS_SPACE_MARGIN_BYTES
    try:
        device = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return stated
    return min(stated, device // 2)


def _check_version(release: ModelRelease) -> None:
    import onnxruntime as ort

    def numbers(version: str) -> list[int]:
        return [int(part) for part in version.split(".")[:2]]

    if numbers(ort.__version__) < numbers(release.min_onnxruntime):
        raise SelfTestError(
            f"model {release.name!r}: expected ONNX Runtime {release.min_onnxruntime} or newer, got "
            f"{ort.__version__}. Upgrade it with 'pip install -U onnxruntime'."
        )


def _failed(release: ModelRelease, what: str) -> SelfTestError:
    return SelfTestError(
        f"model {release.name!r} version {release.version}: expected the publisher's answer to the test "
        f"image, got: {what}. It is not used on this device; tell its publisher."
    )
