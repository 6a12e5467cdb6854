"""Claims about The Update Framework: a device's trust passes the public conformance suite."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest

from tests.support.fresh_interpreter import ROOT

SUITE = importlib.util.find_spec("tuf_conformance")
EXPECTED_FAILURES: dict[str, str] = {}  # test of the suite → why a device does otherwise
NO_REQUESTS = {  # the first root is refused, or the suite tests itself
    "test_invalid_initial_root",
    "test_unsigned_initial_root",
    "test_basic_metadata_hash_support_unittest",
    "test_repo_initialzation_unittest",
    "test_update_timestamp",
}
CLIENT = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as waiting:
    waiting.connect("socket")
    waiting.sendall(json.dumps([sys.argv[1:], os.environ.get("FAKED")]).encode() + b"\\n")
    code = waiting.recv(1)
    sys.exit(code[0] if code else 70)  # without an answer it broke down, which is no refusal
"""

pytestmark = [
    pytest.mark.skipif(SUITE is None, reason="tuf-conformance is not installed (see CONTRIBUTING.md)"),
    pytest.mark.skipif(sys.platform == "win32", reason="needs sockets of Unix"),
    pytest.mark.timeout(900),  # for all tests of the suite
]


@dataclass(frozen=True)
class Run:
    """What the suite said, and what the client did in it."""

    outcomes: dict[str, str]  # of each test: passed, failure, error or skipped
    requests: Counter[str]  # of the client, by the first part of the address, which names the test
    said: str


def program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


@contextmanager
def waiting_client(folder: Path) -> Iterator[Path]:
    """A log with a line for each start of the client."""
    log, command = folder / "client.log", [sys.executable, "-m", "tests.support.tuf_client", "socket"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("wb") as out, (folder / "errors.log").open("wb") as errors:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=errors)
    try:
        while not log.stat().st_size:
            assert process.poll() is None, (folder / "errors.log").read_text()
            time.sleep(0.01)
        yield log
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run of the suite, which starts its own server on loopback."""
    assert SUITE is not None
    assert SUITE.origin is not None
    folder = tmp_path_factory.mktemp("conformance")
    settings, report = folder / "pytest.ini", folder / "report.xml"
    settings.write_text("[pytest]\n")  # not those of zooselect
    program(folder / "client", shlex.join(["exec", sys.executable, "-ISc", CLIENT]) + ' "$@"')
    # the program of this name sets the clock of a whole process; that of the framework is enough here
    program(folder / "faketime", 'FAKED="$1"; export FAKED; shift; exec "$@"')
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment["PATH"] = f"{folder}{os.pathsep}{environment['PATH']}"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", str(settings)]
    suite = [str(Path(SUITE.origin).parent), "--entrypoint", str(folder / "client"), f"--junitxml={report}"]
    with waiting_client(folder) as log:
        done = subprocess.run([*command, *suite], cwd=folder, env=environment, capture_output=True, text=True)
    assert report.is_file(), done.stdout + done.stderr
    requests: Counter[str] = Counter()
    for url, count in map(json.loads, log.read_text().splitlines()[1:]):
        requests[unquote(urlsplit(url).path.strip("/").partition("/")[0])] += count
    outcomes = {
        case.get("name", ""): next((part.tag for part in case if part.tag != "properties"), "passed")
        for case in ElementTree.parse(report).iter("testcase")
    }
    return Run(outcomes, requests, done.stdout + (folder / "errors.log").read_text())


def test_the_suite_passes(run: Run) -> None:
    failed = {name for name, outcome in run.outcomes.items() if outcome != "passed"}
    assert failed == EXPECTED_FAILURES.keys(), run.said
    assert "Traceback" not in run.said, run.said


def test_every_test_of_the_suite_asked_the_client(run: Run) -> None:
    def repository(name: str) -> str:
        return name.removeprefix("test_static_repository[").rstrip("]") if "static" in name else name

    assert len(run.outcomes) >= 100
    assert {name for name in run.outcomes if not run.requests[repository(name)]} == NO_REQUESTS
