"""Pictures that several commands are tried on."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.support.small_models import COLOURS
from tests.support.world import colour_images


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders with PNG files."""
    root = tmp_path_factory.mktemp("pictures") / "colours"
    data = colour_images(200)
    for i in range(0, len(data), 3):
        folder = root / COLOURS[data.labels[i]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.image(i)).save(folder / f"{data.ids[i]}.png")
    return root
