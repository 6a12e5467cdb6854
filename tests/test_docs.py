"""The documents name what exists, link to what exists, and are current where they are made from the code."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from selector import Bundle, Selector
from selector.bundle.bundle import SelectorGraph
from tests.support.fresh_interpreter import ROOT
from tests.support.pages import HISTORY, PAGES, anchors_of, code_words_of, links_of, programs_of, text_of

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
every_current_page = pytest.mark.parametrize(
    "page", [page for page in PAGES if page != HISTORY], ids=lambda page: page.name
)

MAX_LINE = 150  # characters of a line of prose; tables and programs may be wider
WRAPPED = ["README.md", "CONTRIBUTING.md"]
WRAPPED += [f"docs/{name}.md" for name in ("architecture", "bundle-format", "models", "tried")]
DOTTED = re.compile(r"(?:zoo|selector|training|benchmarks)(?:\.\w+)+")
FILE_NAME = re.compile(r"\.(json|md|py|onnx)$")
PATH = re.compile(r"(?:zoo|selector|training|benchmarks|tests|docs)/[\w./-]+")


def imported(name: str) -> object:
    """A module of ours; skips the test where the packages that it needs are not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("zoo", "selector", "training", "benchmarks"):
            raise
        pytest.skip(f"{name} needs {error.name}, which is not installed")


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if importlib.util.find_spec(parts[0]) and is_module(".".join(parts[:end])):
            found = imported(".".join(parts[:end]))
            for attribute in parts[end:]:
                found = getattr(found, attribute, None)
            return found is not None
    return False


def is_module(name: str) -> bool:
    """Whether a module has this name; its parents are packages of ours, which import nothing."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def is_of_an_instance(name: str) -> bool:
    """Whether ``selector.…`` is an attribute of a Selector, or a field of a bundle, and no module."""
    first = name.split(".")[1]
    fields = {*Bundle.__struct_fields__, *SelectorGraph.__struct_fields__}
    return name.startswith("selector.") and (hasattr(Selector, first) or first in fields)


@every_current_page
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    words = {re.sub(r"\(.*\)$", "", word) for word in code_words_of(page)}
    named = {word for word in words if DOTTED.fullmatch(word) and not FILE_NAME.search(word)}
    assert not {name for name in named if not resolves(name) and not is_of_an_instance(name)}


@every_current_page
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    named = {word for word in code_words_of(page) if PATH.fullmatch(word)}
    assert not {word for word in named if not (ROOT / word).exists()}


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in links_of(page):
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        if not other.exists() or (anchor and anchor not in anchors_of(other)):
            broken.append(target)
    assert not broken


@every_current_page
def test_python_in_a_page_imports_what_exists(page: Path) -> None:
    for program in programs_of(page):
        if page.name == "api.md" and not program.startswith("from "):
            continue  # a signature
        for node in ast.walk(ast.parse(program)):
            if isinstance(node, ast.ImportFrom):
                module = imported(node.module or "")
                assert not [one.name for one in node.names if not hasattr(module, one.name)]


def test_the_readme_can_be_read_at_one_sitting() -> None:
    assert len(text_of(ROOT / "README.md").splitlines()) <= 200


@pytest.mark.parametrize("name", WRAPPED)
def test_lines_of_prose_can_be_read_in_an_editor(name: str) -> None:
    prose = re.sub(r"^```.*?^```|^\|.*?$", "", text_of(ROOT / name), flags=re.MULTILINE | re.DOTALL)
    assert not [line for line in prose.splitlines() if len(line) > MAX_LINE]


def test_the_readme_gives_the_command_that_the_checks_run() -> None:
    assert "pip install -e '.[test]' && pytest" in text_of(ROOT / "README.md").splitlines()


def test_the_newest_version_of_the_changelog_is_that_of_the_package() -> None:
    version = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["version"]
    newest = re.search(r"^## (\S+)", text_of(HISTORY), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


def test_every_bound_of_a_package_has_its_reason_and_the_tested_versions_keep_it() -> None:
    """``SECURITY.md`` says why a bound is where it is; ``constraints.txt`` holds what is tested."""
    settings = tomllib.loads(text_of(ROOT / "pyproject.toml"))
    project = settings["project"]
    asked = [*settings["build-system"]["requires"], *project["dependencies"]]
    for extra in ("train", "fetch", "publish", "serve"):
        asked += project["optional-dependencies"][extra]
    asked += [one for one in project["optional-dependencies"]["test"] if one.startswith("pytest>=")]
    bounds = {re.split(r"[\[>]", one)[0]: one.partition(">=")[2] for one in asked}
    reasons = dict(re.findall(r"^\| `([\w-]+)` \| (\S+) \| \S", text_of(ROOT / "SECURITY.md"), re.MULTILINE))
    assert reasons == bounds
    tested = dict(line.lower().split("==") for line in text_of(ROOT / "constraints.txt").split())
    for name in bounds.keys() - {"setuptools"}:
        assert [int(part) for part in tested[name].split(".")] >= [
            int(part) for part in bounds[name].split(".")
        ]


def test_packages_with_weights_of_others_are_pinned() -> None:
    extras = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
    tested = text_of(ROOT / "constraints.txt").split()
    assert all(one in tested for one in extras["efficientnet-lite"])


@every_current_page
def test_no_page_installs_this_project_by_a_name_that_others_may_hold(page: Path) -> None:
    assert not re.search(r"pip install [^`\n&]*\bzooselect\b", text_of(page))


def test_the_readme_names_every_folder() -> None:
    readme = text_of(ROOT / "README.md")
    folders = {
        path.name
        for package in ("zoo", "selector", "training", "benchmarks")
        for path in (ROOT / package).iterdir()
        if (path / "__init__.py").is_file()
    }
    assert not {name for name in folders if f"{name}/" not in readme}


@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("torch", "tuf", "starlette")),
    reason="the pages are made from all commands, which need all extras",
)
def test_pages_and_pictures_made_from_the_code_are_current() -> None:
    command = [sys.executable, str(ROOT / "docs" / "write.py"), "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
