"""The process in which a model is tested; see :mod:`zoo.client.selftest`.

An installation waits for it, so this file imports ONNX Runtime, numpy and little else.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import IO, Any

import numpy as np

from zoo.child import limit
from zoo.errors import ZooError
from zoo.models.session import open_session


def answer(orders: IO[bytes], answers: IO[bytes]) -> None:
    """Reads a task, what the graph is given and the graph, and writes logits or an error as JSON."""
    task: dict[str, Any] = json.loads(orders.readline())
    content = memoryview(orders.read())
    feeds = {}
    for name, kind, shape in task["feeds"]:
        values = np.frombuffer(content, kind, math.prod(shape))
        feeds[name], content = values.reshape(shape), content[values.nbytes :]
    said: dict[str, Any] = {"limited": limit(task["memory"], task["seconds"])}
    try:
        session = open_session(bytes(content), name=task["name"], weights=Path(task["folder"]))
        logits = session.run(["logits"], feeds)[0]
        if np.shape(logits) != (1, task["classes"]):
            raise ZooError(f"expected logits [1, {task['classes']}], got {list(np.shape(logits))}")
        said["logits"] = [float(value) for value in logits[0]]
    except Exception as error:  # whatever it is, it belongs to the model
        said["error"] = f"{type(error).__name__}: {error}"[:1000]
    answers.write(json.dumps(said).encode())
