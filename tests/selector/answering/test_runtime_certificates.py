"""Claims about certificates on a device: they count for exactly what they were made for."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from selector import Selector
from selector.policies.constraint import Constraint
from selector.policies.staged import StagedPolicy
from tests.support.colours import COSTS_MS, KINDS, Kind, edit_bundle
from tests.support.small_models import add_colours, build_onnx, plain_image
from zoo import Zoo
from zoo.errors import DigestError, ModelError, PrecisionError

if TYPE_CHECKING:
    from tests.support.world import World

all_kinds = pytest.mark.parametrize("kind", KINDS)


@all_kinds
def test_an_uncertifiable_precision_is_answered_by_the_reference_model_and_says_so(
    world: World, kind: Kind
) -> None:
    selector = Selector.load(world.bundles[kind])
    assert selector.certificate(0.999) is None
    image = world.data.image(0)
    chosen, found = selector.select(image, 0.999), selector.predict(image, 0.999)
    assert (chosen.model, chosen.certified, found.path, found.certified) == ("full", False, ("full",), False)
    assert (chosen.probability, found.probability) == (None, None)
    assert (chosen.reason, found.reason) == ("not proven", "not proven")
    assert chosen.cost_ms == COSTS_MS["full"]
    assert selector.select(image, 0.9).certified
    assert selector.predict(image).certified
    assert (selector.predict(image).reason, selector.select(image).reason) == (None, None)


@all_kinds
def test_a_precision_between_two_levels_is_covered_by_the_next_higher_one(world: World, kind: Kind) -> None:
    selector = Selector.load(world.bundles[kind])
    levels = selector.certified_precisions
    assert list(levels) == sorted(levels)
    for low, high in itertools.pairwise(levels):
        covering = selector.certificate((low + high) / 2)
        assert covering is not None
        assert covering.constraint == Constraint(kind="precision", level=high)
    exact = selector.certificate(levels[0])
    assert exact is not None
    assert exact.constraint.level == levels[0]


@pytest.mark.parametrize("kind", ["input", "learned", "probe"])
def test_with_fewer_models_than_any_policy_needs_the_best_installed_one_answers(
    world: World, kind: Kind
) -> None:
    image = world.data.image(0)
    for models, best in ((["tiny"], "tiny"), (["small", "tiny"], "small"), (["small", "full"], "full")):
        subset = Selector.load(world.bundles[kind], models=models)
        assert (subset.policy, subset.certificates, subset.certified_precisions) == (None, (), ())
        found = subset.predict(image, 0.6)
        assert (found.certified, found.path, subset.reference) == (False, (best,), best)
        assert found.reason == subset.select(image, 0.6).reason == "models missing"
    assert Selector.load(world.bundles[kind], models=["full", "tiny", "small"]).certified_precisions


SUBSETS = [(["tiny"], ("tiny",)), (["tiny", "full"], ("tiny", "full")), (["small"], ("small",))]


@pytest.mark.parametrize(("models", "followed"), SUBSETS)
def test_with_fewer_models_the_best_policy_for_these_is_followed_and_its_certificates_count(
    world: World, models: list[str], followed: tuple[str, ...]
) -> None:
    selector = Selector.load(world.bundles["cascade"], models=models)
    index = selector.bundle.policy_for(models)
    assert index
    assert selector.policy is selector.bundle.policies[index]
    assert selector.policy.models == followed
    assert {certificate.policy for certificate in selector.certificates} == {index}
    fitted = world.fits["cascade"]
    from training.outcomes.outcomes import load_outcomes
    from training.outcomes.profile import held_out_images

    level = selector.certified_precisions[-1]
    certificate = fitted.certificate(Constraint(kind="precision", level=level), policy=index)
    assert selector.certificate(level) == certificate
    assert certificate is not None
    test = load_outcomes(world.profile, zoo=world.zoo, splits=("test",))
    images = held_out_images(world.profile, world.data)
    simulated = fitted.policies[index].simulate(test, certificate.threshold)
    for i in range(0, len(test), 5):
        found = selector.predict(images.image(i), level)
        assert found.certified
        assert found.model == followed[simulated.answered_by[i]]


def test_editing_a_policy_voids_its_certificates_and_no_others(world: World, tmp_path: Path) -> None:
    bundle = world.copy_bundle("cascade", tmp_path / "bundle")
    edit_bundle(bundle, lambda record: record["policies"][0]["stages"][0].update(offset=9.0))
    selector = Selector.load(bundle)
    assert selector.certified_precisions == ()
    assert selector.predict(plain_image("red"), 0.6).reason == "models changed"
    assert selector.predict(plain_image("red"), 0.9999).reason == "not proven"
    assert Selector.load(bundle, models=["small"]).certified_precisions


def test_a_model_of_another_digest_voids_the_certificates_of_the_policies_that_use_it(
    world: World, tmp_path: Path
) -> None:
    bundle = world.copy_bundle("cascade", tmp_path / "bundle")
    other = Zoo.create(tmp_path / "other")
    add_colours(other, "small", build_onnx(noise=0.3, seed=9))

    def replace(record: dict[str, Any]) -> None:
        card = next(card for card in record["models"] if card["name"] == "small")
        new = other.card("small")
        card.update(sha256=new.sha256, size_bytes=new.size_bytes, file=new.file, classes=list(new.classes))

    shutil.copy(other.folder / other.card("small").file, bundle / "models")
    before = Selector.load(world.bundles["cascade"]).bundle
    edit_bundle(bundle, replace)
    selector = Selector.load(bundle)
    assert selector.models == ("tiny", "small", "full")
    assert selector.certified_precisions == ()
    assert selector.predict(plain_image("blue"), 0.6).label == "blue"
    for index, policy in enumerate(before.policies):
        valid = selector.bundle.subject(index) == before.subject(index)
        assert valid == ("small" not in policy.models)
        assert bool(Selector.load(bundle, models=policy.models).certificates) == valid


def test_another_selector_graph_voids_the_certificates_of_the_policies_that_use_it(
    world: World, tmp_path: Path
) -> None:
    for kind in ("input", "probe"):
        bundle = world.copy_bundle(kind, tmp_path / kind)
        edit_bundle(bundle, lambda record: record["selector"].update(sha256="0" * 64))
        selector = Selector.load(bundle)
        assert selector.certified_precisions == ()
        assert selector.predict(plain_image("red"), 0.6).model == "full"
        with pytest.raises(DigestError, match="expected SHA-256 0000"):
            selector.scores(plain_image("red")[np.newaxis])


def test_another_graph_of_a_stage_voids_the_certificates_and_is_never_run_unchecked(
    world: World, tmp_path: Path
) -> None:
    bundle = world.copy_bundle("learned", tmp_path / "bundle")
    policy = Selector.load(bundle).policy
    assert isinstance(policy, StagedPolicy)
    first, second = (bundle / state.file for state in policy.states[:2])
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    with pytest.raises(DigestError, match=r"stage-.*\.onnx: expected"):
        Selector.load(bundle).predict(plain_image("red"))
    first.write_bytes(kept)
    edit_bundle(bundle, lambda record: record["policies"][0]["states"][0].update(sha256="0" * 64))
    selector = Selector.load(bundle)
    assert selector.certificates == ()
    assert selector.predict(plain_image("red"), 0.6).path == ("full",)


def test_a_stage_graph_with_other_ends_is_refused(world: World, tmp_path: Path) -> None:
    from selector.answering.engine import Engine
    from zoo.files import sha256_bytes

    bundle = world.copy_bundle("learned", tmp_path / "bundle")
    content = build_onnx()

    def exchange(record: dict[str, Any]) -> None:
        state = record["policies"][0]["states"][0]
        state.update(sha256=sha256_bytes(content), size_bytes=len(content))
        (bundle / state["file"]).write_bytes(content)

    loaded = Selector.load(edit_bundle(bundle, exchange)).bundle
    engine = Engine(loaded, bundle, loaded.policies[0], "full", threads=1)
    with pytest.raises(
        ModelError, match=r"expected logits tensor\(float\) → answer \[3\], scores \[\d\], got"
    ):
        engine.run(plain_image("red")[np.newaxis], 0.5, answer=True)


def test_time_budgets_and_drops_are_asked_like_precisions(world: World) -> None:
    image = plain_image("red")
    for kind, fitted in world.fits.items():
        selector = Selector.load(world.bundles[kind])
        for name in ("max_drop", "mean_ms", "p95_ms"):
            levels = selector.certified_levels(name)
            assert levels == tuple(fitted.certified_levels(name))
            for level in levels:
                found = selector.certificate(**{name: level})
                assert found == fitted.certificate(Constraint(kind=name, level=level))
                assert selector.predict(image, **{name: level}).certified
                assert selector.select(image, **{name: level}).certified
        tight = selector.certified_levels("mean_ms")[0] / 2
        assert selector.certificate(mean_ms=tight) is None
        assert selector.predict(image, mean_ms=tight).path == ("tiny",), "the fastest"
        assert not selector.predict_batch([image], p95_ms=1e-6)[0].certified


def test_a_laxer_drop_or_budget_is_covered_by_the_nearest_stricter_one(world: World) -> None:
    selector = Selector.load(world.bundles["learned"])
    for name in ("max_drop", "mean_ms", "p95_ms"):
        levels = selector.certified_levels(name)
        for low, high in itertools.pairwise(levels):
            covering = selector.certificate(**{name: (low + high) / 2})
            assert covering is not None
            assert covering.constraint.level == low
        assert selector.certificate(**{name: levels[0] * 0.99}) is None


def test_two_constraints_at_once_are_refused(world: World) -> None:
    selector = Selector.load(world.bundles["input"])
    with pytest.raises(PrecisionError, match="expected one constraint, got precision and mean_ms"):
        selector.predict(plain_image("red"), 0.9, mean_ms=3.0)
    for name, bad in (("max_drop", 1.0), ("mean_ms", 0.0), ("p95_ms", float("nan")), ("mean_ms", "fast")):
        with pytest.raises(PrecisionError):
            selector.predict(plain_image("red"), **{name: bad})


def test_certificates_of_an_environment_are_used_only_when_it_is_named(world: World) -> None:
    for kind in KINDS:
        selector = Selector.load(world.bundles[kind])
        named = {c.environment for c in selector.certificates if c.environment is not None}
        assert named == {"clear", "dark", "noise"}
        for place in named:
            levels = selector.certified_levels("precision", place)
            found = selector.certificate(levels[-1], environment=place)
            assert found is not None
            assert (found.environment, found.constraint.level) == (place, levels[-1])
            assert selector.predict(plain_image("red"), levels[-1], environment=place).certified
        plain = selector.certificate(selector.certified_precisions[0])
        assert plain is not None
        assert plain.environment is None
        for call in (selector.predict, selector.select):
            with pytest.raises(PrecisionError, match=r"'fog'\. This bundle knows: clear, dark, noise"):
                call(plain_image("red"), 0.6, environment="fog")
        easy = selector.certified_levels("precision", "clear")[-1]
        if easy > selector.certified_precisions[-1]:
            assert selector.certificate(easy) is None


def test_a_bundle_without_environments_says_so(world: World, tmp_path: Path) -> None:
    path = world.copy_bundle("cascade", tmp_path / "bundle") / "bundle.json"
    record = json.loads(path.read_text())
    record["certificates"] = [one for one in record["certificates"] if one.get("environment") is None]
    path.write_text(json.dumps(record))
    selector = Selector.load(path.parent)
    assert selector.predict(plain_image("red")).certified
    with pytest.raises(PrecisionError, match=r"got 'dark'\. This bundle knows none: leave it out"):
        selector.predict(plain_image("red"), environment="dark")


def test_precision_may_be_called_accuracy(world: World) -> None:
    selector = Selector.load(world.bundles["cascade"])
    image = plain_image("red")
    assert selector.certificate(accuracy=0.9) == selector.certificate(0.9) is not None
    assert selector.predict(image, accuracy=0.9) == selector.predict_batch([image], accuracy=0.9)[0]
    assert selector.select(image, accuracy=0.9) == selector.select(image, 0.9)
    assert selector.certified_levels("accuracy") == selector.certified_precisions
    assert world.fits["cascade"].certified_levels("accuracy") == list(selector.certified_precisions)
    for call in (selector.predict, selector.select, selector.certificate):
        with pytest.raises(PrecisionError, match="got precision and accuracy, which mean the same"):
            call(*[] if call == selector.certificate else [image], precision=0.9, accuracy=0.9)


def test_what_cannot_be_asked_is_refused_with_what_can(world: World) -> None:
    selector = Selector.load(world.bundles["cascade"])
    known = "precision, accuracy, max_drop, mean_ms, p95_ms, mean_uplink_kb, max_remote, environment"
    with pytest.raises(
        PrecisionError, match=f"expected some of {known}, never_remote, remote_deadline_s, got p99_ms"
    ):
        selector.predict(plain_image("red"), p99_ms=3.0)  # type: ignore[call-arg]
    with pytest.raises(PrecisionError, match="expected a constraint of the kinds precision, max_drop"):
        selector.certified_levels("speed")  # type: ignore[arg-type]
