"""Part serving: requests a second and their times, of our server against bare ONNX Runtime in one process."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.result import finish
from benchmarks.selection.zoos import Given
from selector.commands.tables import table
from zoo.convert.add import add_cifar_resnet
from zoo.errors import DataError
from zoo.models.zoo import Zoo
from zoo.remote.protocol import InferRequest, Tensor, encode_infer_request

MODELS = ("resnet20", "resnet56")
REPLICAS = (1, 2)
CLIENTS = (1, 16)  # connections that each ask again as soon as they are answered
ROUND_S = 1.0
ROUNDS = 5  # of each way, taken in turns
BATCH = 32
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)

TICK_S = 1 / os.sysconf("SC_CLK_TCK")

Round = tuple[int, list[float], float]  # answers, their milliseconds, processor seconds of what answers


def run_serving(given: Given, results: Path = Path("results")) -> dict[str, Any]:
    """Run the part, print its table and its JSON line, write a result file.

    Ray takes part where it is installed.
    """
    if given.weights is None:
        raise DataError("expected --weights, a folder with cifar10-resnet20.npz and so on, got none.")
    zoo = Zoo.open_or_create(given.work / "serving")
    for name in MODELS:
        if name not in zoo.names:
            add_cifar_resnet(zoo, int(name.removeprefix("resnet")), given.weights / f"cifar10-{name}.npz")
    image = np.random.default_rng(given.seed).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    kinds: dict[str, tuple[str, ...]] = {"server": ("--port", "0")}
    if importlib.util.find_spec("ray") is not None:
        kinds["Ray Serve"] = ("--ray", "local", "--port", str(_free_port()))
    rows = []
    for kind, options in kinds.items():
        for replicas in REPLICAS:
            with serving(zoo, replicas, *options) as (address, pid):
                for name in MODELS:
                    ways = {"ONNX Runtime": _bare(zoo, name, image, replicas)}
                    ways["in batches"] = _bare(zoo, name, image.repeat(BATCH, axis=0), replicas)
                    for clients in CLIENTS:
                        ways[f"{kind}, {clients} at once"] = _asking(address, pid, name, image, clients)
                    rows += [{"model": name, "replicas": replicas} | row for row in _compared(ways)]
    columns = {"model": "", "replicas": "", "way": "", "per_s": ".0f", "ratio": ".2f", "p50_ms": ".2f"}
    columns |= {"p95_ms": ".2f", "cpu_ms": ".2f"}
    shown = [[format(row[name], form) for name, form in columns.items()] for row in rows]
    heads = ["model", "replicas", "way", "images/s", "of ONNX Runtime", "p50 ms", "p95 ms", "CPU ms/image"]
    print(table(heads, shown))
    return finish("network-serving", {"ways": rows, "cores": os.cpu_count()}, seed=given.seed, folder=results)


def _compared(ways: dict[str, Callable[[], Round]]) -> list[dict[str, Any]]:
    """Every way in turns, so that other programs disturb all alike; ratios are of neighbouring rounds.

    Beside a busy machine's clock stands the processor time, which other programs hardly change.
    """
    rounds: dict[str, list[Round]] = {way: [] for way in ways}
    for way in ways.values():
        way()  # warm
    for _ in range(ROUNDS):
        for name, way in ways.items():
            rounds[name].append(way())
    bare, rows = [count for count, *_ in next(iter(rounds.values()))], []
    for name, found in rounds.items():
        times = [ms for _, several, _ in found for ms in several]
        counts = [count for count, *_ in found]
        ratios = [count / other for count, other in zip(counts, bare, strict=True)]
        rows.append(
            {
                "way": name,
                "per_s": float(np.median(counts)) / ROUND_S,
                "per_s_rounds": [count / ROUND_S for count in counts],
                "ratio": float(np.median(ratios)),
                "p50_ms": float(np.quantile(times, 0.5)),
                "p95_ms": float(np.quantile(times, 0.95)),
                "cpu_ms": sum(cpu_s for *_, cpu_s in found) * 1e3 / max(1, sum(counts)),
            }
        )
    return rows


def _bare(zoo: Zoo, name: str, images: np.ndarray, threads: int) -> Callable[[], Round]:
    model = zoo.model(name)

    def work() -> Round:
        times: list[list[float]] = [[] for _ in range(threads)]
        cpu = time.process_time()
        end = time.perf_counter() + ROUND_S

        def loop(mine: list[float]) -> None:
            while (start := time.perf_counter()) < end:
                model.run_unchecked(images)
                mine.append((time.perf_counter() - start) * 1e3)

        running = [threading.Thread(target=loop, args=(mine,)) for mine in times]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        spent = time.process_time() - cpu
        return sum(map(len, times)) * len(images), [ms for mine in times for ms in mine], spent

    return work


def _asking(address: str, pid: int, name: str, image: np.ndarray, clients: int) -> Callable[[], Round]:
    """Connections in one thread: what they cost is little beside the server."""
    message = encode_infer_request(InferRequest((Tensor("image", image),)))
    head = [
        f"POST /v2/models/{name}/infer HTTP/1.1",
        f"Host: {address}",
        f"Content-Length: {len(message.body)}",
    ]
    head += [f"{key}: {value}" for key, value in message.headers.items()]
    sent = "\r\n".join([*head, "", ""]).encode() + message.body
    host, _, port = address.partition(":")

    def ask() -> Round:
        times: list[float] = []
        cpu = _cpu_s(pid)
        with selectors.DefaultSelector() as waiting, contextlib.ExitStack() as held:
            end = time.perf_counter() + ROUND_S
            for _ in range(clients):
                one = held.enter_context(socket.create_connection((host, int(port))))
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                one.sendall(sent)
                waiting.register(one, selectors.EVENT_READ, [b"", time.perf_counter()])
            while time.perf_counter() < end:
                for key, _ in waiting.select(ROUND_S):
                    one = key.fileobj  # type: ignore[assignment]
                    key.data[0] += one.recv(65536)
                    if not _whole(key.data[0]):
                        continue
                    now = time.perf_counter()
                    times.append((now - key.data[1]) * 1e3)
                    key.data[:] = [b"", now]
                    one.sendall(sent)
        return len(times), times, _cpu_s(pid) - cpu

    return ask


def _whole(answer: bytes) -> bool:
    """Whether an answer has come to its end; raises where it is another than 200."""
    at = answer.find(b"\r\n\r\n")
    if at < 0:
        return False
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"expected answers, got {answer[:300]!r}")
    found = LENGTH.search(answer, 0, at)
    return found is not None and len(answer) >= at + 4 + int(found[1])


@contextlib.contextmanager
def serving(zoo: Zoo, replicas: int, *more: str) -> Iterator[tuple[str, int]]:
    """A server in a process of its own; yields host and port, and its process."""
    command = [sys.executable, "-u", "-m", "selector", "zoo", "serve", str(zoo.folder)]
    with subprocess.Popen(
        [*command, "--replicas", str(replicas), *more], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://([^/]+)/v2", line)
            if found is None:
                raise RuntimeError(f"expected the address of the server, got {line!r}")
            yield found[1], process.pid
        finally:
            process.terminate()
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def _cpu_s(pid: int) -> float:
    """Processor seconds of a process and all below it."""
    spent: dict[int, float] = {}
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):  # it may have ended by now
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(fields[1])
                spent[int(folder.name)] = (int(fields[11]) + int(fields[12])) * TICK_S
    family = {pid}
    while more := {one for one, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(spent.get(one, 0.0) for one in family)
