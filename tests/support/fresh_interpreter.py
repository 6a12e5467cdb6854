"""What a program imports, seen in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


HEAVY = (
    "torch",
    "torchvision",
    "sklearn",
    "skl2onnx",
    "onnx",
    "onnxscript",
    "pyarrow",
    "matplotlib",
    "scipy",
    "jinja2",
    "training",
    "benchmarks",
    "zoo.convert",
)


def loaded_after(program: str, *arguments: str) -> set[str]:
    program += "\nimport sys; print(*sorted(sys.modules), sep='\\n')"
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())
