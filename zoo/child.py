"""What runs in a process of our own, whose parent holds a :class:`zoo.process.Process`.

Somebody waits for such a process, so this file imports little.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import math
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

PARENT_CHECK_INTERVAL_S = 1.0  # how often a process looks for its parent


def run(order: dict[str, Any]) -> None:
    """The process itself: one function, between its input and its output; does not return."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints, prints there
    threading.Thread(target=_watch, args=(order["parent"],), daemon=True).start()
    module, _, name = order["function"].partition(":")
    gc.disable()  # what is loaded is no garbage, and to look for some takes time
    function = getattr(importlib.import_module(module), name)
    gc.enable()
    with answers:
        function(sys.stdin.buffer, answers)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)  # to take the modules down would take nearly as long as to load them


def limit(memory_bytes: int, seconds: int) -> bool:
    """Limit what this process may take from now on: memory, processor time, no files.

    Returns False where the platform has no such limits.
    """
    try:
        import resource

        held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        limits = {
            resource.RLIMIT_AS: held + memory_bytes,
            resource.RLIMIT_CPU: math.ceil(time.process_time()) + seconds,
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_CORE: 0,
        }
        for what, most in limits.items():
            hard = resource.getrlimit(what)[1]
            resource.setrlimit(
                what, (most, hard) if hard == resource.RLIM_INFINITY else (min(most, hard), hard)
            )
    except (ImportError, OSError, ValueError):
        return False
    return True


def leave() -> None:
    """End this process at once, and those that it has started where it leads a group."""
    import signal

    with contextlib.suppress(AttributeError, OSError):
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)


def _watch(parent: int) -> None:
    """End this process when its parent is gone; another process may hold its input open."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_INTERVAL_S)
    leave()
