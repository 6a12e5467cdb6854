"""Functions for processes of our own, and whether a process is there."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import IO


def echo(orders: IO[bytes], answers: IO[bytes]) -> None:
    print("printed", flush=True)
    answers.write(orders.read())


def where(orders: IO[bytes], answers: IO[bytes]) -> None:
    answers.write("\n".join([str(Path.cwd()), *sys.path]).encode())


def lines(orders: IO[bytes], answers: IO[bytes]) -> None:
    for line in orders:
        answers.write(line)
        answers.flush()


def sleep(orders: IO[bytes], answers: IO[bytes]) -> None:
    time.sleep(60)


def start_another(orders: IO[bytes], answers: IO[bytes]) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    answers.write(f"{other.pid}\n".encode())
    answers.flush()
    other.wait()


def talk(orders: IO[bytes], answers: IO[bytes]) -> None:
    print("word " * 10_000, "the end", file=sys.stderr)
    sys.exit(3)


def alive(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until_gone(pid: int) -> None:
    """Wait until a process has ended."""
    while alive(pid):
        time.sleep(0.01)
