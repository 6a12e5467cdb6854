"""The installed record after a change, and which tasks would be without a model. Rules without IO."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

import msgspec

from zoo.client.plan import served
from zoo.client.wanted import Wanted
from zoo.releases.release import Index
from zoo.store.installed import Installed, InstalledBundle, InstalledModel

Pinnable = TypeVar("Pinnable", InstalledModel, InstalledBundle)


def unserved(installed: Installed, going: Collection[str]) -> list[str]:
    """Tasks that have a model now, and none when these models and bundles have gone."""
    left = served(release for release in installed.releases if release.name not in going)
    return sorted(served(installed.releases) - left)


def with_pins(installed: Installed, names: Collection[str], *, pinned: bool) -> Installed:
    """The record with some models and bundles pinned, or no longer."""

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
