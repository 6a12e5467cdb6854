"""Claims about the Selector: honest about what is certified, the same alone, in batches and in simulation."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from selector import Selector
from selector.policies.cascade import CascadePolicy, LookaheadPolicy, right_probability
from selector.policies.constraint import Constraint
from selector.policies.input import InputPolicy
from selector.policies.pool import PoolPolicy
from selector.policies.rules import confidence, next_action
from selector.policies.staged import StagedPolicy
from tests.support.colours import CONFIDENCE_MS, COSTS_MS, KINDS, SELECTOR_MS, STAGE_MS, Kind, edit_bundle
from tests.support.small_models import COLOURS, build_onnx, plain_image
from zoo.errors import BundleError, DigestError, ImageError, ModelError, ModelNotFoundError, PrecisionError

if TYPE_CHECKING:
    from tests.support.world import World

all_kinds = pytest.mark.parametrize("kind", KINDS)


def some_images(world: World, count: int = 90) -> list[NDArray[np.uint8]]:
    return [world.data.image(i * 7) for i in range(count)]


def unsure_image(world: World) -> NDArray[np.uint8]:
    """An image that the first model of the cascade is not sure of."""
    selector = Selector.load(world.bundles["cascade"])
    return next(image for image in some_images(world, 300) if len(selector.predict(image).path) > 1)


def full_cost(selector: Selector, path: tuple[str, ...]) -> float:
    """Milliseconds of models, features and stages."""
    policy = selector.policy
    assert policy is not None
    each = 0.0
    if isinstance(policy, StagedPolicy):
        each = STAGE_MS
    elif isinstance(policy, CascadePolicy | LookaheadPolicy | PoolPolicy) and len(policy.stages) > 1:
        each = CONFIDENCE_MS
    return sum(COSTS_MS[name] + each for name in path) + policy.needs_features * SELECTOR_MS


@all_kinds
def test_chooses_and_answers_as_simulated_on_every_test_image(world: World, kind: Kind) -> None:
    fitted = world.fits[kind]
    from training.outcomes.outcomes import load_outcomes
    from training.outcomes.profile import held_out_images

    selector = Selector.load(world.bundles[kind])
    test = load_outcomes(world.profile, zoo=world.zoo, splits=("test",))
    images = held_out_images(world.profile, world.data)
    assert images.ids == test.ids.tolist()
    for precision in (selector.certified_precisions[0], 0.9, selector.certified_precisions[-1]):
        certificate = fitted.certificate(Constraint(kind="precision", level=precision))
        assert certificate is not None
        simulated = fitted.policy.simulate(test, certificate.threshold)
        truth = [COLOURS[label] for label in test.labels]
        for i in range(len(test)):
            found = selector.predict(images.image(i), precision)
            assert found.model == fitted.policy.models[simulated.answered_by[i]]
            assert (found.label == truth[i]) == simulated.right[i]
            chosen = selector.select(images.image(i), precision)
            assert chosen.model == found.model
            assert chosen.cost_ms == pytest.approx(simulated.cost_ms[i])
            assert chosen.cost_ms == pytest.approx(full_cost(selector, found.path))


@all_kinds
def test_batches_of_any_sizes_get_the_answers_of_their_images(world: World, kind: Kind) -> None:
    selector = Selector.load(world.bundles[kind])
    images = some_images(world)
    images[::3] = [image[:7] for image in images[::3]]
    images[1::3] = [image.repeat(2, axis=1) for image in images[1::3]]
    for precision in (0.9, 0.999):
        together = selector.predict_batch(images, precision)
        for image, found in zip(images, together, strict=True):
            alone = selector.predict(image, precision)
            assert (found.label, found.model, found.path) == (alone.label, alone.model, alone.path)
            assert found.probability == pytest.approx(alone.probability, abs=1e-5, nan_ok=True)
            np.testing.assert_allclose(found.probabilities, alone.probabilities, atol=1e-5)
        chosen = selector.select_batch(images, precision)
        assert [item.model for item in chosen] == [item.model for item in together]
        assert [selector.select(image, precision).model for image in images] == [c.model for c in chosen]


def test_an_answer_is_shown_in_one_line_and_compared_by_what_it_says(world: World) -> None:
    selector = Selector.load(world.bundles["cascade"])
    found = selector.predict(plain_image("red"))
    shown = repr(found)
    assert shown.startswith("Prediction(label='red', probability=1.0, ")
    assert "model='tiny', path=('tiny',), certified=True, reason=None, latency_ms=" in shown
    assert len(shown) < 150
    assert found in {found}
    assert "probability=None" in repr(selector.predict(plain_image("red"), 0.999))


@all_kinds
@pytest.mark.parametrize("precision", [0.9, 0.999])
def test_probabilities_are_there_whenever_they_are_asked_for(
    world: World, kind: Kind, precision: float
) -> None:
    selector = Selector.load(world.bundles[kind])
    image = world.data.image(0)
    (batch,) = selector.predict_batch(image[np.newaxis], precision)
    found = selector.predict(image, precision)
    said, shown = hash(found), repr(found)
    assert found.probabilities.dtype == batch.probabilities.dtype == np.float64
    assert found.probabilities.tolist() == batch.probabilities.tolist()
    assert found.probabilities is found.probabilities
    assert found.label == selector.classes[int(found.probabilities.argmax())]
    assert (hash(found), repr(found)) == (said, shown)


@all_kinds
def test_an_array_of_images_is_answered_in_order_and_pieces(world: World, kind: Kind) -> None:
    selector = Selector.load(world.bundles[kind])
    stacked = np.stack([world.data.image(i) for i in range(150)])
    found = selector.predict_batch(stacked)
    assert [item.label for item in found] == [item.label for item in selector.predict_batch(list(stacked))]
    assert len(found) == 150
    assert selector.predict_batch([]) == []


@all_kinds
def test_threads_get_the_answers_that_one_after_the_other_gives(world: World, kind: Kind) -> None:
    images = some_images(world, 120)
    expected = [(p.label, p.path) for p in map(Selector.load(world.bundles[kind]).predict, images)]
    shared = Selector.load(world.bundles[kind])
    with ThreadPoolExecutor(8) as pool:
        assert [(p.label, p.path) for p in pool.map(shared.predict, images)] == expected


def test_a_cascade_stops_when_sure_and_escalates_when_not(world: World) -> None:
    selector = Selector.load(world.bundles["cascade"])
    assert selector.predict(plain_image("red")).path == ("tiny",)
    found = selector.predict(unsure_image(world))
    assert found.path == ("tiny", "small")
    certificate = selector.certificate()
    assert certificate is not None
    assert isinstance(selector.policy, CascadePolicy)
    logits = world.zoo.model("tiny").logits(unsure_image(world)[np.newaxis])
    first = right_probability(selector.policy.stages[0], np.array(confidence(logits)[0]))
    assert first[0] < certificate.threshold
    probability = selector.predict(plain_image("red")).probability
    assert probability is not None
    assert probability >= certificate.threshold


def test_the_model_at_which_a_cascade_stops_answers(world: World) -> None:
    selector = Selector.load(world.bundles["cascade"])
    found = selector.predict_batch(some_images(world, 300))
    assert any(len(one.path) > 1 for one in found)
    assert all(one.model == one.path[-1] for one in found)


def test_an_input_policy_picks_by_the_scores_and_costs_of_its_models(world: World) -> None:
    selector = Selector.load(world.bundles["input"])
    certificate, policy = selector.certificate(0.9), selector.policy
    assert certificate is not None
    assert isinstance(policy, InputPolicy)
    seen = set()
    for image in some_images(world, 300):
        scores = selector.scores(image[np.newaxis]).astype(np.float64)
        pick = next_action(scores, policy.costs_ms, certificate.threshold, policy.rule)
        chosen = selector.select(image, 0.9)
        assert chosen.model == policy.models[int(pick[0])]
        assert chosen.cost_ms == pytest.approx(COSTS_MS[chosen.model] + SELECTOR_MS)
        seen.add(chosen.model)
    assert len(seen) > 1


def test_models_with_their_classes_in_another_order_answer_by_name(world: World) -> None:
    for name in ("tiny", "small", "full"):
        alone = Selector.load(world.bundles["cascade"], models=[name])
        for colour in COLOURS:
            found = alone.predict(plain_image(colour), 0.9)
            assert found.label == colour
            assert COLOURS[int(found.probabilities.argmax())] == colour


def test_loading_opens_no_session(world: World) -> None:
    selector = Selector.load(world.bundles["input"])
    assert not selector._engine.in_use
    selector.select(plain_image("red"))
    assert selector._engine._models == {}
    selector.warm_up()
    assert sorted(selector._engine._models) == ["full", "small", "tiny"]


def test_warming_up_opens_all_that_may_be_needed(world: World) -> None:
    for kind in KINDS:
        selector = Selector.load(world.bundles[kind])
        selector.warm_up(12, 12)
        engine = selector._engine
        assert sorted(engine._models) == ["full", "small", "tiny"]
        policy = selector.policy
        states = {state.ran for state in policy.states} if isinstance(policy, StagedPolicy) else set()
        features = {"selector"} if kind in ("input", "probe") else set()
        assert {name for name, graph in engine._graphs.items() if graph.opened} == states | features


def test_a_missing_model_file_is_a_model_that_is_not_installed(world: World, tmp_path: Path) -> None:
    bundle = world.copy_bundle("input", tmp_path / "bundle")
    selector = Selector.load(bundle)
    (bundle / selector.bundle.card("full").file).unlink()
    again = Selector.load(bundle)
    assert again.models == ("tiny", "small")
    assert again.reference == "small"
    assert again.predict(plain_image("green"), 0.6).label == "green"
    with pytest.raises(ModelNotFoundError, match=r"the files of full are not in .*\. It holds: tiny, small"):
        Selector.load(bundle, models=["full"])
    with pytest.raises(ModelNotFoundError, match="no model 'huge' in this bundle"):
        Selector.load(bundle, models=["huge"])


def test_a_damaged_model_file_is_found_at_its_first_use_and_harms_no_other(
    world: World, tmp_path: Path
) -> None:
    bundle = world.copy_bundle("cascade", tmp_path / "bundle")
    path = bundle / Selector.load(bundle).bundle.card("small").file
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    selector = Selector.load(bundle)
    assert selector.predict(plain_image("red")).path == ("tiny",)
    with pytest.raises(DigestError, match=r"small-.*\.onnx: expected SHA-256"):
        selector.predict(unsure_image(world))
    assert selector.predict(plain_image("blue")).label == "blue"
    path.unlink()
    with pytest.raises(DigestError, match="expected a file of"):
        selector.predict(unsure_image(world))


def test_a_bundle_without_any_model_file_is_refused(world: World, tmp_path: Path) -> None:
    bundle = world.copy_bundle("input", tmp_path / "bundle")
    shutil.rmtree(bundle / "models")
    with pytest.raises(BundleError, match=r"expected the file of at least one model in .*models, got none"):
        Selector.load(bundle)


def test_a_selector_graph_with_other_ends_is_refused(world: World, tmp_path: Path) -> None:
    from zoo.files import sha256_bytes

    bundle = world.copy_bundle("input", tmp_path / "bundle")
    content = build_onnx()
    name = Selector.load(bundle).bundle.selector
    assert name is not None
    (bundle / name.file).write_bytes(content)
    edit_bundle(
        bundle,
        lambda record: record["selector"].update(sha256=sha256_bytes(content), size_bytes=len(content)),
    )
    with pytest.raises(ModelError, match=r"expected image tensor\(uint8\) → features, scores, got .*logits"):
        Selector.load(bundle).scores(plain_image("red")[np.newaxis])


def test_a_cascade_has_no_scores(world: World) -> None:
    with pytest.raises(BundleError, match="expected a bundle with a selector graph"):
        Selector.load(world.bundles["cascade"]).scores(plain_image("red")[np.newaxis])


BAD_IMAGES: list[tuple[Any, str]] = [
    (np.zeros((8, 8), np.uint8), "grayscale image needs three channels"),
    (np.zeros((8, 8, 1), np.uint8), "grayscale image needs three channels"),
    (np.zeros((8, 8, 4), np.uint8), r"lose its alpha channel"),
    (np.zeros((8, 8, 3), np.uint16), r"Scale 16 bits to 8"),
    (np.zeros((8, 8, 3), np.float32), r"For values 0..1"),
    (np.full((8, 8, 3), np.nan), "NaN or infinite"),
    (np.zeros((0, 8, 3), np.uint8), "at least one pixel"),
    (np.zeros((8, 0, 3), np.uint8), "at least one pixel"),
    (np.zeros((3, 8, 8), np.uint8), "channels come last"),
    (np.zeros((1, 8, 8, 3), np.uint8), "One image has 3 axes"),
    (np.zeros((8, 8, 3), np.int64), "Convert the values to 0..255"),
    ([[1, 2, 3]], "got list"),
    ("photo.jpg", "photo.jpg: cannot be read as an image"),
    (None, "got NoneType"),
]


@pytest.mark.parametrize(("image", "message"), BAD_IMAGES)
@all_kinds
def test_a_bad_image_gets_an_error_that_helps(world: World, kind: Kind, image: Any, message: str) -> None:
    selector = Selector.load(world.bundles[kind])
    for call in (selector.predict, selector.select):
        with pytest.raises(ImageError, match=message):
            call(image)
    with pytest.raises(ImageError, match="image 1: "):
        selector.predict_batch([plain_image("red"), image])


@pytest.mark.parametrize("images", [np.zeros((8, 8, 3), np.uint8), np.zeros((1, 0, 8, 3), np.uint8)])
def test_a_bad_batch_is_refused(world: World, images: Any) -> None:
    with pytest.raises(ImageError, match="expected"):
        Selector.load(world.bundles["input"]).predict_batch(images)


@pytest.mark.parametrize("precision", [0, 1, 1.5, -1, float("nan"), "much", [0.9]])
def test_a_bad_precision_is_refused_everywhere(world: World, precision: Any) -> None:
    selector = Selector.load(world.bundles["input"])
    image = plain_image("red")
    for call in (selector.predict, selector.select):
        with pytest.raises(PrecisionError, match="strictly between 0 and 1"):
            call(image, precision)
    for call in (selector.predict_batch, selector.select_batch):
        with pytest.raises(PrecisionError, match="strictly between 0 and 1"):
            call([image], precision)


def test_refuses_no_threads_and_unknown_devices(world: World) -> None:
    with pytest.raises(BundleError, match="at least one thread, got 0"):
        Selector.load(world.bundles["input"], threads=0)
    with pytest.raises(BundleError, match=r"expected costs of device 'phone', got only: bench-top"):
        Selector.load(world.bundles["input"], costs_of="phone")


def test_many_precisions_do_not_grow_memory_for_ever(world: World) -> None:
    selector = Selector.load(world.bundles["cascade"])
    for i in range(1, 3000):
        selector.certificate(i / 3001)
    assert len(selector._view.courses) <= 1000


def test_read_only_and_strided_images_are_answered(world: World) -> None:
    for kind in KINDS:
        selector = Selector.load(world.bundles[kind])
        wide = np.repeat(plain_image("green"), 2, axis=1)
        wide.flags.writeable = False
        assert selector.predict(wide[::-1, ::2]).label == "green"


def test_a_bundle_of_one_model_answers(tmp_path: Path, world: World) -> None:
    profile, alone = world.profile, world.zoo.only(["small"])
    from tests.support.world import fit_colours, latency_table
    from training.fitting.export import export_bundle

    for kind in ("auto", "input", "cascade", "probe"):
        fitted = fit_colours(profile, alone, latency_table(alone), precision=0.8, policy=kind)
        export_bundle(fitted, alone, tmp_path / kind)
        found = Selector.load(tmp_path / kind).predict(plain_image("blue"))
        assert (found.label, found.model, found.certified) == ("blue", "small", True)
