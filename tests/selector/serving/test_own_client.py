"""A model on our server is a remote model of another zoo, and answers there as it does here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selector.serving.served import open_served
from tests.support.inference_client import inference
from tests.support.small_models import plain_image
from zoo import Zoo
from zoo.convert.foreign.add_remote import add_remote
from zoo.errors import CardError, ZooError
from zoo.remote.descriptor import Encoding
from zoo.remote.discover import Wanted

TOKEN = "a-token-of-this-test"
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 9, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("encoding", ["tensor", "png"])
def test_a_remote_model_answers_as_the_one_here(
    small_zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: Encoding
) -> None:
    monkeypatch.setenv("TEST_TOKEN", TOKEN)
    far = Zoo.create(tmp_path / "far")
    with inference(small_zoo.folder, token=TOKEN) as client:
        wanted = Wanted(encoding=encoding)
        card = add_remote(far, client.url, "full", wanted=wanted, token_env="TEST_TOKEN")
        assert card.classes == small_zoo.card("full").classes
        assert card.remote is not None
        assert card.remote.encoding == encoding
        assert np.array_equal(far.model("full").logits(IMAGES), small_zoo.model("full").logits(IMAGES))


def test_a_model_is_asked_for_by_the_version_that_was_tested(small_zoo: Zoo, tmp_path: Path) -> None:
    far = Zoo.create(tmp_path / "far")
    with inference(small_zoo.folder) as client:
        version = small_zoo.card("full").sha256[:12]
        add_remote(far, client.url, "full", version=version)
        assert far.model("full").logits(plain_image("red")[np.newaxis]).argmax() == 0
        with pytest.raises(ZooError):
            add_remote(far, client.url, "full", version="another", name="other")


def test_models_of_other_servers_are_not_passed_on(small_zoo: Zoo, tmp_path: Path) -> None:
    far = Zoo.create(tmp_path / "far")
    with inference(small_zoo.folder) as client:
        add_remote(far, client.url, "full")
    with pytest.raises(CardError, match="holds itself"):
        open_served(far.folder)
