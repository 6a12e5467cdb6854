"""Claims about what a device should hold next: bundles and models always fit together."""

from __future__ import annotations

import msgspec
import pytest

from tests.support.small_releases import bundle_release, index_of, model_release
from zoo.client.wanted import bootstrap, to_follow, to_install, to_update
from zoo.errors import BundleError, ModelNotFoundError
from zoo.releases.release import Assignment, Index
from zoo.store.installed import Installed, InstalledBundle, InstalledModel

INDEX = index_of(
    {"tiny": {"a": 50}, "full": {"b": 500}, "owl": {"c": 70}},
    {"birds": ("tiny", "full"), "night": ("owl",)},
)


def holding(*names: str, bundles: tuple[str, ...] = (), pinned: tuple[str, ...] = ()) -> Installed:
    return Installed(
        schema_version=1,
        models=tuple(InstalledModel(release=INDEX.models[name], pinned=name in pinned) for name in names),
        bundles=tuple(InstalledBundle(release=INDEX.bundles[name]) for name in bundles),
    )


def newer(*changed: str) -> Index:
    """The index after some models were published again with other weights."""
    models = {
        name: model_release(name, {f"new {name}": 60}, version=2) if name in changed else release
        for name, release in INDEX.models.items()
    }
    bundles = {
        name: bundle_release(name, tuple(models[m] for m in release.models))
        for name, release in INDEX.bundles.items()
    }
    return Index(models=models, bundles=bundles)


def assign(*models: str, bundles: tuple[str, ...] = ("birds",)) -> Assignment:
    return Assignment(schema_version=1, version=1, group="park", bundles=bundles, models=models)


def test_a_model_alone_brings_nothing_else() -> None:
    wanted = to_install(INDEX, holding(), models=("tiny",), bundles=())
    assert wanted.models == ("tiny",)
    assert wanted.bundles == ()


def test_a_changed_model_brings_the_bundles_that_name_it_and_their_other_installed_models() -> None:
    held = holding("tiny", bundles=("birds",))
    wanted = to_install(newer("full", "tiny"), held, models=("full",), bundles=())
    assert set(wanted.models) == {"full", "tiny"}
    assert wanted.bundles == ("birds",)
    assert to_install(newer("full"), held, models=("full",), bundles=()).models == ("full",)


def test_other_tasks_are_left_alone() -> None:
    held = holding("tiny", "owl", bundles=("birds", "night"))
    wanted = to_install(newer("full"), held, models=("full",), bundles=())
    assert "owl" not in wanted.models
    assert "night" not in wanted.bundles


@pytest.mark.parametrize(("models", "bundles"), [(("gone",), ()), ((), ("gone",))])
def test_what_is_not_published_is_named_with_what_is(
    models: tuple[str, ...], bundles: tuple[str, ...]
) -> None:
    with pytest.raises(
        (ModelNotFoundError, BundleError), match=r"expected a published .*'gone'.*Published: "
    ):
        to_install(INDEX, holding(), models=models, bundles=bundles)


def test_an_update_is_about_everything_installed() -> None:
    wanted = to_update(newer("full"), holding("full", "owl", bundles=("birds",)))
    assert set(wanted.models) == {"full", "owl"}
    assert wanted.bundles == ("birds",)
    assert wanted.dropped == ()


def test_a_retired_model_goes_where_another_can_answer() -> None:
    left = Index(models={"tiny": INDEX.models["tiny"]}, bundles={"birds": INDEX.bundles["birds"]})
    assert to_update(left, holding("tiny", "full", bundles=("birds",))).dropped == ("full",)
    wanted = to_update(left, holding("full", bundles=("birds",)))
    assert (wanted.models, wanted.dropped) == (("tiny",), ("full",)), "the other one comes first"


def without_full() -> Index:
    """The index after ``full`` was withdrawn, and its bundle was published again without it."""
    birds = bundle_release("birds", (INDEX.models["tiny"],))
    birds = msgspec.structs.replace(birds, version=2)
    models = {name: INDEX.models[name] for name in ("tiny", "owl")}
    return Index(models=models, bundles={**INDEX.bundles, "birds": birds})


def test_a_bundle_whose_only_installed_model_was_withdrawn_brings_another_one() -> None:
    wanted = to_update(without_full(), holding("full", bundles=("birds",)))
    assert (wanted.models, wanted.bundles, wanted.dropped) == (("tiny",), ("birds",), ("full",))


def test_an_assignment_of_what_was_withdrawn_leaves_what_answers() -> None:
    held = holding("full", "owl", bundles=("birds", "night"))
    wanted = to_follow(assign("full"), without_full(), held)
    assert (wanted.models, wanted.bundles, wanted.dropped) == ((), (), ())
    both = assign("full", "owl", bundles=("birds", "night"))
    wanted = to_follow(both, without_full(), held)
    assert (wanted.models, wanted.bundles, wanted.dropped) == (("owl",), ("night",), ())


def test_an_assignment_replaces_what_is_not_pinned() -> None:
    held = holding("full", "owl", bundles=("birds",), pinned=("owl",))
    wanted = to_follow(assign("tiny"), INDEX, held)
    assert wanted.models == ("tiny",)
    assert wanted.dropped == ("full",)


def test_an_assignment_of_nothing_published_takes_nothing_away() -> None:
    wanted = to_follow(assign("unheard-of"), INDEX, holding("full", bundles=("birds",)))
    assert wanted.models == ()
    assert wanted.dropped == ()


def test_models_of_a_pinned_bundle_stay_through_an_assignment() -> None:
    held = holding("owl", "full", bundles=("night", "birds"))
    night = msgspec.structs.replace(held.bundles[0], pinned=True)
    held = msgspec.structs.replace(held, bundles=(night, held.bundles[1]))
    assert to_follow(assign("tiny"), INDEX, held).dropped == ("full",)


def test_a_new_model_of_an_unchanged_bundle_brings_nothing_else() -> None:
    wanted = to_install(INDEX, holding("full", bundles=("birds",)), models=("tiny",), bundles=())
    assert wanted.models == ("tiny",), "so that full may be evicted for it"
    assert wanted.bundles == ()


def test_a_device_starts_with_the_most_accurate_model_in_half_of_its_budget() -> None:
    known = Index(
        models={
            "tiny": model_release("tiny", {"a": 50}, accuracy=0.8),
            "full": model_release("full", {"b": 500}, accuracy=0.9),
        },
        bundles=INDEX.bundles,
    )
    assert bootstrap(known, "birds", budget_bytes=None) == ("full",)
    assert bootstrap(known, "birds", budget_bytes=2000) == ("full",)
    assert bootstrap(known, "birds", budget_bytes=600) == ("tiny",), "the rest is for what inputs need"
    assert bootstrap(known, "birds", budget_bytes=80) == ("tiny",), "unless nothing fits into the half"
    assert bootstrap(known, "birds", budget_bytes=1) == ("tiny",), "the smallest, for an error with its size"
    assert bootstrap(INDEX, "birds", budget_bytes=None) == ("full",), "without accuracies, the largest"
    with pytest.raises(BundleError, match="Published: birds, night"):
        bootstrap(INDEX, "fish", budget_bytes=None)
