"""Claims about a model whose head is on the device and whose tail is on a server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.residual_net import CLASSES, SIDE, pixels, residual_net
from tests.support.tail_server import serving_tail
from zoo.convert.count import add_counted
from zoo.convert.cut.add_cut import add_cut, add_remote_cut
from zoo.errors import DigestError, ModelError, UnreachableError, ZooError
from zoo.models.cuts import keeping_images, load_parts, read_part
from zoo.models.model import Model
from zoo.models.zoo import Zoo

pytest.importorskip("urllib3")
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    made = Zoo.open_or_create(tmp_path / "zoo")
    add_counted(made, "net", residual_net(), CLASSES, (SIDE, SIDE))
    add_cut(made, "net", "2", pixels(8))
    return made


def test_head_and_served_tail_answer_as_the_model_that_is_certified(zoo: Zoo) -> None:
    tail = read_part(zoo.folder, load_parts(zoo.folder, zoo.card("net-cut2")), "tail")
    with serving_tail(tail, "net-cut2-tail") as address:
        card = add_remote_cut(zoo, "net-cut2", address)
        model = Zoo.open(zoo.folder).model(card.name)
        images = np.stack(pixels(5, seed=3))
        np.testing.assert_allclose(model.logits(images), zoo.model("net-cut2").logits(images), atol=1e-6)
        assert model.remote is not None
        up, _ = model.remote.last_bytes
        assert 5 * 256 < up < 5 * 256 + 1000
        model.run(images[:1])
        known, (up, down) = card.remote, model.remote.last_bytes
        assert known is not None
        assert abs(known.uplink_bytes - up) <= 4  # digits of ports and lengths
        assert abs(known.downlink_bytes - down) < 120
        model.remote.client.close()
    assert (card.parent, card.classes) == ("net-cut2", CLASSES)
    assert 0 < card.macs < zoo.card("net").macs
    assert card.file.endswith(".onnx")


def test_only_codes_behind_a_layer_keep_the_image_on_the_device(zoo: Zoo) -> None:
    early = add_cut(zoo, "net", "1", pixels(8))
    for name in (early.name, "net-cut2"):
        add_remote_cut(zoo, name, NOWHERE)
    assert [card.name for card in zoo.cards if card.sends_image] == ["net-cut1-remote"]
    assert keeping_images(zoo.cards) == ("net", "net-cut2", "net-cut1", "net-cut2-remote")


def test_without_the_server_there_is_an_error_of_ours(zoo: Zoo) -> None:
    model = zoo.model(add_remote_cut(zoo, "net-cut2", NOWHERE).name)
    with pytest.raises(UnreachableError):
        model.logits(np.stack(pixels(1)))


def test_another_file_or_server_is_refused(zoo: Zoo) -> None:
    card = add_remote_cut(zoo, "net-cut2", NOWHERE)
    other = add_remote_cut(zoo, "net-cut2", "http://127.0.0.1:10", name="other")
    content = (zoo.folder / other.file).read_bytes()
    with pytest.raises(ModelError, match="expected the server of its card in the file"):
        Model(card, content)
    with pytest.raises(ModelError):
        Model(card, (zoo.folder / zoo.card("net").file).read_bytes())
    with pytest.raises(ModelError, match="got one that a server holds"):
        add_cut(zoo, card.name, "1", pixels(8))
    with pytest.raises(ZooError, match="such as https://"):
        add_remote_cut(zoo, "net-cut2", "file:///tmp/x")
    path = zoo.folder / card.file
    path.write_bytes(content)
    with pytest.raises(DigestError):
        zoo.model(card.name)
