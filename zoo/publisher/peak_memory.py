"""How much memory a model takes: opened and asked once, in a process that does nothing else.

Run as ``python -m zoo.publisher.peak_memory FOLDER HEIGHT WIDTH``: the graph comes through standard input,
its weights lie in the folder, and the answer goes to standard output as JSON.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

from zoo.errors import ModelError

TIMEOUT_S = 600.0


class Measured(NamedTuple):
    """What the process took and answered."""

    peak_bytes: int  # resident memory, Python and ONNX Runtime included
    logits: tuple[float, ...]


def measure_peak(graph: bytes, weights: Path, image: tuple[int, int], *, name: str) -> Measured:
    """Open a graph whose weights are files in `weights`, and answer the test image of that height and width.

    Raises
    ------
    ModelError
        When the process fails or takes ten minutes.
    """
    command = [sys.executable, "-P", "-m", __name__, str(weights.absolute()), *map(str, image)]
    try:
        done = subprocess.run(command, input=graph, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"model {name!r}: expected an answer within {TIMEOUT_S:.0f} seconds, got none. "
            "Try a smaller model."
        ) from error
    try:
        return msgspec.json.decode(done.stdout, type=Measured)
    except msgspec.DecodeError as error:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ModelError(
            f"model {name!r}: expected it to open with its weights beside it and to answer a test image, "
            f"got exit code {done.returncode}: {said[-1][:300] if said else 'not a word'}. "
            "It cannot be published."
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


def main(folder: str, height: str, width: str) -> None:
    """The measured process."""
    from zoo.models.model import open_session
    from zoo.releases.reference_image import reference_image

    session = open_session(sys.stdin.buffer.read(), name="model", weights=Path(folder))
    logits = session.run(["logits"], {"image": reference_image(int(height), int(width))[None]})[0]
    answer = Measured(peak_bytes(), tuple(map(float, logits[0])))
    sys.stdout.buffer.write(msgspec.json.encode(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
