"""Selectors in a browser: the answers of Python, and the time of an answer beside that of one model."""

from __future__ import annotations

import functools
import http.server
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.elsewhere.bundles import Made, Numbers, World
from benchmarks.elsewhere.chromium import Tab, browser, chromium
from benchmarks.result import finish
from benchmarks.selection.zoos import Given
from selector.answering.selector import Prediction, Selector
from training.fitting.one_file.page import write_page
from zoo.errors import MissingExtraError

SHOWN: Sequence[tuple[Numbers, str]] = (("int8", "cascade on raw confidence"), ("float", "probe"))
ALONE_PRECISION = 0.9999  # that nothing is certified for: the most accurate model answers alone then
# Both selectors answer every image, in turns, so that other programs fall on both alike.
ANSWERS = """
const { Selector } = await import("./zooselect.js");
const selector = await Selector.load();
const alone = ALONE ? await Selector.load({ folder: new URL("./alone/", location.href) }) : null;
const found = [];
for (let i = 0; i < COUNT; i++) {
  const image = await (await fetch(`shown/${i}.ENDING`)).blob();
  const answer = await selector.predict(image);
  const other = alone ? (await alone.predict(image)).milliseconds : null;
  found.push([answer.label, answer.model, answer.path, answer.probability, answer.milliseconds, other]);
}
return found;
"""


def run_web(
    given: Given, *, images: int = 200, runtime: str | None = None, results: Path = Path("results")
) -> dict[str, Any]:
    """Write pages, open them in Chromium, and compare the answers to images with those of Python.

    Screenshots of both pages are written beside the result.

    Parameters
    ----------
    runtime
        The folder ``dist`` of the npm package onnxruntime-web; without, ``npm`` fetches it.

    Raises
    ------
    MissingExtraError
        When there is no Chromium, or no ``npm`` to fetch the package with.
    """
    program = chromium()
    if program is None:
        raise MissingExtraError("expected Chromium, got none. Install it, such as with: apt install chromium")
    world = World.of(given)
    rows = []
    results.mkdir(parents=True, exist_ok=True)
    for numbers, kind in SHOWN:
        (made,) = world.bundles(numbers, [kind])
        row = _in_browser(program, made, images, runtime, results)
        rows.append(row)
        print(
            f"{kind}, {numbers}: {row['same']} of {row['images']} same labels, models and paths, "
            f"probabilities within {row['probability_off']:.1e}; {row['mean_ms']:.1f} ms an answer, "
            f"{row['over_largest']:.2f} of the largest model alone",
            flush=True,
        )
    same = all(row["same"] == row["images"] for row in rows)
    print(f"same answers in Chromium: {'PASS' if same else 'NOT'}")
    return finish("web", {"rows": rows, "same": same}, seed=given.seed, folder=results)


def _in_browser(program: str, made: Made, images: int, runtime: str | None, results: Path) -> dict[str, Any]:
    with TemporaryDirectory(prefix="zooselect-") as temporary:
        page = Path(temporary) / "page"
        write_page(made.folder, page, runtime=runtime)
        write_page(made.folder, page / "alone", ALONE_PRECISION, runtime=runtime)
        (page / "shown").mkdir()
        count = min(images, len(made.test))
        for i in range(count):
            content = made.test.packed(i).content
            assert isinstance(content, bytes)
            (page / "shown" / f"{i}.jpg").write_bytes(content)
        selector = Selector.load(made.folder, watch=False)
        wanted = [selector.predict(made.test.image(i)) for i in range(count)]
        with browser(program, Path(temporary) / "browser") as tab, served(page) as url:
            found = answers(tab, url, count, ending="jpg", alone=True)
            version = tab.tell("Browser.getVersion")["product"]
            for width in (390, 1200):
                name = f"web-{made.numbers}-{made.kind.replace(' ', '-')}-{width}.png"
                tab.choose("#files", [page / "shown" / f"{i}.jpg" for i in range(6)])
                tab.wait_for("document.querySelectorAll('#list li').length >= 6")
                (results / name).write_bytes(tab.picture(width, 900))
    times, largest = (np.array([answer[i] for answer in found]) for i in (4, 5))
    return {
        "policy": made.kind,
        "models": made.numbers,
        "browser": version,
        "images": count,
        "same": same_answers(found, wanted),
        "probability_off": probability_off(found, wanted),
        "mean_ms": round(float(times.mean()), 2),
        "largest_ms": round(float(largest.mean()), 2),
        "over_largest": round(float(times.mean() / largest.mean()), 3),
    }


def answers(tab: Tab, url: str, count: int, *, ending: str, alone: bool = False) -> list[list[Any]]:
    """What the page at `url` answers to its images: label, model, path, probability, and times."""
    tab.open(url + "index.html")
    tab.wait_for("document.getElementById('status').textContent.startsWith('Ready')")
    script = ANSWERS.replace("COUNT", str(count)).replace("ENDING", ending)
    found: list[list[Any]] = tab.run(script.replace("ALONE", json.dumps(alone)))
    return found


def same_answers(found: Sequence[Sequence[Any]], wanted: Sequence[Prediction]) -> int:
    """How many answers have the label, the model and the path of Python's."""
    return sum(
        list(answer[:3]) == [one.label, one.model, [*one.path]]
        for answer, one in zip(found, wanted, strict=True)
    )


def probability_off(found: Sequence[Sequence[Any]], wanted: Sequence[Prediction]) -> float:
    """The largest difference between estimates that an answer is right."""
    known = [(answer[3], one.probability) for answer, one in zip(found, wanted, strict=True)]
    off = [abs(float(got) - one) for got, one in known if got is not None and one is not None]
    return max(off, default=0.0)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Address of a web server for a folder, on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    handler = functools.partial(Quiet, directory=os.fspath(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
