"""A device's trust as a client that the conformance suite of The Update Framework can test.

The suite starts a client hundreds of times and looks at exit codes, at requests, and at the files in two
folders. All that is believed goes through :class:`zoo.client.trust.Trust`. A device asks for the timestamp
together with a newer root; here one request follows the other, because the suite looks at their order. One
process waits with everything loaded and does what each start of the client is told, one after another.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from socketserver import StreamRequestHandler, UnixStreamServer
from typing import Any

import zoo.client.trust
from tests.support.stopped_clock import at
from zoo.client.trust import ROOT_FILE, Trust
from zoo.errors import ZooError

SENT: list[str] = []  # one for each request


class Late(Future[Any]):
    """Something that is done only when it is asked for."""

    def __init__(self, do: Callable[[], Any]) -> None:
        super().__init__()
        self.do = do

    def result(self, timeout: float | None = None) -> Any:
        return self.do()


class OneAfterAnother(Executor):
    """In place of threads."""

    def __init__(self, *_: object) -> None:
        pass

    def submit(self, fn: Callable[..., Any], /, *arguments: Any, **named: Any) -> Late:
        return Late(partial(fn, *arguments, **named))


def download(trust: Trust, names: list[str], into: Path) -> None:
    """Find each target as a device finds its assignment, and keep what is verified."""
    for name in names:
        with trust._verified() as updater:
            target = updater.get_targetinfo(name)
            if target is None:
                raise ZooError(f"expected a published target, got {name!r}.")
            path = trust._files(updater, [target])[name]
        assert path is not None
        shutil.copy2(path, into / path.name)


def show(metadata: Path) -> None:
    """Show what is trusted where the suite looks for it, without the root that the device was given."""
    for path in (metadata / "tuf").glob("*.json"):
        shown = metadata / path.name
        if path.name != ROOT_FILE and not shown.exists():
            shown.symlink_to(path)


def act(arguments: argparse.Namespace) -> None:
    """Do one command of the suite; ZooError: refused."""
    metadata: Path = arguments.metadata_dir
    if arguments.command == "init":
        Trust.pin(metadata / "tuf", arguments.root.read_bytes())
        return
    trust = Trust(metadata / "tuf", arguments.metadata_url.rstrip("/").removesuffix("/metadata"))
    try:
        if arguments.command == "download":
            download(trust, arguments.target_name, arguments.target_dir)
        else:
            with trust._verified():
                pass
    finally:
        show(metadata)


def parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url", default="")
    parser.add_argument("--target-name", action="append")
    parser.add_argument("--target-dir", type=Path)
    parser.add_argument("--target-base-url")  # always beside the metadata
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    return parser.parse_args(words)


class Start(StreamRequestHandler):
    """One start of the client: arguments and the time come in, the exit code goes out."""

    def handle(self) -> None:
        words, now = json.loads(self.rfile.readline())
        arguments, before, code = parsed(words), len(SENT), 0
        try:
            with at(datetime.fromisoformat(now)) if now else nullcontext():
                act(arguments)
        except ZooError as error:
            print(error, file=sys.stderr)
            code = 1
        print(json.dumps([arguments.metadata_url, len(SENT) - before]), flush=True)
        self.wfile.write(bytes([code]))


if __name__ == "__main__":
    vars(zoo.client.trust)["ThreadPoolExecutor"] = OneAfterAnother
    sys.addaudithook(lambda event, _: SENT.append(event) if event == "http.client.send" else None)
    with UnixStreamServer(sys.argv[1], Start) as server:
        print("ready", flush=True)
        server.serve_forever()
