"""Claims about the cores that may be used: what binds the process counts, not what the machine has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.cores import allowed_cores

MINE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def group(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("100000 100000\n", 1), ("190000 100000", 1), ("50000 100000", 1), ("max 100000", MINE), ("odd", MINE)],
)
def test_a_container_of_version_2_is_kept(tmp_path: Path, limit: str, cores: int) -> None:
    assert allowed_cores(group(tmp_path, cpu__max=limit), tmp_path / "none") == cores


def test_a_container_of_version_1_is_kept(tmp_path: Path) -> None:
    for quota, cores in (("100000", 1), ("-1", MINE)):
        group(tmp_path / "cpu", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
        assert allowed_cores(tmp_path, tmp_path / "none") == cores


def test_the_tightest_of_nested_groups_counts(tmp_path: Path) -> None:
    group(tmp_path / "user" / "me", cpu__max="900000 100000")
    group(tmp_path / "user", cpu__max="100000 100000")
    for text, cores in (("0::/user/me\n", 1), ("3:memory:/user\n", MINE), ("0::/../user\n", MINE)):
        (tmp_path / "membership").write_text(text)
        assert allowed_cores(tmp_path, tmp_path / "membership") == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a system that binds to cores")
def test_a_process_that_is_bound_to_one_core_has_one() -> None:
    core = min(os.sched_getaffinity(0))
    bind = f"import os; os.sched_setaffinity(0, {{{core}}})"
    program = f"{bind}; from zoo.cores import allowed_cores; print(allowed_cores())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]
