"""What a device should hold next, from what it holds and what is published. Rules without IO."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from zoo.client.plan import published_bundle, published_model, served
from zoo.releases.release import Assignment, Index, Release
from zoo.store.installed import Installed, InstalledBundle, InstalledModel

Pinnable = TypeVar("Pinnable", InstalledModel, InstalledBundle)


@dataclass(frozen=True)
class Wanted:
    """Names, newest versions meant."""

    models: tuple[str, ...]
    bundles: tuple[str, ...]
    dropped: tuple[str, ...] = ()  # installed models that are to go


def to_install(
    index: Index, installed: Installed, *, models: Collection[str], bundles: Collection[str]
) -> Wanted:
    """What is asked for, and what has to come along so that bundles and models fit together.

    A bundle knows its models by their digests. So an installed bundle that was published again comes along
    with any of its models, and with it those of its other installed models that were.

    Raises
    ------
    ModelNotFoundError, BundleError
        When something is not published.
    """
    for name in models:
        published_model(name, index)
    for name in bundles:
        published_bundle(name, index)
    changed_models = _changed(installed.models, index.models)
    changed_bundles = _changed(installed.bundles, index.bundles)
    wanted_models, wanted_bundles = dict.fromkeys(models), dict.fromkeys(bundles)
    while True:
        before = len(wanted_models) + len(wanted_bundles)
        for name in sorted(changed_bundles):
            if set(index.bundles[name].models) & set(wanted_models):
                wanted_bundles.setdefault(name)
        for name in list(wanted_bundles):
            for model in index.bundles[name].models:
                if model in changed_models:
                    wanted_models.setdefault(model)
        if len(wanted_models) + len(wanted_bundles) == before:
            return Wanted(tuple(wanted_models), tuple(wanted_bundles))


def to_update(index: Index, installed: Installed) -> Wanted:
    """The newest versions of everything installed.

    What is no longer published goes, unless a bundle would be left without any model.
    """
    models = [item.release.name for item in installed.models if item.release.name in index.models]
    bundles = [item.release.name for item in installed.bundles if item.release.name in index.bundles]
    retired = [item.release.name for item in installed.models if item.release.name not in index.models]
    left = {item.release.name for item in installed.models}
    dropped = []
    for name in retired:
        rest = left - {name}
        served = [set(item.release.models) for item in installed.bundles if name in item.release.models]
        if all(rest & named for named in served):
            left = rest
            dropped.append(name)
    return Wanted(tuple(models), tuple(bundles), tuple(dropped))


def to_follow(assignment: Assignment, index: Index, installed: Installed) -> Wanted:
    """What an assignment says, as far as it is published; models that it does not name go if not pinned."""
    models = tuple(name for name in assignment.models if name in index.models)
    bundles = tuple(name for name in assignment.bundles if name in index.bundles)
    named = {item.release.name for item in installed.bundles if item.release.name not in bundles}
    still_needed = {
        model
        for item in installed.bundles
        if item.release.name in named
        for model in item.release.models
        if item.pinned
    }
    dropped = tuple(
        item.release.name
        for item in installed.models
        if item.release.name not in models and not item.pinned and item.release.name not in still_needed
    )
    return Wanted(models, bundles, dropped if models else ())


def bootstrap(index: Index, bundle: str, *, budget_bytes: int | None) -> tuple[str, ...]:
    """The model that a device with none starts on a bundle with: the most accurate in half of the budget.

    The other half is left for what inputs turn out to need; it is used where nothing fits into the first.
    Where accuracies are not published, the largest model counts as the most accurate.

    Raises
    ------
    BundleError
        When the bundle is not published.
    """
    release = published_bundle(bundle, index)
    known = [index.models[name] for name in release.models if name in index.models]
    for share in (0.5, 1.0):
        room = None if budget_bytes is None else share * budget_bytes - release.size_bytes
        fitting = [item for item in known if room is None or item.size_bytes <= room]
        if fitting:
            return (max(fitting, key=lambda item: (item.accuracy or 0.0, item.size_bytes, item.name)).name,)
    return tuple(item.name for item in sorted(known, key=lambda item: (item.size_bytes, item.name))[:1])


def unserved(installed: Installed, going: Collection[str]) -> list[str]:
    """Tasks that have a model now, and none when these models and bundles have gone."""
    left = served(release for release in installed.releases if release.name not in going)
    return sorted(served(installed.releases) - left)


def with_pins(installed: Installed, names: Collection[str], *, pinned: bool) -> Installed:
    """The record with some models and bundles pinned, or no longer pinned."""

    def changed(item: Pinnable) -> Pinnable:
        return msgspec.structs.replace(item, pinned=pinned) if item.release.name in names else item

    return msgspec.structs.replace(
        installed,
        models=tuple(changed(item) for item in installed.models),
        bundles=tuple(changed(item) for item in installed.bundles),
    )


def without(installed: Installed, names: Collection[str]) -> Installed:
    """The record without some models and bundles."""
    return msgspec.structs.replace(
        installed,
        models=tuple(item for item in installed.models if item.release.name not in names),
        bundles=tuple(item for item in installed.bundles if item.release.name not in names),
    )


def with_releases(installed: Installed, wanted: Wanted, index: Index) -> Installed:
    """The record with the newest versions of what is wanted; pins stay."""
    models = {item.release.name: item for item in installed.models}
    bundles = {item.release.name: item for item in installed.bundles}
    for name in wanted.models:
        pinned = name in models and models[name].pinned
        models[name] = InstalledModel(release=index.models[name], pinned=pinned)
    for name in wanted.bundles:
        pinned = name in bundles and bundles[name].pinned
        bundles[name] = InstalledBundle(release=index.bundles[name], pinned=pinned)
    return msgspec.structs.replace(installed, models=tuple(models.values()), bundles=tuple(bundles.values()))


def _changed(items: Iterable[InstalledModel | InstalledBundle], published: Mapping[str, Release]) -> set[str]:
    """Names of what is published in another version than is installed."""
    releases = (item.release for item in items)
    return {one.name for one in releases if published.get(one.name, one) != one}
