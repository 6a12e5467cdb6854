"""What is left out of an update because it failed here, or needs what failed. Rules without IO.

Everything else is brought to its newest version: one bad release holds up itself and what belongs to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from zoo.releases.release import BundleRelease, Index
from zoo.store.installed import Installed

T = TypeVar("T")


def usable(index: Index, installed: Installed, failed: Mapping[str, str]) -> tuple[Index, dict[str, str]]:
    """What of `index` may be wanted: instead of what is left out, it holds what is installed, or nothing.

    A bundle knows its models by their digests. So a new version of a bundle that is in use waits with any of
    its models, and the new versions of its other models wait with it.

    Parameters
    ----------
    failed
        Model → why its published release is not to be used on this device.

    Returns
    -------
    The index, and for the name of each model or bundle that is left out the reason.
    """
    left_out = {name: why for name, why in failed.items() if name in index.models}
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
        could = [one for one, digest in bundle.models.items() if published(one) == digest]
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


def _other(bundle: BundleRelease, model: str, digest: str) -> bool:
    return bundle.models.get(model, digest) != digest


def _held_back(
    published: Mapping[str, T], held: Mapping[str, T], left_out: Mapping[str, str]
) -> dict[str, T]:
    newest = {name: release for name, release in published.items() if name not in left_out}
    return newest | {name: held[name] for name in left_out if name in held}
