"""Claims about a Selector over a store: it follows what is installed, and answers all the while."""

from __future__ import annotations

import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import selector.answering.following
from selector import Selector
from selector.answering.following import StoreSelector
from tests.support.colours import KINDS, Kind, edit_bundle
from tests.support.fresh_interpreter import HEAVY, loaded_after
from tests.support.small_device import until
from tests.support.small_models import COLOURS, plain_image
from tests.support.small_store import Shelf
from tests.support.world_images import recent_demand, some_images
from zoo.errors import BundleError, ModelNotFoundError

if TYPE_CHECKING:
    from tests.support.world import World


@pytest.fixture
def shelf(world: World, tmp_path: Path) -> Shelf:
    """An empty store, and the cascade to install from."""
    return Shelf(world.bundles["cascade"], tmp_path / "store")


@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_like_the_bundle_in_its_folder(world: World, tmp_path: Path, kind: Kind) -> None:
    shelf = Shelf(world.bundles[kind], tmp_path / "store")
    shelf.install("tiny", "small", "full")
    over, loaded = StoreSelector(shelf.store, "colours"), Selector.load(world.bundles[kind])
    assert (over.models, over.certificates, over.classes) == (loaded.models, loaded.certificates, COLOURS)
    for precision in (0.85, 0.9, 0.999):
        for image in some_images(world, 30):
            here, there = over.predict(image, precision), loaded.predict(image, precision)
            assert (here.path, here.label, here.certified) == (there.path, there.label, there.certified)


ANSWER = """
import sys, numpy as np
from selector.answering.following import StoreSelector
from zoo.store.store import Store
selector = StoreSelector(Store.open(sys.argv[1]), "colours")
assert selector.predict(np.zeros((8, 8, 3), np.uint8)).label
assert len(selector.recalled().answers) == 1
"""


def test_answering_from_a_store_imports_nothing_heavy(shelf: Shelf) -> None:
    shelf.install("tiny", "small")
    loaded = loaded_after(ANSWER, str(shelf.store.folder))
    assert "onnxruntime" in loaded
    assert not loaded & {*HEAVY, "PIL.Image", "tqdm", "typer", "tuf", "urllib3"}


def test_it_needs_its_bundle_and_a_model(shelf: Shelf) -> None:
    shelf.install("tiny", bundle=False)
    with pytest.raises(BundleError, match="expected the bundle 'colours'"):
        StoreSelector(shelf.store, "colours")
    shelf.install()
    with pytest.raises(BundleError, match="at least one of the models tiny, small, full to be inst"):
        StoreSelector(shelf.store, "colours")
    with pytest.raises(BundleError, match="at least one thread"):
        StoreSelector(shelf.store, "colours", threads=0)


def test_it_follows_the_best_policy_for_what_is_installed(shelf: Shelf) -> None:
    shelf.install("tiny")
    selector = StoreSelector(shelf.store, "colours")
    assert not selector.update()
    levels = {("tiny",): selector.certified_precisions[-1]}
    for models in (("tiny", "small"), ("tiny", "full"), ("full",)):
        shelf.install(*models)
        assert selector.update()
        assert not selector.update()
        assert selector.models == models
        assert selector.policy is not None
        assert selector.policy.models == models
        levels[models] = selector.certified_precisions[-1]
        assert selector.predict(plain_image("red"), levels[models]).certified
    alone = {models: Selector.load(shelf.folder, models=models).certified_precisions[-1] for models in levels}
    assert levels == alone


def test_open_sessions_are_kept_and_new_ones_are_open_before_the_switch(shelf: Shelf) -> None:
    shelf.install("tiny")
    selector = StoreSelector(shelf.store, "colours")
    shelf.install("tiny", "full")
    selector.update()
    assert not selector._engine._models  # nothing was asked yet, so nothing has to be fast
    selector.predict(plain_image("red"), 0.9)
    tiny = selector._engine._models["tiny"]
    shelf.install("tiny", "small", "full")
    selector.update()
    assert selector._engine._models["tiny"] is tiny
    assert {"tiny", "small", "full"} == set(selector._engine._models)
    shelf.install("small")
    selector.update()
    assert set(selector._engine._models) == {"small"}


def test_what_was_replaced_is_closed_in_the_background(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selector.answering.following, "VIEW_RELEASE_DELAY_S", 0.01)
    shelf.install("tiny", "small")
    over = StoreSelector(shelf.store, "colours")
    over.warm_up()
    gone = weakref.ref(over._engine._models["small"])
    shelf.install("tiny")
    over.update()
    until(lambda: gone() is None)


@pytest.mark.parametrize("kind", ["probe", "input"])
def test_graphs_are_kept_too(world: World, tmp_path: Path, kind: Kind) -> None:
    shelf = Shelf(world.bundles[kind], tmp_path / "store")
    shelf.install("tiny", "small", "full")
    selector = StoreSelector(shelf.store, "colours")
    selector.warm_up(12, 12)
    before = selector._engine
    shelf.commit([shelf.model_release(name) for name in ("full", "small", "tiny")], [shelf.bundle_release()])
    assert selector.update()
    after = selector._engine
    assert after is not before
    assert after._graphs == before._graphs != {}
    assert all(graph.opened for graph in after._graphs.values())
    assert after._models == before._models


def test_an_answer_that_finds_its_model_gone_is_given_by_those_that_are_there(shelf: Shelf) -> None:
    shelf.install("tiny", "full")
    selector = StoreSelector(shelf.store, "colours")
    shelf.install("small")  # nothing is open yet, and nobody called update
    found = selector.predict(plain_image("blue"), 0.85)
    assert (found.path, found.label, found.certified) == (("small",), "blue", True)
    shelf.install("full")
    images = [plain_image("red"), plain_image("green", (5, 9))]
    del selector._engine._models["small"]
    assert [item.path for item in selector.predict_batch(images, 0.9)] == [("full",), ("full",)]


def test_open_models_answer_when_the_store_has_nothing_left(shelf: Shelf) -> None:
    shelf.install("tiny")
    selector = StoreSelector(shelf.store, "colours")
    selector.predict(plain_image("red"), 0.79)
    shelf.commit([])
    with pytest.raises(BundleError, match="expected the bundle 'colours'"):
        selector.update()
    assert isinstance(selector.problem, BundleError)
    assert selector.predict(plain_image("red"), 0.79).label == "red"
    shelf.install("tiny", "small")
    assert selector.update()
    assert (selector.models, selector.problem) == (("tiny", "small"), None)


def test_a_model_that_is_gone_without_another_is_an_error(shelf: Shelf) -> None:
    shelf.install("tiny")
    selector = StoreSelector(shelf.store, "colours")
    shelf.commit([])
    with pytest.raises(ModelNotFoundError):
        selector.predict(plain_image("red"))


def test_answers_alone_are_enough_to_notice_what_was_installed(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selector.answering.following, "STORE_CHECK_INTERVAL_S", 0.0)
    shelf.install("tiny")
    chooser = StoreSelector(shelf.store, "colours")
    image = plain_image("red")
    chooser.predict(image)
    shelf.install("tiny", "full")
    until(lambda: chooser.predict(image, 0.9).certified)
    assert chooser.models == ("tiny", "full")
    shelf.commit([])
    until(lambda: bool(chooser.predict_batch([image], 0.9)) and chooser.problem is not None)
    assert chooser.models == ("tiny", "full")


def test_the_store_learns_what_answers(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selector.answering.following, "STORE_CHECK_INTERVAL_S", 0.0)
    shelf.install("tiny", "small", "full")
    chooser = StoreSelector(shelf.store, "colours")
    chooser.warm_up()  # opening counts as use
    before = shelf.store.usage()
    until(lambda: time.time() > max(before.values()))
    chooser.predict(plain_image("red"), 0.79)
    chooser.predict(plain_image("red"), 0.79)
    until(lambda: shelf.store.usage() != before)
    after = shelf.store.usage()
    assert [name for name in after if after[name] > before[name]] == ["tiny"]


def test_another_bundle_starts_counting_anew(world: World, shelf: Shelf, tmp_path: Path) -> None:
    shelf.install("tiny")
    selector = StoreSelector(shelf.store, "colours")
    selector.predict(plain_image("red"))
    shelf.install("tiny", "small")
    selector.update()
    assert (recent_demand(selector).bundle, recent_demand(selector).answers) == ("colours", 1)
    shelf.folder = world.copy_bundle("cascade", tmp_path / "changed")
    edit_bundle(shelf.folder, lambda record: record["default"].update(level=0.8))
    shelf.install("tiny", "small")
    selector.update()
    assert recent_demand(selector).answers == 0
    assert selector.bundle.default.level == 0.8


def test_every_answer_is_given_while_models_come_and_go(world: World, shelf: Shelf) -> None:
    """The one thing that must never happen: an answer that fails because something was installed."""
    shelf.install("tiny", "small")
    selector = StoreSelector(shelf.store, "colours")
    images, stop, failed, answers = some_images(world, 40), threading.Event(), [], [0, 0, 0]

    def answer(which: int) -> None:
        while not stop.is_set():
            image = images[answers[which] % len(images)]
            try:
                found = selector.predict(image, 0.85) if which else selector.predict_batch([image, image])[0]
                assert found.label in COLOURS
                answers[which] += 1
            except Exception as error:
                failed.append(error)
                return

    threads = [threading.Thread(target=answer, args=(which,)) for which in range(3)]
    for thread in threads:
        thread.start()
    for models in (("full",), ("tiny", "full"), ("small",), ("tiny", "small", "full")) * 6:
        shelf.install(*models)
        selector.update()
        assert selector.models == models
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []
    assert min(answers) > 0
