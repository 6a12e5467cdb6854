"""The second parts of models that were cut are served: codes in, logits out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selector.serving.on_ray import packed
from tests.support.inference_client import answered, inference, refused
from tests.support.residual_net import CLASSES, SIDE, pixels, residual_net
from zoo.convert.count import add_counted
from zoo.convert.cut.add_cut import add_cut
from zoo.errors import CardError
from zoo.models.cuts import load_parts, read_part
from zoo.models.session import open_session
from zoo.models.zoo import Zoo


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    made = Zoo.open_or_create(tmp_path / "zoo")
    add_counted(made, "net", residual_net(), CLASSES, (SIDE, SIDE))
    add_cut(made, "net", "r2", pixels(32, seed=2), held_out=pixels(16, seed=3), name="cut")
    return made


def test_a_tail_answers_what_the_head_sends_as_the_whole_does(zoo: Zoo) -> None:
    parts, images = load_parts(zoo.folder, zoo.card("cut")), np.stack(pixels(4, seed=1))
    head = open_session(read_part(zoo.folder, parts, "head"), name="head")
    codes = head.run(["codes"], {"image": images})[0]
    with inference(zoo.folder) as client:
        about = client.ask("GET", "/v2/models/cut-tail").json
        assert about["inputs"] == [{"name": "codes", "datatype": "UINT8", "shape": [-1, *parts.shape]}]
        found = answered(client.infer("cut-tail", codes, name="codes"))["logits"]
        assert np.allclose(found, zoo.model("cut").logits(images), atol=1e-4)
        refused(client.infer("cut-tail", images), 400)
        refused(client.infer("cut-tail", codes[..., :1], name="codes"), 400)
        refused(client.infer("cut-tail", [b"file"], name="codes"), 400)
    assert any(file.startswith("cuts/") for file in packed(zoo.folder))


def test_a_model_with_the_name_of_a_tail_is_refused(zoo: Zoo) -> None:
    zoo.rename("net", "cut-tail")
    with pytest.raises(CardError, match="'cut-tail'"), inference(zoo.folder):
        pass
