"""What a device of anybody sees: the reference client of The Update Framework, over a real HTTP server."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tuf.ngclient import Updater

from zoo.files import decode_record
from zoo.releases.release import SCHEMA_VERSION, Assignment, ModelRelease


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Address of a server of the files in `folder`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class StandardClient:
    """A device that was given a publisher's first root and remembers what it has seen."""

    def __init__(self, folder: Path, root: bytes, url: str) -> None:
        self.folder, self.root, self.url = folder, root, url
        (folder / "targets").mkdir(parents=True, exist_ok=True)

    def refreshed(self) -> Updater:
        """A client that has just verified what is published."""
        updater = Updater(
            *(str(self.folder), f"{self.url}/metadata/"),
            *(str(self.folder / "targets"), f"{self.url}/targets/"),
            bootstrap=self.root,
        )
        updater.refresh()
        return updater

    def model(self, name: str) -> ModelRelease | None:
        """The release of a model, downloaded and verified; None: not published."""
        content = self._fetch(f"models/{name}.json")
        if content is None:
            return None
        return decode_record(content, ModelRelease, name=name, schema_version=SCHEMA_VERSION)

    def assignment(self, group: str) -> Assignment | None:
        """The assignment of a group, likewise."""
        content = self._fetch(f"assignments/{group}.json")
        if content is None:
            return None
        return decode_record(content, Assignment, name=group, schema_version=SCHEMA_VERSION)

    def _fetch(self, path: str) -> bytes | None:
        updater = self.refreshed()
        target = updater.get_targetinfo(path)
        if target is None:
            return None
        return Path(updater.download_target(target)).read_bytes()

    def forget(self) -> None:
        """Start over with the first root alone."""
        shutil.rmtree(self.folder)
        (self.folder / "targets").mkdir(parents=True)
