"""Cores that this process may use: in a container often fewer than the machine has."""

from __future__ import annotations

import os
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def allowed_cores(groups: Path = _GROUPS, membership: Path = _MEMBERSHIP) -> int:
    """How many cores this process may use, at least 1.

    The smallest of the machine's cores, the cores that the process is bound to, and the processor time that
    its control groups grant. Half a core that is granted is none: threads that wait for time slow each other.

    Parameters
    ----------
    groups
        Where the control groups of Linux are mounted, of version 2 or 1.
    membership
        The file that names the control groups of this process.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    granted = [cores, *(quota for folder in _folders(groups, membership) if (quota := _quota(folder)))]
    return max(1, int(min(granted)))


def _folders(groups: Path, membership: Path) -> list[Path]:
    """The folders whose limits hold for this process: its groups and all that these lie in."""
    roots = [groups, groups / "cpu", groups / "cpu,cpuacct"]
    found = list(roots)
    for line in _read(membership).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        inner = path.strip("/")
        while inner and ".." not in inner.split("/"):
            found += [root / inner for root in roots]
            inner = inner.rpartition("/")[0]
    return found


def _quota(folder: Path) -> float | None:
    """Cores' worth of processor time that a control group grants; None: no limit."""
    quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
    if not quota:
        quota = _read(folder / "cpu.cfs_quota_us").strip()
        period = _read(folder / "cpu.cfs_period_us").strip()
    try:
        granted, every = int(quota), int(period)
    except ValueError:  # "max", or no file
        return None
    return granted / every if granted > 0 and every > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
