"""How many devices one service carries: each looks for news and reports, on a connection of its own.

The service runs in a process of its own, with a synced write behind every accepted report.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import msgspec
import numpy as np

from selector.commands.tables import table
from selector.fleet.ledger import read_tally
from selector.fleet.tokens import Tokens
from selector.telemetry.demand import AskedDemand, Demand
from selector.telemetry.report import Report, encode_report
from zoo.errors import ServiceError

GROUP = "polling"
SERVER = "from selector.commands.serve import commands; commands()"
REPLY_TIMEOUT_S = 60.0


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What devices saw, and what was counted."""

    devices: int
    reports: int  # that were sent
    accepted: int  # that the service said it has
    counted: int  # in its ledger, read from disk after it was stopped
    refused: dict[str, int]  # status or error → requests
    seconds: float  # from the first to the last request
    report_p50_ms: float
    report_p95_ms: float
    report_max_ms: float
    poll_p50_ms: float  # of metadata/timestamp.json
    poll_p95_ms: float

    @property
    def lost(self) -> int:
        """Accepted reports that were not counted."""
        return self.accepted - self.counted


def run_load(
    *, devices: int = 1000, reports_each: int = 2, period_s: float = 5.0, seed: int = 0
) -> LoadResult:
    """Let devices poll and report, `reports_each` times, once a period at times of their own.

    Raises
    ------
    ServiceError
        When the service does not start.
    """
    with tempfile.TemporaryDirectory() as folder:
        root, data = Path(folder) / "published", Path(folder) / "data"
        (root / "metadata").mkdir(parents=True)
        (root / "metadata" / "timestamp.json").write_text('{"signed": {}, "signatures": []}' + " " * 400)
        token = Tokens(data / "tokens.json").add("device", GROUP)
        seen = _Seen()
        with _service(root, data) as (host, port):
            start = time.perf_counter()
            asyncio.run(_fleet(host, port, token, devices, reports_each, period_s, seed, seen))
            seconds = time.perf_counter() - start
        counted = read_tally(data).counts.get(GROUP, 0)
    reports, polls = np.array(seen.reports_ms or [np.nan]), np.array(seen.polls_ms or [np.nan])
    return LoadResult(
        devices=devices,
        reports=devices * reports_each,
        accepted=seen.accepted,
        counted=counted,
        refused=dict(seen.refused),
        seconds=seconds,
        report_p50_ms=float(np.percentile(reports, 50)),
        report_p95_ms=float(np.percentile(reports, 95)),
        report_max_ms=float(reports.max()),
        poll_p50_ms=float(np.percentile(polls, 50)),
        poll_p95_ms=float(np.percentile(polls, 95)),
    )


@dataclass
class _Seen:
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    reports_ms: list[float] = field(default_factory=list)
    polls_ms: list[float] = field(default_factory=list)


@contextlib.contextmanager
def _service(root: Path, data: Path) -> Iterator[tuple[str, int]]:
    process, address = start_service(root, data)
    with process:
        try:
            yield address
        finally:
            process.terminate()


def start_service(
    root: Path, data: Path, *options: str, log: IO[str] | None = None
) -> tuple[subprocess.Popen[str], tuple[str, int]]:
    """``zooselect serve`` in a process of its own, and where it listens.

    Parameters
    ----------
    options
        More of the command line.
    log
        Where its standard error goes; None: where that of this process does.

    Raises
    ------
    ServiceError
        When it does not start.
    """
    command = [sys.executable, "-u", "-c", SERVER, "start", str(root), "--port", "0", "--data", str(data)]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    said = process.stdout.readline()
    found = urlsplit(said.partition(" at ")[2].split()[0]) if " at " in said else None
    if found is None or found.hostname is None or found.port is None:
        with process:
            process.kill()
        raise ServiceError(f"expected the service to say where it listens, got {said!r}.")
    return process, (found.hostname, found.port)


async def _fleet(
    host: str, port: int, token: str, devices: int, reports_each: int, period_s: float, seed: int, seen: _Seen
) -> None:
    draw = random.Random(seed)
    runs = (
        _device(host, port, token, number, reports_each, period_s, draw.uniform(0, period_s), seen)
        for number in range(devices)
    )
    await asyncio.gather(*runs)


async def _device(
    host: str,
    port: int,
    token: str,
    number: int,
    reports_each: int,
    period_s: float,
    first_s: float,
    seen: _Seen,
) -> None:
    await asyncio.sleep(first_s)
    begin = time.perf_counter()
    try:
        async with asyncio.timeout(REPLY_TIMEOUT_S + reports_each * period_s):
            reader, writer = await _connect(host, port)
            for count in range(reports_each):
                await asyncio.sleep(max(0.0, begin + count * period_s - time.perf_counter()))
                poll = f"GET /metadata/timestamp.json HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
                status, took_ms = await _ask(reader, writer, poll)
                seen.polls_ms.append(took_ms)
                if status != 200:
                    seen.refused[str(status)] += 1
                status, took_ms = await _ask(reader, writer, _report(host, token, number, count + 1))
                seen.reports_ms.append(took_ms)
                seen.accepted += status == 202
                if status != 202:
                    seen.refused[str(status)] += 1
            writer.close()
    except (OSError, ValueError, EOFError, TimeoutError) as error:
        seen.refused[type(error).__name__] += 1


async def _connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    deadline = time.perf_counter() + REPLY_TIMEOUT_S
    while True:
        try:
            return await asyncio.open_connection(host, port)
        except ConnectionError:
            if time.perf_counter() > deadline:
                raise
            await asyncio.sleep(0.1)


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[int, float]:
    start = time.perf_counter()
    writer.write(request)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = next(line.partition(":")[2] for line in head.split("\r\n") if line.startswith("content-length:"))
    await reader.readexactly(int(length))
    return int(head.split(" ", 2)[1]), (time.perf_counter() - start) * 1000


def _report(host: str, token: str, device: int, sequence: int) -> bytes:
    body = encode_report(
        Report(
            schema_version=1,
            device=f"{device:032x}",
            sequence=sequence,
            group=GROUP,
            demand=(
                Demand(
                    schema_version=1,
                    bundle="task",
                    since=1.7e9,
                    answers=1000 * sequence,
                    window=1000,
                    unmet=100,
                    uncertified=0,
                    models={"large": 100},
                    asked=(AskedDemand(kind="precision", level=0.9, answers=1000, unmet=100),),
                ),
            ),
            stored_bytes=7_000_000,
            budget_bytes=20_000_000,
            zooselect="0.1.0",
        )
    )
    head = f"POST /v1/reports HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def main() -> None:
    """Print a table and one line of JSON."""
    result = run_load()
    figures = msgspec.structs.asdict(result)
    rows = [
        [name, f"{value:.2f}" if isinstance(value, float) else str(value)] for name, value in figures.items()
    ]
    print(table(["figure", "value"], rows))
    print(msgspec.json.encode(msgspec.to_builtins(result) | {"lost": result.lost}).decode())


if __name__ == "__main__":
    main()
