"""Claims about the command line without the extra ``train``: devices need nothing of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.support.small_models import plain_image
from tests.support.world import World
from zoo.extras import install_command

ROOT = Path(__file__).resolve().parents[3]


WITHOUT_EXTRAS = """
import sys
for name in ("torch", "torchvision", "sklearn", "skl2onnx", "onnx", "onnxscript", "pyarrow", "matplotlib",
             "scipy", "jinja2"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv.pop(1))
import selector, zoo
"""
COMMAND = WITHOUT_EXTRAS + "from selector.cli import main\nmain()"
ANSWERS = f"{WITHOUT_EXTRAS}print([selector.Selector.load(b).predict('x.png').label for b in sys.argv[1:]])"


def without_extras(*arguments: object, cwd: Path, program: str = COMMAND) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, str(ROOT), *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=100)


def test_device_commands_work_without_the_train_extra(world: World, tmp_path: Path) -> None:
    Image.fromarray(plain_image("green")).save(tmp_path / "x.png")
    done = without_extras(*world.bundles.values(), cwd=tmp_path, program=ANSWERS)
    assert done.stdout.strip() == str(["green"] * len(world.bundles)), done.stderr
    done = without_extras("predict", world.bundles["probe"], "x.png", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["label"] == "green", done.stderr
    done = without_extras("bench", world.bundles["input"], "--runs", 20, cwd=tmp_path)
    assert "(features + scores)" in done.stdout
    assert without_extras("--help", cwd=tmp_path).returncode == 0


def test_other_commands_say_which_extra_they_need(world: World, tmp_path: Path) -> None:
    for arguments in (("profile", "--data", "digits", "--zoo", world.zoo.folder), ("demo",), ("export",)):
        done = without_extras(*arguments, cwd=tmp_path)
        assert done.returncode == 1
        assert install_command("train") in done.stderr
        assert "Traceback" not in done.stderr
