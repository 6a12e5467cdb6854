"""Claims about models that take too much: another answers, and they are left out until their next version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from selector.answering.following import StoreSelector
from selector.bundle.bundle import read_bundle
from tests.support.bombs import Bomb, bomb_onnx
from tests.support.small_models import COLOURS, build_onnx, plain_image
from tests.support.small_store import Shelf
from zoo.errors import LimitError
from zoo.files import encode_record, sha256_bytes
from zoo.models.limits import RunLimits

if TYPE_CHECKING:
    from tests.support.world import World

USUAL, OTHER = plain_image("red"), plain_image("red", (9, 8))
LIMITS = {"endless": RunLimits(timeout_s=0.05), "greedy": RunLimits(memory_bytes=2**26)}


def exchange(folder: Path, **contents: bytes) -> None:
    """Give models of a bundle other files, as if it had been certified with them."""
    bundle = read_bundle(folder)
    cards = list(bundle.models)
    for i, card in enumerate(cards):
        if card.name in contents:
            content = contents[card.name]
            (folder / card.file).write_bytes(content)
            fact = {"sha256": sha256_bytes(content), "size_bytes": len(content), "classes": COLOURS}
            cards[i] = msgspec.structs.replace(card, **fact)
    made = msgspec.structs.replace(bundle, models=tuple(cards))
    proofs = (msgspec.structs.replace(c, subject_sha256=made.subject(c.policy)) for c in bundle.certificates)
    made = msgspec.structs.replace(made, certificates=tuple(proofs))
    (folder / "bundle.json").write_bytes(encode_record(made))


@pytest.fixture
def shelf(world: World, tmp_path: Path) -> Shelf:
    """A store, and a cascade to install from."""
    return Shelf(world.copy_bundle("cascade", tmp_path / "bundle"), tmp_path / "store")


@pytest.mark.parametrize("kind", ["endless", "greedy"])
def test_another_model_answers_and_the_certificate_is_that_of_the_rest(shelf: Shelf, kind: Bomb) -> None:
    exchange(shelf.folder, tiny=bomb_onnx(kind))
    shelf.install("tiny", "small", "full")
    selector = StoreSelector(shelf.store, "colours", limits=LIMITS[kind])
    level = selector.certified_precisions[-1]
    assert selector.predict(USUAL, level).certified
    assert selector.left_out == ()
    found = selector.predict(OTHER, level)
    assert (found.label, "tiny" in found.path) == ("red", False)
    rest = StoreSelector(shelf.store, "colours", limits=LIMITS[kind])
    shelf.install("small", "full")
    rest.update()
    assert found.certified == rest.predict(OTHER, level).certified
    assert found.reason in (None, "models left out")
    assert (selector.models, selector.certificates) == (rest.models, rest.certificates)
    assert [error.part for error in selector.left_out] == ["tiny"]
    assert "tiny" not in selector.predict(USUAL).path


def test_a_batch_is_answered_without_it_too(shelf: Shelf) -> None:
    exchange(shelf.folder, tiny=bomb_onnx("endless"))
    shelf.install("tiny", "small", "full")
    selector = StoreSelector(shelf.store, "colours", limits=LIMITS["endless"])
    found = selector.predict_batch([USUAL, OTHER, USUAL])
    assert [one.label for one in found] == ["red"] * 3
    assert all("tiny" not in one.path for one in found)


def test_a_batch_that_takes_too_much_together_is_answered_one_by_one(shelf: Shelf) -> None:
    shelf.install("tiny", "small", "full")
    selector = StoreSelector(shelf.store, "colours", limits=RunLimits(memory_bytes=2**16))
    images = [plain_image("red", (40, 40)) for _ in range(64)]  # 19 kB each in 32-bit numbers
    assert [one.label for one in selector.predict_batch(images)] == ["red"] * 64
    assert selector.left_out == ()


def test_it_comes_back_with_its_next_version(shelf: Shelf) -> None:
    exchange(shelf.folder, tiny=bomb_onnx("endless"))
    shelf.install("tiny", "small", "full")
    selector = StoreSelector(shelf.store, "colours", limits=LIMITS["endless"])
    selector.predict(OTHER)
    shelf.install("small", "full")
    selector.update()
    shelf.install("tiny", "small", "full")  # fetched again, but the same
    selector.update()
    assert selector.models == ("small", "full")
    exchange(shelf.folder, tiny=build_onnx(noise=0.01))
    shelf.install("tiny", "small", "full")
    assert selector.update()
    assert (selector.models, selector.left_out) == (("tiny", "small", "full"), ())
    assert selector.predict(OTHER).label == "red"


def test_where_no_model_can_answer_the_input_is_to_blame(shelf: Shelf) -> None:
    exchange(shelf.folder, tiny=bomb_onnx("greedy"), small=bomb_onnx("greedy"), full=bomb_onnx("greedy"))
    shelf.install("tiny", "small", "full")
    selector = StoreSelector(shelf.store, "colours", limits=LIMITS["greedy"])
    for _ in range(2):
        with pytest.raises(LimitError, match="more memory than 67,108,864 bytes"):
            selector.predict(OTHER)
        assert (selector.left_out, len(selector.models)) == ((), 3)
        assert selector.predict(USUAL).label == "red"


def test_a_graph_that_takes_too_much_leaves_the_most_accurate_model(world: World, tmp_path: Path) -> None:
    shelf = Shelf(world.copy_bundle("input", tmp_path / "bundle"), tmp_path / "store")
    exchange(shelf.folder, **dict.fromkeys(("tiny", "small", "full"), bomb_onnx("modest")))
    shelf.install("tiny", "small", "full")
    selector = StoreSelector(shelf.store, "colours", limits=RunLimits(memory_bytes=2**16))
    level = selector.certified_precisions[-1]
    assert selector.predict(USUAL, level).certified
    found = selector.predict(np.zeros((4000, 1000, 3), np.uint8), level)
    assert (found.certified, found.reason, found.path) == (False, "models left out", (selector.reference,))
    assert [error.part for error in selector.left_out] == ["selector graph"]
