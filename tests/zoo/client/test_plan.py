"""Claims about plans: every missing byte once, and only what is idle goes."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.small_releases import bundle_release, index_of, model_release
from zoo.client.plan import plan
from zoo.errors import BundleError, ModelNotFoundError, ZooError
from zoo.releases.release import BundleRelease, Index, ModelRelease
from zoo.store.installed import Installed, InstalledBundle, InstalledModel

ZOO = index_of(
    {
        "full": {"trunk": 900, "head": 90},
        "dark": {"trunk": 900, "head in the dark": 80},
        "tiny": {"t": 40},
        "small": {"s": 190},
    },
    {"birds": ("tiny", "full"), "fish": ("small",)},
)


def holding(
    models: Iterable[ModelRelease] = (),
    bundles: Iterable[BundleRelease] = (),
    *,
    pinned: Collection[str] = (),
) -> Installed:
    """A device with these installed."""
    return Installed(
        schema_version=1,
        models=tuple(InstalledModel(release=one, pinned=one.name in pinned) for one in models),
        bundles=tuple(InstalledBundle(release=one) for one in bundles),
    )


def named(*names: str, pinned: Collection[str] = ()) -> Installed:
    return holding([ZOO.models[name] for name in names], pinned=pinned)


def test_an_empty_device_fetches_what_models_share_once() -> None:
    found = plan(("full", "dark"), ZOO, holding())
    assert [(item.name, item.size_bytes, item.missing_bytes) for item in found.items] == [
        ("full", 1000, 1000),
        ("dark", 990, 990),
    ]
    assert found.missing_bytes == found.peak_bytes == 1090
    assert found.shared_bytes == 900
    assert (found.evict, found.fits, found.seconds, found.in_time) == ((), True, None, None)


def test_a_device_that_holds_the_parent_fetches_the_difference() -> None:
    found = plan(("dark",), ZOO, named("full"))
    assert (found.missing_bytes, found.shared_bytes, found.items[0].installed) == (90, 900, False)
    assert set(found.missing) == {ZOO.models["dark"].graph.sha256, ZOO.models["dark"].weights[1].sha256}


def test_what_is_installed_is_not_fetched_again() -> None:
    found = plan(("full", "full"), ZOO, named("full"), budget_bytes=0)
    assert (found.missing_bytes, found.shared_bytes, [i.installed for i in found.items]) == (0, 0, [True])


def test_a_newer_version_is_fetched_beside_the_old_one() -> None:
    newer = model_release("full", {"trunk": 900, "head again": 90}, version=2)
    index = Index(models={"full": newer}, bundles={})
    found = plan(("full",), index, named("full"), budget_bytes=1090)
    assert (found.missing_bytes, found.peak_bytes, found.fits) == (90, 1090, True)
    assert (found.items[0].version, found.items[0].installed) == (2, False)
    assert not plan(("full",), index, named("full"), budget_bytes=1089).fits


def test_bundles_bring_their_files() -> None:
    found = plan((), ZOO, holding(), bundles=("birds", "fish"))
    assert [(item.kind, item.name, item.missing_bytes) for item in found.items] == [
        ("bundle", "birds", 5),
        ("bundle", "fish", 5),
    ]


def test_what_was_not_used_for_longest_goes_first_and_only_as_much_as_needed() -> None:
    there = named("tiny", "small", "full")
    usage = {"tiny": 3.0, "small": 1.0, "full": 2.0}
    found = plan(("dark",), ZOO, there, budget_bytes=1250, usage=usage)
    assert (found.evict, found.freed_bytes, found.fits) == (("small",), 200, True)
    found = plan(("dark",), ZOO, there, budget_bytes=1100, usage=usage)
    assert found.evict == ("small", "full")
    assert found.freed_bytes == 200 + 100  # the trunk stays: it is wanted
    assert found.peak_bytes == 1250 + 90 - 300
    assert plan(("dark",), ZOO, there, budget_bytes=1250).evict == ("full",)  # by name, if never used


def test_what_is_pinned_or_wanted_stays() -> None:
    there = named("tiny", "small", "full", pinned=("small",))
    found = plan(("dark", "tiny"), ZOO, there, budget_bytes=100, usage={"full": 9.0})
    assert found.evict == ("full",)
    assert (found.fits, found.peak_bytes) == (False, 1240)


def test_no_bundle_loses_its_last_model() -> None:
    there = holding([ZOO.models[name] for name in ("tiny", "full")], [ZOO.bundles["birds"]])
    usage = {"tiny": 1.0, "full": 2.0}
    assert plan(("small",), ZOO, there, budget_bytes=1100, usage=usage).evict == ("tiny",)
    found = plan(("small",), ZOO, there, budget_bytes=250, usage=usage)
    assert (found.evict, found.fits) == (("tiny",), False)
    found = plan(("small",), ZOO, there, budget_bytes=260, usage={"full": 1.0, "tiny": 2.0})
    assert (found.evict, found.fits) == (("full",), True)


def variants() -> tuple[Index, BundleRelease, BundleRelease]:
    """Two variants of one task, each with a model of its own on the same trunk."""
    day = bundle_release("birds", (ZOO.models["full"], ZOO.models["tiny"]))
    night = bundle_release("birds.night", (ZOO.models["dark"],), environment="night")
    return Index(models=ZOO.models, bundles={"birds": day, "birds.night": night}), day, night


def test_a_variant_loses_all_of_its_models_where_another_of_the_task_has_some() -> None:
    index, day, night = variants()
    there = holding([ZOO.models["full"]], [day, night])
    found = plan(("dark",), index, there, budget_bytes=1010)
    assert (found.evict, found.fits) == (("full",), True), "one bundle without models does not disturb"
    found = plan(("dark",), index, there, budget_bytes=996)
    assert (found.evict, found.fits) == (("full", "birds"), True)


def test_a_variant_that_is_wanted_or_pinned_stays_without_models() -> None:
    index, day, night = variants()
    there = holding([ZOO.models["full"]], [day, night])
    assert plan((), index, there, bundles=("birds.night",), budget_bytes=1).evict == ()
    pinned = msgspec.structs.replace(
        there, bundles=tuple(InstalledBundle(release=one, pinned=True) for one in (day, night))
    )
    assert plan(("dark",), index, pinned, budget_bytes=1).evict == ("full",)


def test_time_and_rate_are_those_of_the_missing_bytes() -> None:
    found = plan(("full",), ZOO, named("dark"), rate_bytes_per_s=50.0, deadline_s=1.6)
    assert (found.seconds, found.needed_bits_per_s, found.in_time) == (2.0, 500.0, False)
    assert plan(("full",), ZOO, named("dark"), rate_bytes_per_s=50.0, deadline_s=2.0).in_time
    assert plan(("full",), ZOO, named("full"), rate_bytes_per_s=50.0).seconds == 0


def test_what_is_not_published_cannot_be_planned() -> None:
    with pytest.raises(ModelNotFoundError, match=r"got 'gone'\. Published: dark, full, small, tiny"):
        plan(("gone",), ZOO, holding())
    with pytest.raises(BundleError, match=r"got 'gone'\. Published: birds, fish"):
        plan((), ZOO, holding(), bundles=("gone",))
    for bad in ({"rate_bytes_per_s": 0.0}, {"rate_bytes_per_s": float("nan")}, {"deadline_s": -1.0}):
        with pytest.raises(ZooError, match="of more than 0"):
            plan(("tiny",), ZOO, holding(), **bad)


def blobs(releases: Iterable[ModelRelease | BundleRelease]) -> dict[str, int]:
    return {digest: size for release in releases for digest, size in release.blobs.items()}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_what_is_left_and_what_comes_fit_and_no_smaller_eviction_in_that_order_does(
    data: st.DataObject,
) -> None:
    weights = st.dictionaries(st.sampled_from("uvwxyz"), st.integers(1, 30), max_size=3)
    models = [model_release(name, data.draw(weights)) for name in "abcde"]
    bundle = bundle_release("x", tuple(models[:3]))
    index = Index(models={one.name: one for one in models}, bundles={"x": bundle})
    there = data.draw(st.lists(st.sampled_from(models), unique_by=lambda one: one.name))
    wanted = data.draw(st.lists(st.sampled_from("abcde"), unique=True))
    usage = {name: float(age) for age, name in enumerate(data.draw(st.permutations("abcde")))}
    budget = data.draw(st.integers(0, 300))
    bundles = [bundle] if {"a", "b", "c"} & {one.name for one in there} else []
    found = plan(wanted, index, holding(there, bundles), budget_bytes=budget, usage=usage)

    def stored(gone: Collection[str]) -> int:
        left = [one for one in (*there, *bundles) if one.name not in gone]
        return sum(blobs([*left, *(index.models[name] for name in wanted)]).values())

    assert not set(found.evict) & set(wanted)
    assert found.missing_bytes + sum(blobs([*there, *bundles]).values()) == stored(())
    assert found.peak_bytes == stored(found.evict)
    assert found.fits == (found.peak_bytes <= budget)
    assert list(found.evict) == sorted(found.evict, key=lambda name: usage[name])
    left = {one.name for one in there} - set(found.evict) | set(wanted)
    assert not bundles or left & {"a", "b", "c"}
    assert all(stored(found.evict[:count]) > budget for count in range(len(found.evict)))
    if not found.fits and not bundles:
        idle = [one.name for one in there if one.name not in wanted]
        every = itertools.chain(*(itertools.combinations(idle, n) for n in range(len(idle) + 1)))
        assert min(stored(gone) for gone in every) > budget
