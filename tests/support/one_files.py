"""Selectors in one file, written once for all tests from the stored bundles of colours."""

from __future__ import annotations

from pathlib import Path

from tests.support.colours import Kind, StoredWorld
from training.fitting.one_file.write import write_one_file


class OneFiles:
    """A file of each kind of policy, made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.world, self._folder = StoredWorld(folder / "world"), folder

    def __getitem__(self, kind: Kind) -> Path:
        path = self._folder / f"{kind}.onnx"
        if not path.exists():
            write_one_file(self.world.bundles[kind], path)
        return path

    def watched(self, kind: Kind) -> Path:
        """One with the drift features."""
        path = self._folder / f"watched-{kind}.onnx"
        if not path.exists():
            write_one_file(self.world.watched[kind], path, drift=True)
        return path
