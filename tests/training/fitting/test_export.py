"""Claims about export: complete or not at all, checked against the fit, and nothing old is lost."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from selector import Selector
from tests.support.colours import KINDS, Kind
from tests.support.moments import moments_of
from tests.support.small_models import add_colours, build_onnx, plain_image
from tests.support.world import World
from training.fitting.export import check_bundle, export_bundle
from zoo import Zoo
from zoo.errors import DigestError, ModelNotFoundError, ParityError, StaleError, ZooError


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("before", "after"), [("input", "learned"), ("probe", "cascade")])
def test_killed_at_any_moment_there_is_a_working_bundle(
    world: World, tmp_path: Path, before: Kind, after: Kind
) -> None:
    fitted, whole = world.fits[after], world.copy_bundle(before, tmp_path / "whole")
    killed = moments_of(lambda: export_bundle(fitted, world.zoo, whole), whole, tmp_path / "killed")
    assert len(killed) > 10
    for bundle in (*killed, whole):
        selector = Selector.load(bundle)
        assert selector.bundle in (world.fits[before].record.bundle, fitted.record.bundle)
        assert selector.predict(plain_image("red")).certified
        export_bundle(fitted, world.zoo, bundle)
        assert Selector.load(bundle).bundle == fitted.record.bundle


def test_on_a_full_disk_the_old_bundle_keeps_working(world: World, tmp_path: Path) -> None:
    sync, left = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    for allowed in range(8):
        left = allowed
        bundle = world.copy_bundle("cascade", tmp_path / str(allowed))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(ZooError, match="No space left on device"):
                export_bundle(world.fits["probe"], world.zoo, bundle)
        selector = Selector.load(bundle)
        assert selector.bundle == world.fits["cascade"].record.bundle
        assert selector.predict(plain_image("blue")).certified


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_holds_what_it_names_and_nothing_else(world: World, tmp_path: Path, kind: Kind) -> None:
    bundle = export_bundle(world.fits[kind], world.zoo, tmp_path)
    named = {"bundle.json", *(card.file for card in bundle.models)}
    if bundle.selector is not None:
        named.add(bundle.selector.file)
    named |= set(world.fits[kind].stage_graphs())
    assert files(tmp_path) == named
    other = KINDS[KINDS.index(kind) - 1]
    export_bundle(world.fits[other], world.zoo, tmp_path)
    assert files(tmp_path) == files(world.bundles[other])


def test_a_part_of_the_models_can_be_exported(world: World, tmp_path: Path) -> None:
    export_bundle(world.fits["cascade"], world.zoo, tmp_path, models=["tiny"])
    selector = Selector.load(tmp_path)
    assert selector.models == ("tiny",)
    assert selector.policy is not None
    assert selector.policy.models == ("tiny",)
    assert selector.certified_precisions == tuple(
        world.fits["cascade"].certified_levels("precision", policy=len(selector.bundle.policies) - 1)
    )
    assert [card.name for card in selector.bundle.models] == ["tiny", "small", "full"]
    with pytest.raises(ModelNotFoundError, match=r"no model huge in the zoo\. It holds: tiny, small, full"):
        export_bundle(world.fits["cascade"], world.zoo, tmp_path, models=["tiny", "huge"])


def test_a_zoo_that_changed_since_the_fit_is_refused(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.zoo.folder, tmp_path / "zoo")
    zoo = Zoo.open(tmp_path / "zoo")
    add_colours(zoo, "tiny", build_onnx(noise=0.9))
    with pytest.raises(StaleError, match="model 'tiny' has changed since the selector was fitted"):
        export_bundle(world.fits["input"], zoo, tmp_path / "bundle")
    zoo.remove("tiny")
    with pytest.raises(StaleError, match="model 'tiny' has changed"):
        export_bundle(world.fits["input"], zoo, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_damaged_model_file_is_not_exported(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.zoo.folder, tmp_path / "zoo")
    zoo = Zoo.open(tmp_path / "zoo")
    (zoo.folder / zoo.card("full").file).write_bytes(b"junk")
    with pytest.raises(DigestError, match=r"expected [\d,]+ bytes, got 4"):
        export_bundle(world.fits["input"], zoo, tmp_path / "bundle")
    assert not (tmp_path / "bundle" / "bundle.json").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_the_bundle_chooses_as_the_fit_does_on_a_thousand_images(world: World, kind: Kind) -> None:
    images = [world.data.image(i) for i in range(1000)]
    assert check_bundle(world.bundles[kind], world.fits[kind], images, world.zoo) == 1000


def test_there_is_nothing_to_compare_where_nothing_is_certified(world: World) -> None:
    fitted = world.fits["cascade"]
    bundle = msgspec.structs.replace(fitted.record.bundle, certificates=())
    bare = replace(fitted, record=msgspec.structs.replace(fitted.record, bundle=bundle))
    assert check_bundle(world.bundles["cascade"], bare, [world.data.image(0)], world.zoo) == 0


@pytest.mark.parametrize(("bundle", "fitted"), [("cascade", "input"), ("learned", "probe")])
def test_a_bundle_that_chooses_otherwise_is_found(world: World, bundle: Kind, fitted: Kind) -> None:
    images = [world.data.image(i) for i in range(300)]
    with pytest.raises(ParityError, match=r"image \d+: expected the bundle to choose '\w+' as the fit does"):
        check_bundle(world.bundles[bundle], world.fits[fitted], images, world.zoo)


def test_the_same_fit_gives_the_same_bytes(world: World, tmp_path: Path) -> None:
    for kind in KINDS:
        export_bundle(world.fits[kind], world.zoo, tmp_path / kind)
        for name in files(tmp_path / kind):
            assert (tmp_path / kind / name).read_bytes() == (world.bundles[kind] / name).read_bytes()


def test_exported_models_answer_like_those_of_the_zoo(world: World) -> None:
    image = plain_image("green")[np.newaxis]
    zoo = Selector.load(world.bundles["cascade"])
    for name in world.zoo.names:
        np.testing.assert_array_equal(
            np.sort(zoo._engine.logits(name, image)), np.sort(world.zoo.model(name).logits(image))
        )
