"""Claims about what version 0.1.0 wrote: bundles, stores and profiles are opened and answer as they did."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selector import Selector
from selector.answering.following import StoreSelector
from zoo.models.zoo import Zoo
from zoo.store.store import Store

WRITTEN = Path(__file__).parent / "support" / "written_by_0_1_0.zip"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A zoo, a profile of thirty images in three environments, a bundle and a store, with their answers."""
    with zipfile.ZipFile(WRITTEN) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def expected(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "expected.json").read_text("utf-8"))
    return found


@pytest.mark.parametrize("where", ["bundle", "store"])
def test_a_bundle_and_a_store_answer_as_they_did(written: Path, where: str) -> None:
    if where == "bundle":
        selector = Selector.load(written / "bundle", watch=False)
    else:
        selector = StoreSelector(Store.open(written / "store"), "colours", watch=False)
    for image, then in zip(
        np.load(written / "images.npz")["images"], expected(written)["answers"], strict=True
    ):
        now = selector.predict(image, 0.8)
        assert (now.label, list(now.path), now.certified) == (then["label"], then["path"], then["certified"])
        assert now.probability == pytest.approx(then["probability"], abs=1e-5)


def test_a_profile_is_complete_and_says_the_same(written: Path) -> None:
    pytest.importorskip("torch")
    from tests.support.world import COLOUR_SPLITS, colour_images
    from training.outcomes.outcomes import ALL_SPLITS, load_outcomes
    from training.outcomes.profile import profile

    zoo, then = Zoo.open(written / "zoo"), expected(written)
    parts = sorted((written / "profile" / "outputs").rglob("*.parquet"))
    before = [path.stat().st_mtime_ns for path in parts]
    profile(zoo, colour_images(30, seed=5), written / "profile", splits=COLOUR_SPLITS, progress=False)
    assert [path.stat().st_mtime_ns for path in parts] == before != []
    outcomes = load_outcomes(written / "profile", zoo=zoo, splits=ALL_SPLITS)
    assert (len(outcomes), outcomes.accuracy()) == (then["samples"], pytest.approx(then["accuracy"]))
