"""Claims about what scenarios are made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.scenarios.materials import cifar10
from zoo.errors import DataError, ZooError


def test_a_folder_without_the_data_is_told_what_should_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.scenarios.materials.add_cifar_resnet", lambda *_: None)
    with pytest.raises(DataError, match=r"expected .*cifar10-train\.zip or a folder .*train, got neither"):
        cifar10(tmp_path / "out", tmp_path, tmp_path, seed=0)


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="resnet20"):
        cifar10(tmp_path / "out", tmp_path, tmp_path, seed=0)
