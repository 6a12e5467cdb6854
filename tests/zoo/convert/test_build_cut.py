"""Claims about cuts: where a model can be cut, and that its parts answer as it does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.support.kinds_of_networks import NETWORKS
from tests.support.residual_net import CLASSES, SIDE, pixels, residual_net
from zoo.architectures.preprocessing import Preprocessing
from zoo.convert.count import add_counted, count_facts
from zoo.convert.cut.add_cut import add_cut
from zoo.convert.cut.codes import choose_steps, find_ranges
from zoo.convert.cut.cuttable import prepare
from zoo.convert.cut.measure import measure_cuts
from zoo.convert.cut.places import Place, find_places, named_place
from zoo.convert.cut.split import CODES, TENSOR, split, with_codes
from zoo.convert.foreign.import_onnx import wrap_foreign
from zoo.convert.int8.compress import quantize_int8
from zoo.errors import CardError, DataError, DigestError, LatencyError, ModelError, StaleError
from zoo.models.cuts import load_cuts, load_parts, parts_folder, read_part, save_cuts
from zoo.models.session import open_session
from zoo.models.zoo import Zoo

SEES = (SIDE, SIDE)


def prepared(content: bytes) -> tuple[bytes, tuple[Place, ...]]:
    ready = prepare(content, SEES, name="net")
    return ready, find_places(ready, SEES, name="net")


def run(content: bytes, images: np.ndarray, source: str = "image", result: str = "logits") -> np.ndarray:
    found: np.ndarray = open_session(content, name="net").run([result], {source: images})[0]
    return found


def batch(count: int = 4) -> np.ndarray:
    return np.stack(pixels(count, seed=1))


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    made = Zoo.open_or_create(tmp_path / "zoo")
    add_counted(made, "net", residual_net(), CLASSES, SEES)
    return made


def test_places_are_where_one_tensor_crosses() -> None:
    content = residual_net()
    _, places = prepared(content)
    macs = [8 * 8 * 4 * 27, 4 * 4 * 4 * 36, 4 * 4 * 4 * 36, 4 * 3]
    assert count_facts(content, SEES, name="net").macs == sum(macs)
    assert [(place.tensor, place.shape, place.macs_before) for place in places] == [
        ("input/normalised", (3, 8, 8), 0),
        ("r1", (4, 8, 8), macs[0]),
        ("r2", (4, 4, 4), sum(macs[:2])),
        ("flat", (4,), sum(macs[:3])),
    ]


def test_every_place_is_told_on_request() -> None:
    every = find_places(residual_net(), SEES, name="net", every=True)
    assert [place.tensor for place in every] == [
        *(
            "input/resized",
            "input/normalised",
            "c1",
            "r1",
            "c2",
            "r2",
            "sum",
            "block",
            "louder",
            "pooled",
            "flat",
        )
    ]


def test_both_parts_answer_as_the_whole_at_every_place() -> None:
    content = residual_net(branch=True)
    images, whole = batch(), run(content, batch())
    ready = prepare(content, SEES, name="net")
    np.testing.assert_array_equal(run(ready, images), whole)
    every = find_places(ready, SEES, name="net", every=True)
    assert len(every) > 9
    for place in every:
        head, tail = split(ready, place, name="net")
        values = run(head, images, result=TENSOR)
        assert values.shape == (len(images), *place.shape)
        np.testing.assert_allclose(run(tail, values, TENSOR), whole, atol=1e-5)


@pytest.mark.parametrize("per_channel", [False, True])
def test_the_model_with_codes_answers_as_its_parts(per_channel: bool) -> None:
    content, places = prepared(residual_net())
    ranges = find_ranges(content, places, [image[np.newaxis] for image in pixels(8)], name="net")
    for place in places:
        steps = ranges[place.tensor].steps(per_channel=per_channel)
        head, tail = split(content, place, steps=steps, name="net")
        codes = run(head, batch(), result=CODES)
        assert codes.dtype == np.uint8
        assert codes.shape[1:] == place.shape
        one = run(with_codes(content, place, steps, name="net"), batch())
        np.testing.assert_allclose(run(tail, codes, CODES), one, atol=1e-6)


def test_codes_reach_all_values_of_the_images_and_keep_zero() -> None:
    content, places = prepared(residual_net())
    place = next(place for place in places if place.tensor == "flat")
    images = pixels(8)
    ends = find_ranges(content, [place], [image[np.newaxis] for image in images], name="net")["flat"]
    head, _ = split(content, place, name="net")
    values = run(head, np.stack(images), result=TENSOR)
    scale, zero = ends.steps()
    codes = run(split(content, place, steps=ends.steps(), name="net")[0], np.stack(images), result=CODES)
    np.testing.assert_allclose(
        (codes.astype(np.float32) - zero) * scale, values, atol=float(scale) / 2 + 1e-6
    )
    assert values.min() >= 0
    assert int(zero) == 0


def test_a_scale_for_each_channel_is_taken_where_one_changes_answers() -> None:
    content, places = prepared(residual_net(loud=3000.0))
    place = next(place for place in places if place.tensor == "flat")
    images, others = pixels(16), pixels(60, seed=2)
    judged = choose_steps(content, place, images, others, name="net")
    assert judged.steps is not None
    assert judged.steps.scale.shape == (4,)
    assert judged.agreement > 0.95
    plain, places = prepared(residual_net())
    judged = choose_steps(plain, places[-1], images, others, name="net")
    assert judged.steps is not None
    assert judged.steps.scale.shape == ()


def test_an_8_bit_model_is_cut_at_its_own_codes() -> None:
    images = pixels(8)
    content, places = prepared(quantize_int8(residual_net(), images, name="net"))
    place = next(place for place in reversed(places) if place.kind == "uint8")
    judged = choose_steps(content, place, images, (), name="net")
    assert judged.steps is None
    head, tail = split(content, place, name="net")
    codes = run(head, batch(), result=CODES)
    assert codes.dtype == np.uint8
    np.testing.assert_allclose(run(tail, codes, CODES), run(content, batch()), atol=1e-5)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("w2", "a constant: the same for every image"),
        ("kept", "inside of a branch or a loop"),
        ("c3", "beside which 'r2' crosses, too"),
        ("input/planes", "depends on the size of the image"),
        ("image", "all of it on the server"),
        ("logits", "all of it on the device"),
        ("r", "Near: "),
        ("12", "there are 4"),
        ("0", "there are 4"),
        ("", "Near: "),
    ],
)
def test_it_says_why_a_model_cannot_be_cut_somewhere(wanted: str, reason: str) -> None:
    content, places = prepared(residual_net(branch=True))
    with pytest.raises(ModelError, match=re.escape(reason)):
        named_place(content, places, wanted, resolution=SEES, name="net")


def test_a_place_is_named_by_number_or_tensor() -> None:
    content, places = prepared(residual_net())
    for wanted, tensor in (("2", "r1"), ("r1", "r1"), ("c1", "c1")):
        assert named_place(content, places, wanted, resolution=SEES, name="net").tensor == tensor


@pytest.mark.parametrize("kind", ["If", "Loop", "Scan", "QDQ", "half precision", "com.microsoft"])
def test_foreign_networks_are_cut_as_well(kind: str) -> None:
    foreign = NETWORKS[kind]().SerializeToString()
    content = wrap_foreign(foreign, Preprocessing((8, 10)), name="net", classes=CLASSES)
    ready, images = prepare(content, (8, 10), name="net"), batch()
    every = find_places(ready, (8, 10), name="net", every=True)
    assert every
    for place in every:
        ends = find_ranges(ready, [place], [images], name="net").get(place.tensor)
        steps = None if ends is None else ends.steps()
        head, tail = split(ready, place, steps=steps, name="net")
        one = run(with_codes(ready, place, steps, name="net"), images)
        np.testing.assert_allclose(run(tail, run(head, images, result=CODES), CODES), one, atol=1e-5)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ModelError, match="bytes of an ONNX model"):
        prepare(b"nothing", SEES, name="net")


def test_the_zoo_gets_a_model_that_answers_as_both_parts(zoo: Zoo) -> None:
    said: list[float] = []
    card = add_cut(zoo, "net", "3", pixels(8), tell=lambda judged: said.append(judged.agreement))
    assert (card.name, card.parent, card.classes) == ("net-cut3", "net", CLASSES)
    assert card.macs == zoo.card("net").macs
    assert "cut at r2, 8-bit codes, one scale; the parent's class for" in card.source
    parts = load_parts(zoo.folder, card)
    assert (parts.shape, parts.datatype, parts.tensor) == ((4, 4, 4), "UINT8", "r2")
    codes = run(read_part(zoo.folder, parts, "head"), batch(), result=CODES)
    logits = run(read_part(zoo.folder, parts, "tail"), codes, CODES)
    np.testing.assert_allclose(zoo.model("net-cut3").logits(batch()), logits, atol=1e-6)
    assert len(said) == 1


def test_parts_that_do_not_belong_to_the_model_are_refused(zoo: Zoo) -> None:
    card = add_cut(zoo, "net", "3", pixels(8))
    parts = load_parts(zoo.folder, card)
    path = parts_folder(zoo.folder, card.name) / parts.tail.file
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DigestError):
        read_part(zoo.folder, parts, "tail")
    again = add_counted(zoo, "net-cut3", residual_net(loud=2.0), CLASSES, SEES, parent="net", force=True)
    with pytest.raises(StaleError, match="as it is in the zoo"):
        load_parts(zoo.folder, again)
    with pytest.raises(CardError, match="zooselect zoo cut net --at PLACE --name other"):
        load_parts(zoo.folder, zoo.rename("net-cut3", "other"))  # damaged parts do not come along


def test_bad_input_leaves_the_zoo_as_it_was(zoo: Zoo) -> None:
    before = zoo.names
    with pytest.raises(ModelError, match="name of its own"):
        add_cut(zoo, "net", "3", pixels(8), name="net")
    with pytest.raises(DataError, match="at least 8 images"):
        add_cut(zoo, "net", "3", pixels(7))
    with pytest.raises(ModelError, match="was not cut before"):
        add_cut(zoo, add_cut(zoo, "net", "3", pixels(8)).name, "2", pixels(8))
    assert zoo.names == (*before, "net-cut3")


def test_cuts_are_measured_and_kept_until_the_model_changes(zoo: Zoo) -> None:
    with pytest.raises(LatencyError, match="at least 20 runs"):
        measure_cuts(zoo, "net", pixels(8), runs=19)
    with pytest.raises(CardError, match="zooselect zoo cut net --data"):
        load_cuts(zoo.folder, zoo.card("net"))
    table = measure_cuts(zoo, "net", pixels(8))
    save_cuts(table, zoo.folder)
    assert load_cuts(zoo.folder, zoo.card("net")) == table
    sizes = {one.encoding: one.size_bytes for one in table.encoded}
    assert sizes["raw"] == 12 * 13 * 3
    assert [cut.tensor for cut in table.cuts] == ["input/normalised", "r1", "r2", "flat"]
    assert [cut.shows_image for cut in table.cuts] == [True, False, False, False]
    assert [cut.encoded[0].size_bytes for cut in table.cuts] == [192, 256, 64, 4]
    assert table.share_before(table.cuts[-1]) > 0.99
    add_counted(zoo, "net", residual_net(loud=2.0), CLASSES, SEES, force=True)
    with pytest.raises(StaleError, match="as it is in the zoo"):
        load_cuts(zoo.folder, zoo.card("net"))


def test_values_that_are_not_finite_have_no_codes() -> None:
    model = onnx.load_model_from_string(residual_net())
    for tensor in model.graph.initializer:
        if tensor.name == "w1":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full((4, 3, 3, 3), np.inf, np.float32), "w1"))
    content, places = prepared(model.SerializeToString())
    images: Sequence[np.ndarray] = [image[np.newaxis] for image in pixels(8)]
    with pytest.raises(ModelError, match="expected finite values of"):
        find_ranges(content, places, images, name="net")
