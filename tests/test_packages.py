"""Claims about the packages as a whole: what they export, what they import, what they never do."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.colours import Kind
from tests.support.fresh_interpreter import HEAVY, ROOT, loaded_after
from zoo import Zoo

if TYPE_CHECKING:
    from tests.support.world import World

PACKAGES = ("selector", "zoo", "training", "benchmarks")
ANSWER = """
import sys, numpy as np
from zoo import Zoo, load_image
zoo = Zoo.open(sys.argv[1])
assert zoo.model("full").logits(np.zeros((1, 8, 8, 3), np.uint8)).shape == (1, 3)
"""
CHOOSE = """
import sys, numpy as np
from selector import Selector
selector = Selector.load(sys.argv[1])
image = np.zeros((8, 8, 3), np.uint8)
assert selector.select(image).certified
assert selector.predict(image).label == selector.predict_batch([image, image])[1].label
"""
HELP = """
import contextlib, io, sys
from selector.cli import main
sys.argv = ["zooselect", "--help"]
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as said:
    main()
assert "predict" in said.getvalue()
"""


def sources() -> list[Path]:
    return sorted(path for name in (*PACKAGES, "tests", "docs") for path in (ROOT / name).rglob("*.py"))


@pytest.mark.parametrize("name", PACKAGES)
def test_all_is_sorted_and_exact(name: str) -> None:
    package = importlib.import_module(name)
    stated = list(getattr(package, "__all__", []))
    if hasattr(package, "__getattr__"):  # names that are loaded when first asked for
        assert stated == sorted(stated)
        assert all(callable(getattr(package, one)) for one in stated)
        return
    public = {
        key
        for key, value in vars(package).items()
        if not key.startswith("_") and not isinstance(value, types.ModuleType) and key != "annotations"
    }
    on_first_use = getattr(package, "_HOMES", {})
    assert stated == sorted(public - {"Any", "TYPE_CHECKING"} | {*on_first_use})
    assert all(hasattr(package, key) for key in on_first_use)


@pytest.mark.parametrize(
    "program",
    [
        "import zoo",
        "import selector",
        "import selector, zoo; from zoo import *; from selector import *",
        "import zoo.store.store, zoo.client.selftest",
        "import zoo.client.fetch; zoo.client.fetch.Fetcher('https://example.org')",
    ],
)
def test_the_device_side_imports_nothing_heavy(program: str) -> None:
    assert not loaded_after(program) & set(HEAVY)


def test_answering_imports_nothing_heavy(small_zoo: Zoo) -> None:
    loaded = loaded_after(ANSWER, str(small_zoo.folder))
    assert "onnxruntime" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("kind", ["input", "cascade"])
def test_choosing_and_answering_with_a_bundle_imports_nothing_heavy(world: World, kind: Kind) -> None:
    loaded = loaded_after(CHOOSE, str(world.bundles[kind]))
    assert "onnxruntime" in loaded
    assert not loaded & {*HEAVY, "PIL.Image", "tqdm", "typer"}


def test_importing_the_device_side_leaves_pictures_and_progress_bars_for_later() -> None:
    assert not loaded_after("import selector, zoo") & {"PIL.Image", "tqdm", "typer", "numpy", "onnxruntime"}


def test_the_commands_are_listed_before_anything_that_computes_is_loaded() -> None:
    loaded = loaded_after(HELP)
    assert {"typer", "selector.commands.device"} <= loaded
    assert not loaded & {
        *(set(HEAVY) - {"training"}),
        "numpy",
        "onnxruntime",
        "PIL",
        "tqdm",
        "tuf",
        "urllib3",
    }


@pytest.mark.skipif(not importlib.util.find_spec("importlinter"), reason="import-linter is not installed")
def test_imports_flow_one_way() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"]
    done = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


UNSAFE = re.compile(
    r"""\b(c?pickle|dill|joblib|cloudpickle)\.(load|loads|Unpickler)\b  # code from data
    | ^\s*(import|from)\s+(cpickle|dill|cloudpickle|shelve|marshal)\b
    | ^\s*import\s+joblib\b  # but for its processes, which are given work by the one that started them
    | ^\s*from\s+joblib\s+import\s+(?!Parallel,\ delayed,\ parallel_config$)
    | ^\s*from\s+joblib\.\S+\s+import\s+(?!(get_reusable_executor|BrokenProcessPool)$)
    | ^\s*from\s+pickle\s+import\b(?!\s+\w*Error$)
    | allow_pickle\s*=\s*True
    | weights_only\s*=\s*False
    | \btorch\.load\((?![^\n]*weights_only\s*=\s*True)
    """,
    re.VERBOSE | re.MULTILINE,
)


def test_nothing_reads_a_format_that_can_run_code() -> None:
    found = {
        str(path.relative_to(ROOT)): match.group(0)
        for path in sources()
        if path != Path(__file__) and (match := UNSAFE.search(path.read_text("utf-8")))
    }
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "model = pickle.load(stream)",
        "from pickle import load",
        "    from joblib import load",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
    ],
)
def test_the_search_for_unsafe_reads_would_find(line: str) -> None:
    assert UNSAFE.search(f"x = 1\n{line}\n")


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=False)",
        "except pickle.UnpicklingError as error:",  # what torch.load raises for a file that is not weights
        "from pickle import UnpicklingError",
    ],
)
def test_the_search_for_unsafe_reads_passes(line: str) -> None:
    assert not UNSAFE.search(f"x = 1\n{line}\n")


FORKS = re.compile(
    r"""\bos\.(fork|forkpty)\b | \bpty\.(fork|spawn)\b | \bpreexec_fn\b
    | (get_context|set_start_method)\(\s*(["\'](fork|forkserver)["\'])?\s*\)  # no name is fork on Linux
    | \bmultiprocessing\.(Pool|Process|Pipe|Queue|Manager)\b
    | ^\s*from\s+multiprocessing\s+import\s[^\n]*\b(Pool|Process|Queue|Manager)\b
    | ProcessPoolExecutor\((?![^\n]*mp_context=get_context\("spawn"\))
    """,
    re.VERBOSE | re.MULTILINE,
)


def test_no_process_is_forked() -> None:
    """A child of a process with threads waits for ever for a lock that a thread held while it was forked."""
    found = {
        str(path.relative_to(ROOT)): match.group(0)
        for path in sources()
        if path != Path(__file__) and (match := FORKS.search(path.read_text("utf-8")))
    }
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "child = os.fork()",
        "subprocess.Popen(command, preexec_fn=limit)",
        "multiprocessing.Process(target=work)",
        "from multiprocessing import Pool",
        "get_context()",
        'get_context("fork")',
        "with ProcessPoolExecutor(4) as pool:",
    ],
)
def test_the_search_for_forks_would_find(line: str) -> None:
    assert FORKS.search(f"x = 1\n{line}\n")


@pytest.mark.parametrize("name", PACKAGES)
def test_ships_its_types(name: str) -> None:
    assert (ROOT / name / "py.typed").is_file()


def test_progress_bars_are_drawn_on_terminals_only() -> None:
    bars = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for call in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "tqdm":
                    options = {item.arg: ast.unparse(item.value) for item in call.keywords}
                    bars.append((path.name, options.get("disable", "never")))
    assert len(bars) > 5
    assert [bar for bar in bars if not bar[1].endswith("None")] == []
