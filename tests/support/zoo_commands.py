"""The commands of ``zooselect zoo``, run as the command line runs them, and what they work on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from tests.support.foreign_models import foreign
from training.commands.zoo import register
from zoo.architectures.cifar_resnet import CifarResNet
from zoo.errors import ZooError


def run(*arguments: object) -> Result:
    """``zooselect zoo`` with these arguments; errors of ours are raised."""
    app = typer.Typer()

    @app.callback()
    def main() -> None:
        """Stands for the whole command line, which has more commands than these."""

    register(app)
    result = CliRunner().invoke(app, ["zoo", *map(str, arguments)])
    if isinstance(result.exception, ZooError):
        raise result.exception
    return result


def make_folder(tmp_path: Path) -> Path:
    """A foreign model, its class names, weights of a ResNet-8, and a few images in class folders."""
    (tmp_path / "net.onnx").write_bytes(foreign(opset=13).SerializeToString())
    (tmp_path / "names.txt").write_text("cat\ndog\nemu\n", encoding="utf-8")
    state = CifarResNet(8).state_dict()
    np.savez(tmp_path / "resnet8.npz", **{key: value.numpy() for key, value in state.items()})
    rng = np.random.default_rng(0)
    for index in range(12):
        path = tmp_path / "images" / ("cat", "dog", "emu")[index % 3] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 14, 3), dtype=np.uint8)).save(path)
    return tmp_path


def add_onnx(folder: Path, *more: object) -> Result:
    """Add the foreign model of the folder as ``net``."""
    return run(
        *("add", "--zoo", folder / "zoo", "--onnx", folder / "net.onnx"),
        *("--classes", folder / "names.txt", "--size", "8x10", "--output", "y", *more),
    )
