"""How much memory a model takes: opened and asked once, in a process that does nothing else."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from zoo.errors import ModelError, PublishError
from zoo.inputs.kind import InputKind, InputRecord
from zoo.inputs.kinds import IMAGE, kind_of
from zoo.process import Process

TIMEOUT_S = 600.0


class _Task(msgspec.Struct, frozen=True):
    folder: str
    image: tuple[int, int]
    input: InputRecord | None = None


class Measured(NamedTuple):
    """What the process took and answered."""

    peak_bytes: int  # resident memory, Python and ONNX Runtime included
    logits: tuple[float, ...]


def measure_peak(
    graph: bytes, weights: Path, image: tuple[int, int], kind: InputKind = IMAGE, *, name: str
) -> Measured:
    """Open a graph whose weights are files in `weights`, and answer the test input of that size.

    Raises
    ------
    ModelError
        When the process fails or takes ten minutes.
    PublishError
        Where the system does not say what a process takes, as on Windows.
    """
    if importlib.util.find_spec("resource") is None:
        raise PublishError(
            f"expected Linux or macOS to publish models on, got {sys.platform}, where nothing says how much "
            "memory a model takes. Publish on another machine."
        )
    task = msgspec.json.encode(_Task(str(weights.absolute()), image, kind.record))
    process = Process("zoo.publisher.peak_memory:answer")
    try:
        ended = process.ask(task + b"\n" + graph, timeout_s=TIMEOUT_S)
    except TimeoutError as error:
        raise ModelError(
            f"model {name!r}: expected an answer within {TIMEOUT_S:.0f} seconds, got none. "
            "Try a smaller model."
        ) from error
    try:
        return msgspec.json.decode(ended.said, type=Measured)
    except msgspec.DecodeError as error:
        words = ended.words.splitlines()
        raise ModelError(
            f"model {name!r}: expected it to open with its weights beside it and to answer a test image, "
            f"got {ended.how}: {words[-1][:300] if words else 'not a word'}. It cannot be published."
        ) from error


def peak_bytes() -> int:
    """Most memory that this process has held so far."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says there begins with the parent's, which may hold torch
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def answer(orders: IO[bytes], answers: IO[bytes]) -> None:
    """The measured process: reads task and graph, and writes what it took."""
    from zoo.models.session import open_session

    task = msgspec.json.decode(orders.readline(), type=_Task)
    kind = kind_of(task.input)
    session = open_session(orders.read(), name="model", weights=Path(task.folder))
    logits = session.run(["logits"], kind.feeds(kind.one(kind.reference(task.image))))[0]
    answers.write(msgspec.json.encode(Measured(peak_bytes(), tuple(map(float, logits[0])))))
