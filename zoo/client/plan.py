"""Plans: what has to be fetched and evicted for some models, and how long it takes. Rules without IO."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from zoo.client.rates import bits_per_s
from zoo.errors import BundleError, ModelNotFoundError, ZooError
from zoo.releases.release import BundleRelease, Index, ModelRelease, Release
from zoo.types import NonNegative, Positive

if TYPE_CHECKING:
    from zoo.store.installed import Installed


class PlannedItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One wanted model or bundle."""

    kind: Literal["model", "bundle"]
    name: str
    version: Positive
    size_bytes: Positive
    missing_bytes: NonNegative  # of it, what the device has in no other model or bundle
    installed: bool  # this very version


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What it takes to have all that is wanted."""

    items: tuple[PlannedItem, ...]
    missing: dict[str, int]  # digest → bytes of all that has to be fetched, each once
    evict: tuple[str, ...]  # models that have to go, in order, and variants that have no model then
    freed_bytes: NonNegative  # what goes with them
    peak_bytes: NonNegative  # most that is stored at a time; what is replaced goes after the new is in use
    budget_bytes: NonNegative | None
    fits: bool  # whether the budget allows it
    shared_bytes: NonNegative  # what fetching each new item on its own would have taken more
    seconds: float | None = None  # at the given rate; None: the rate is not known
    deadline_s: float | None = None
    needed_bits_per_s: float | None = None  # to keep the deadline

    @property
    def missing_bytes(self) -> int:
        """Bytes of all that has to be fetched."""
        return sum(self.missing.values())

    @property
    def in_time(self) -> bool | None:
        """Whether the deadline is kept; None where deadline or rate is not known."""
        if self.seconds is None or self.deadline_s is None:
            return None
        return self.seconds <= self.deadline_s


def plan(
    wanted: Collection[str],
    index: Index,
    installed: Installed,
    *,
    bundles: Collection[str] = (),
    budget_bytes: int | None = None,
    rate_bytes_per_s: float | None = None,
    usage: Mapping[str, float] | None = None,
    deadline_s: float | None = None,
) -> Plan:
    """What has to be fetched and evicted so that the newest versions of all that is wanted are installed.

    Parameters
    ----------
    wanted, bundles
        Names of models and of bundles in `index`.
    budget_bytes
        Storage for all blobs; None: as much as there is.
    rate_bytes_per_s
        As it was measured last.
    usage
        Model → when it was last used. Those that are not wanted and not pinned go, longest unused first, but
        never the last model of a task: the device goes on answering. A bundle without models goes as well
        where another variant of its task has some.

    Raises
    ------
    ModelNotFoundError, BundleError
        When something wanted is not published.
    ZooError
        When the deadline or the rate is not positive.
    """
    if rate_bytes_per_s is not None and not rate_bytes_per_s > 0:
        raise ZooError(f"expected a rate of more than 0 bytes a second, got {rate_bytes_per_s!r}.")
    releases: list[Release] = [published_model(name, index) for name in dict.fromkeys(wanted)]
    releases += [published_bundle(name, index) for name in dict.fromkeys(bundles)]
    there, held = installed.releases, installed.blobs
    missing = {digest: size for digest, size in _blobs(releases).items() if digest not in held}
    missing_bytes = sum(missing.values())
    need = missing_bytes + sum(held.values())
    keep = {release.name for release in releases if isinstance(release, ModelRelease)}
    idle = [item.release for item in installed.models if not item.pinned and item.release.name not in keep]
    idle.sort(key=lambda release: ((usage or {}).get(release.name, 0.0), release.name))
    held_fast = {item.release.name for item in installed.bundles if item.pinned} | set(bundles)
    evict, freed = _evictions(idle, [*there, *releases], need, budget_bytes, held_fast)
    new = [release for release in releases if release not in there]
    return Plan(
        items=tuple(
            PlannedItem(
                kind=release.kind,
                name=release.name,
                version=release.version,
                size_bytes=release.size_bytes,
                missing_bytes=sum(size for digest, size in release.blobs.items() if digest not in held),
                installed=release in there,
            )
            for release in releases
        ),
        missing=missing,
        evict=evict,
        freed_bytes=freed,
        peak_bytes=need - freed,
        budget_bytes=budget_bytes,
        fits=budget_bytes is None or need - freed <= budget_bytes,
        shared_bytes=sum(release.size_bytes for release in new) - missing_bytes,
        seconds=None if rate_bytes_per_s is None else missing_bytes / rate_bytes_per_s,
        deadline_s=deadline_s,
        needed_bits_per_s=None if deadline_s is None else bits_per_s(missing_bytes, deadline_s),
    )


def published_model(name: str, index: Index) -> ModelRelease:
    """The release of a model; raises :class:`ModelNotFoundError` where there is none."""
    if name not in index.models:
        raise ModelNotFoundError(
            f"expected a published model, got {name!r}. "
            f"Published: {', '.join(sorted(index.models)) or 'none'}."
        )
    return index.models[name]


def published_bundle(name: str, index: Index) -> BundleRelease:
    """The release of a bundle; raises :class:`BundleError` where there is none."""
    if name not in index.bundles:
        raise BundleError(
            f"expected a published bundle, got {name!r}. "
            f"Published: {', '.join(sorted(index.bundles)) or 'none'}."
        )
    return index.bundles[name]


def _blobs(releases: Iterable[Release]) -> dict[str, int]:
    return {digest: size for release in releases for digest, size in release.blobs.items()}


def served(releases: Iterable[Release]) -> set[str]:
    """Tasks that have a model, in whichever of their variants."""
    releases = tuple(releases)
    models = {release.name for release in releases if isinstance(release, ModelRelease)}
    bundles = (release for release in releases if isinstance(release, BundleRelease))
    return {bundle.task for bundle in bundles if models & set(bundle.models)}


def _evictions(
    idle: Iterable[ModelRelease],
    stored: Sequence[Release],
    need: int,
    budget_bytes: int | None,
    keep: Collection[str],
) -> tuple[tuple[str, ...], int]:
    """What goes until `need` bytes fit, `idle` models in their order; and the bytes that go with them.

    Only what nothing else in `stored` shares is freed. No task loses its last model. Bundles without models
    go before any model, unless their name is in `keep`.
    """
    going: list[str] = []
    stays = list(stored)
    left = need
    waiting = list(idle)
    while budget_bytes is not None and left > budget_bytes:
        useless = next((one for one in _useless(stays) if one.name not in keep), None)
        if useless is None and not waiting:
            break
        release = useless or waiting.pop(0)
        rest = [other for other in stays if other is not release]
        if served(rest) == served(stays):
            stays, left = rest, sum(_blobs(rest).values())
            going.append(release.name)
    return tuple(going), need - left


def _useless(stays: Sequence[Release]) -> list[BundleRelease]:
    """Bundles without models of tasks that another variant has models for."""
    models = {release.name for release in stays if isinstance(release, ModelRelease)}
    bundles = (release for release in stays if isinstance(release, BundleRelease))
    tasks = served(stays)
    return [one for one in bundles if one.task in tasks and not models & set(one.models)]
