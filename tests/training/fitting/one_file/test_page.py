"""Claims about the page: complete, from one server, and the same answers in a browser as in Python."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from benchmarks.elsewhere.chromium import Tab, browser, chromium
from benchmarks.elsewhere.web import answers, probability_off, same_answers, served
from selector import Selector
from tests.support.command_line import CommandLine
from training.fitting.one_file.page import PAGE_FILES, RUNTIME_FILES, write_page
from zoo.errors import BundleError, MissingExtraError

if TYPE_CHECKING:
    from tests.support.one_files import OneFiles


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """Files by the names of the browser's ONNX Runtime, for tests that open no browser."""
    folder = tmp_path / "dist"
    folder.mkdir()
    for name in RUNTIME_FILES:
        (folder / name).write_text("/*! ONNX Runtime Web v1.30.0 */")
    return folder


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    program = chromium()
    if program is None:
        pytest.skip("needs Chromium, to run the page in")
    if "ZOOSELECT_ORT_WEB" not in os.environ:
        pytest.skip("set ZOOSELECT_ORT_WEB to the folder 'dist' of an unpacked npm package onnxruntime-web")
    with browser(program, tmp_path / "browser") as found:
        yield found


def test_a_page_holds_all_that_it_needs(
    one_files: OneFiles, runtime: Path, tmp_path: Path, zooselect: CommandLine
) -> None:
    bundle, page = one_files.world.bundles["cascade"], tmp_path / "page"
    command = ["export", "--web", "page", "--bundle", bundle, "--precision", "0.9", "--runtime", runtime]
    assert zooselect(*command, "--json").json()["certified"]
    names = {path.relative_to(page).as_posix() for path in page.rglob("*") if path.is_file()}
    in_runtime = {f"runtime/{name}" for name in (*RUNTIME_FILES, "NOTICE.txt")}
    assert names == {*PAGE_FILES, *in_runtime, "selector.onnx", "selector.json"}
    facts = json.loads((page / "selector.json").read_bytes())
    assert facts["sha256"] == hashlib.sha256((page / "selector.onnx").read_bytes()).hexdigest()
    assert (facts["constraint"], facts["runtime"]) == ("precision 0.9", "onnxruntime-web 1.30.0")
    text = "".join((page / name).read_text() for name in PAGE_FILES)
    assert "https://" not in text  # everything comes from the server of the page
    assert "python -m http.server --directory page" in zooselect(*command).out  # written over its own page


def test_a_folder_of_something_else_and_a_wrong_runtime_are_refused(
    one_files: OneFiles, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, mine = one_files.world.bundles["cascade"], tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    with pytest.raises(BundleError, match="expected an empty folder, or one with a page"):
        write_page(bundle, mine, runtime=runtime)
    assert [path.name for path in mine.iterdir()] == ["letter.txt"]
    (runtime / RUNTIME_FILES[1]).unlink()
    with pytest.raises(BundleError, match=f"without {RUNTIME_FILES[1]}"):
        write_page(bundle, tmp_path / "page", runtime=runtime)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingExtraError, match="expected npm, to fetch onnxruntime-web 1"):
        write_page(bundle, tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_a_browser_answers_as_python_does(one_files: OneFiles, tmp_path: Path, tab: Tab) -> None:
    bundle, page = one_files.world.bundles["probe"], tmp_path / "page"
    write_page(bundle, page, runtime=os.environ["ZOOSELECT_ORT_WEB"])
    images = [one_files.world.data.image(i) for i in range(1000, 1200)]
    (page / "shown").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(page / "shown" / f"{i}.png")
    wanted = [Selector.load(bundle).predict(image) for image in images]
    with served(page) as url:
        found = answers(tab, url, len(images), ending="png")
        tab.choose("#files", [page / "shown" / "0.png", page / "style.css"])
        tab.wait_for("document.querySelectorAll('#list li').length === 1")
        tab.wait_for("document.getElementById('problem').textContent.startsWith('style.css: ')")
        refused = tab.run(
            "const { Selector } = await import('./zooselect.js'); const one = await Selector.load();"
            "const given = [null, 'a.png', { data: new Uint8Array(5), height: 2, width: 2 }];"
            "const said = await Promise.allSettled(given.map((it) => one.predict(it)));"
            "return said.map((it) => it.reason.message)"
        )
        pictures = [tab.picture(width, 900, dark=dark) for width, dark in ((390, False), (1200, True))]
        widths = tab.run("return [document.documentElement.scrollWidth, innerWidth]")
    assert same_answers(found, wanted) == len(images)
    assert [words.partition(", got ")[2] for words in refused] == ["null.", "a.png.", "5."]
    assert probability_off(found, wanted) < 1e-5
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert widths[0] <= widths[1]  # nothing lies beside the window


def test_a_page_from_the_file_system_says_what_to_do(
    one_files: OneFiles, runtime: Path, tmp_path: Path, tab: Tab
) -> None:
    write_page(one_files.world.bundles["cascade"], tmp_path / "page", runtime=runtime)
    tab.open((tmp_path / "page" / "index.html").as_uri())
    tab.wait_for(
        "document.getElementById('status').textContent.includes('python -m http.server --directory')"
    )
