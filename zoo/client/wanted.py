"""What a device should hold next, from what it holds and what is published. Rules without IO."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from zoo.client.plan import published_bundle, published_model, served
from zoo.errors import ModelNotFoundError
from zoo.releases.release import Assignment, BundleRelease, Index, Release
from zoo.store.installed import Installed, InstalledBundle, InstalledModel

T = TypeVar("T")
Pinnable = TypeVar("Pinnable", InstalledModel, InstalledBundle)


@dataclass(frozen=True)
class Wanted:
    """Names, newest versions meant."""

    models: tuple[str, ...]
    bundles: tuple[str, ...]
    dropped: tuple[str, ...] = ()  # installed models that are to go
    no_room: Mapping[str, str] = field(default_factory=dict)  # assigned model → why it does not fit


def to_begin(
    index: Index,
    installed: Installed,
    *,
    models: Collection[str],
    bundles: Collection[str],
    start: bool,
    budget_bytes: int | None,
) -> Wanted:
    """:func:`to_install`, where `start` with :func:`bootstrap` for bundles that no model here belongs to."""
    known = {*models, *(item.release.name for item in installed.models)}
    first = [
        name
        for bundle in (bundles if start else ())
        if bundle not in index.bundles or not known & set(index.bundles[bundle].models)
        for name in bootstrap(index, bundle, budget_bytes=budget_bytes)
    ]
    return to_install(index, installed, models=(*models, *first), bundles=bundles)


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


def to_update(index: Index, installed: Installed, *, budget_bytes: int | None = None) -> Wanted:
    """The newest versions of everything installed.

    What is no longer published goes, unless a bundle would be left without any model. A bundle whose newest
    version names none of the installed models brings one, as a new bundle does, see :func:`bootstrap`.
    """
    models = [item.release.name for item in installed.models if item.release.name in index.models]
    bundles = [item.release.name for item in installed.bundles if item.release.name in index.bundles]
    there = {item.release.name for item in installed.models}
    for item in installed.bundles:
        newest = index.bundles.get(item.release.name)
        if newest is None or set(models) & set(newest.models) or not there & set(item.release.models):
            continue
        models += bootstrap(index, newest.name, budget_bytes=budget_bytes)
    retired = [item.release.name for item in installed.models if item.release.name not in index.models]
    bundles_then = [index.bundles.get(item.release.name, item.release) for item in installed.bundles]
    left = there | set(models)
    dropped = []
    for name in retired:
        rest = left - {name}
        served = [set(release.models) for release in bundles_then if name in release.models]
        if all(rest & named for named in served):
            left = rest
            dropped.append(name)
    return Wanted(tuple(dict.fromkeys(models)), tuple(bundles), tuple(dropped))


def to_follow(assignment: Assignment, index: Index, installed: Installed) -> Wanted:
    """What an assignment says, as far as it is published; models that it does not name go if not pinned.

    A bundle whose newest version names none of these models stays as it is, with the models that answer for
    it, until others are assigned.
    """
    models = tuple(name for name in assignment.models if name in index.models)
    held_back = [
        item.release
        for item in installed.bundles
        if item.release.name in set(assignment.bundles) & set(index.bundles)
        and not set(models) & set(index.bundles[item.release.name].models)
    ]
    back = {release.name for release in held_back}
    bundles = tuple(name for name in assignment.bundles if name in index.bundles and name not in back)
    still_needed = {
        model
        for item in installed.bundles
        if item.release.name not in assignment.bundles or item.release.name not in index.bundles
        for model in item.release.models
        if item.pinned
    } | {model for release in held_back for model in release.models}
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


def usable(
    index: Index, installed: Installed, failed: Mapping[str, str], *, lost: Mapping[str, str] | None = None
) -> tuple[Index, dict[str, str]]:
    """What of `index` may be wanted: instead of what is left out, it holds what is installed, or nothing.

    A bundle knows its models by their digests. So a new version of a bundle that is in use waits with any of
    its models, and the new versions of its other models wait with it.

    Parameters
    ----------
    failed
        Model or bundle → why its published release is not to be used on this device.
    lost
        Model or bundle that is published, and that `index` lacks → why.

    Returns
    -------
    The index, and for the name of each model or bundle that is left out the reason.
    """
    left_out = {name: why for name, why in failed.items() if name in index.models or name in index.bundles}
    left_out |= lost or {}
    models = {item.release.name: item.release for item in installed.models}
    bundles = {item.release.name: item.release for item in installed.bundles}
    digests = {name: release.card.sha256 for name, release in models.items()}

    def published(name: str) -> str | None:
        return index.models[name].card.sha256 if name in index.models else None

    def waits(bundle: BundleRelease) -> str | None:
        """The model that a new version of a bundle has to wait for."""
        held = bundles.get(bundle.name)
        used = [] if held is None else [one for one in held.models if digests.get(one) == held.models[one]]
        if used:
            return next((one for one in used if one in left_out and _other(bundle, one, digests[one])), None)
        could = [
            one
            for one, digest in bundle.models.items()
            if published(one) == digest or (lost and one in lost and one not in index.models)
        ]
        usable = [one for one in could if one not in left_out or digests.get(one) == bundle.models[one]]
        return could[0] if could and not usable else None

    while left_out:
        before = len(left_out)
        for name, bundle in index.bundles.items():
            model = waits(bundle) if bundles.get(name) != bundle and name not in left_out else None
            if model is not None:
                left_out[name] = f"bundle {name!r} needs {model!r}, which is left out."
        for name, release in index.models.items():
            if name in left_out or digests.get(name) == release.card.sha256:
                continue
            users = [
                one.name for one in index.bundles.values() if one.models.get(name) == release.card.sha256
            ]
            held_by = [
                one.name
                for one in bundles.values()
                if one.name in left_out and one.models.get(name, "") == digests.get(name)
            ]
            if held_by or (users and left_out.keys() >= set(users)):
                bundle_name = (held_by or users)[0]
                left_out[name] = f"model {name!r} goes with the bundle {bundle_name!r}, which is left out."
        if len(left_out) == before:
            break
    return (
        msgspec.structs.replace(
            index,
            models=_held_back(index.models, models, left_out),
            bundles=_held_back(index.bundles, bundles, left_out),
        ),
        left_out,
    )


def unserved(installed: Installed, going: Collection[str]) -> list[str]:
    """Tasks that have a model now, and none when these models and bundles have gone."""
    left = served(release for release in installed.releases if release.name not in going)
    return sorted(served(installed.releases) - left)


def with_pins(installed: Installed, names: Collection[str], *, pinned: bool) -> Installed:
    """The record with some models and bundles pinned, or no longer pinned.

    Raises
    ------
    ModelNotFoundError
        When one of them is not installed.
    """
    there = {release.name for release in installed.releases}
    missing = [name for name in names if name not in there]
    if missing:
        raise ModelNotFoundError(
            f"not installed: {', '.join(missing)}. Installed: {', '.join(sorted(there)) or 'nothing'}."
        )

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


def bridges(
    wanted: Wanted, index: Index, installed: Installed, tasks: Collection[str]
) -> list[tuple[str, str]]:
    """Wanted models with a bundle of one of the `tasks` that knows them, the smallest first."""
    there = {*wanted.bundles, *(item.release.name for item in installed.bundles)}
    found = {
        (index.models[name].size_bytes, name, bundle.name)
        for bundle in index.bundles.values()
        if bundle.task in tasks and bundle.name in there
        for name in bundle.models
        if name in wanted.models
    }
    return [(name, bundle) for _, name, bundle in sorted(found)]


def _changed(items: Iterable[InstalledModel | InstalledBundle], published: Mapping[str, Release]) -> set[str]:
    """Names of what is published in another version than is installed."""
    releases = (item.release for item in items)
    return {one.name for one in releases if published.get(one.name, one) != one}


def _other(bundle: BundleRelease, model: str, digest: str) -> bool:
    return bundle.models.get(model, digest) != digest


def _held_back(
    published: Mapping[str, T], held: Mapping[str, T], left_out: Mapping[str, str]
) -> dict[str, T]:
    newest = {name: release for name, release in published.items() if name not in left_out}
    return newest | {name: held[name] for name in left_out if name in held}
