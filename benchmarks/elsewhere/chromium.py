"""A browser without a window, driven through its DevTools protocol over a pipe."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--remote-debugging-pipe",
)


def chromium() -> str | None:
    """Path of a Chromium, or None where there is none."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


class Tab:
    """One page of the browser."""

    def __init__(self, orders: int, answers: int) -> None:
        self._orders, self._answers, self._numbers = orders, answers, itertools.count(1)
        self._read = b""
        target = self._tell("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self._tell("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session: str | None = attached["sessionId"]

    _session: str | None = None

    def tell(self, method: str, **parameters: Any) -> Any:
        """The result of one method of the protocol."""
        return self._tell(method, parameters)

    def open(self, url: str) -> None:
        """Go to a page; scripts wait for what they need."""
        self.tell("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """What an asynchronous function body returns in the page."""
        found = self.tell(
            "Runtime.evaluate",
            expression=f"(async () => {{ {script} }})()",
            awaitPromise=True,
            returnByValue=True,
        )
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    def wait_for(self, expression: str, *, timeout_s: float = 60.0) -> None:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + timeout_s
        while not self.run(f"try {{ return Boolean({expression}) }} catch {{ return false }}"):
            if time.monotonic() > end:
                raise AssertionError(
                    f"{expression}; the page says: {self.run('return document.body.innerText')}"
                )
            time.sleep(0.1)

    def choose(self, selector: str, files: list[Path]) -> None:
        """Give files to an input of the page."""
        root = self.tell("DOM.getDocument")["root"]["nodeId"]
        node = self.tell("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.tell("DOM.setFileInputFiles", nodeId=node, files=[str(path.absolute()) for path in files])

    def picture(self, width: int, height: int, *, dark: bool = False) -> bytes:
        """A PNG of the page at a width, in light or dark."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[scheme])
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        return base64.b64decode(self.tell("Page.captureScreenshot", format="png")["data"])

    def _tell(self, method: str, parameters: dict[str, Any]) -> Any:
        number = next(self._numbers)
        order = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            order["sessionId"] = self._session
        content = json.dumps(order).encode() + b"\0"
        while content:
            content = content[os.write(self._orders, content) :]
        while True:
            message, found, rest = self._read.partition(b"\0")
            if not found:
                if not select.select([self._answers], [], [], 120)[0]:
                    raise AssertionError(f"{method}: no answer of the browser")
                new = os.read(self._answers, 2**16)
                if not new:
                    raise AssertionError(f"{method}: the browser has ended")
                self._read += new
                continue
            self._read = rest
            said = json.loads(message)
            if said.get("id") == number:
                if "error" in said:
                    raise AssertionError(f"{method}: {said['error']}")
                return said["result"]


@contextmanager
def browser(program: str, folder: Path) -> Iterator[Tab]:
    """A tab of a new browser, whose profile lies in `folder`."""
    orders_out, orders_in = os.pipe()
    answers_out, answers_in = os.pipe()
    shell = f'exec "$@" 3<&{orders_out} 4>&{answers_in}'  # the browser reads from 3 and writes to 4
    process = subprocess.Popen(
        ["bash", "-c", shell, "browser", program, *_OPTIONS, f"--user-data-dir={folder}"],
        pass_fds=(orders_out, answers_in),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(orders_out)
    os.close(answers_in)
    try:
        yield Tab(orders_in, answers_out)
    finally:
        os.close(orders_in)  # it ends by itself then
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(answers_out)
