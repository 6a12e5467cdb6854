"""The trial of a file: opened in a process of its own, with limits, and asked for answers to inputs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from zoo.child import limit
from zoo.errors import SelfTestError
from zoo.process import Process

FUNCTION = "training.fitting.one_file.trial:answer"
TIMEOUT_S = 300.0
_ROOM_BYTES = 2**30  # of addresses, beside those for the file itself
_COPIES = (
    6  # of the weights while a file is opened: as read, as a message, unpacked, packed for the processor
)


def try_file(
    path: Path,
    inputs: Sequence[Mapping[str, NDArray[Any]]],
    *,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int | None = None,
) -> list[dict[str, Any]]:
    """What a file answers, one dictionary of its outputs for each input.

    Nothing of this process is at risk: some graphs end the process that loads them.

    Parameters
    ----------
    inputs
        Arrays by name, as the graph takes them.
    memory_bytes
        What it may take beside Python and ONNX Runtime; None: six times its size and 1 GiB.

    Raises
    ------
    SelfTestError
        When it does not open, crashes, or takes too much time or memory.
    """
    size = path.stat().st_size
    memory = _COPIES * size + _ROOM_BYTES if memory_bytes is None else memory_bytes
    task = {
        "path": str(path.absolute()),
        "inputs": [[(name, one.dtype.str, one.shape) for name, one in feeds.items()] for feeds in inputs],
        "memory": memory,
        "seconds": math.ceil(timeout_s) + 1,
    }
    numbers = b"".join(one.tobytes() for feeds in inputs for one in feeds.values())
    content = json.dumps(task).encode() + b"\n" + numbers
    try:
        ended = Process(FUNCTION, own_group=True).ask(content, timeout_s=timeout_s)
    except TimeoutError as error:
        raise _failed(f"{error}; a file that takes longer needs --timeout") from error
    if ended.status:
        raise _failed(f"a crash ({ended.how}) {ended.words[-300:]}".strip())
    try:
        said: dict[str, Any] = json.loads(ended.said)
    except ValueError as error:
        raise _failed(f"no answer: {ended.words[-300:] or 'not a word'}") from error
    if "error" in said:
        raise _failed(said["error"])
    found: list[dict[str, Any]] = said["answers"]
    return found


def answer(orders: IO[bytes], answers: IO[bytes]) -> None:
    """The process: reads a task and inputs, and writes answers or an error as JSON."""
    import onnxruntime as ort

    task: dict[str, Any] = json.loads(orders.readline())
    limit(task["memory"], task["seconds"])
    said: dict[str, Any] = {}
    try:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        session = ort.InferenceSession(task["path"], options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        said["answers"] = []
        for held in task["inputs"]:
            values = session.run(names, {name: _read(orders, *how) for name, *how in held})
            said["answers"].append(
                {name: np.asarray(value).tolist() for name, value in zip(names, values, strict=True)}
            )
    except Exception as error:  # whatever it is, it belongs to the file
        said = {"error": f"{type(error).__name__}: {error}"[:1000]}
    answers.write(json.dumps(said).encode())


def _read(stream: IO[bytes], type: str, shape: list[int]) -> NDArray[Any]:
    numbers = np.dtype(type)
    return np.frombuffer(stream.read(math.prod(shape) * numbers.itemsize), numbers).reshape(shape)


def _failed(what: str) -> SelfTestError:
    return SelfTestError(
        f"the selector in one file: expected answers from it in a process of its own, got: {what}. "
        "It was not written. Export a bundle, or leave out the model that fails."
    )
