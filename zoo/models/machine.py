"""The machine that something was measured or made on."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import msgspec

from zoo.cores import allowed_cores
from zoo.types import Positive


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the measurement ran on."""

    processor: str
    cores: Positive
    system: str
    python: str
    onnxruntime: str


def machine() -> Machine:
    """Describe this machine."""
    import onnxruntime

    name = platform.processor() or platform.machine()
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        name = found.group(1).strip() if found else name
    except OSError:
        pass
    return Machine(
        processor=name,
        cores=allowed_cores(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        onnxruntime=onnxruntime.__version__,
    )
