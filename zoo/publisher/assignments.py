"""Signing assignments: what a service has decided for groups of devices, under a key of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import PublishError
from zoo.publisher.keys import Keys
from zoo.publisher.signing import Expiry, Signing, locked
from zoo.publisher.targets import drop, next_version, put, read_index
from zoo.releases.release import Assignment, Index


@dataclass(frozen=True)
class Assigned:
    """Assignments after they were signed."""

    assignments: dict[str, Assignment]  # group → what holds now, versions included
    changed: tuple[str, ...]  # groups


def sign_assignments(
    root: str | Path,
    keys: Keys,
    assignments: Iterable[Assignment],
    *,
    remove: Collection[str] = (),
    expiry: Expiry | None = None,
) -> Assigned:
    """Publish assignments; groups that are not named keep theirs, groups in `remove` lose them.

    The keys of assignments, snapshot and timestamp are enough. Versions are given here: one more where
    something has changed. Where nothing has, nothing is written.

    Raises
    ------
    PublishError
        When nothing is published there, or an assignment names what is not.
    KeysError, TrustError
        When a key is missing, or what is published was not signed by these keys.
    """
    if not (Path(root) / "metadata" / "timestamp.json").exists():
        raise PublishError(f"expected a publisher's folder, got nothing published in {root}. Publish there.")
    with locked(root):
        signing = Signing(root, keys, expiry=expiry)
        index = read_index(root, signing)
        after, changed = dict(index.assignments), []
        for assignment in assignments:
            _check_names(assignment, index)
            before = index.assignments.get(assignment.group)
            versioned = next_version(assignment, before, signing)
            assert isinstance(versioned, Assignment)
            if versioned is not before:
                put(root, signing, versioned)
                after[versioned.group] = versioned
                changed.append(versioned.group)
        for group in remove:
            if group in index.assignments:
                drop(signing, after.pop(group))
                changed.append(group)
        if changed:
            signing.commit("assignments")
        return Assigned(after, tuple(changed))


def _check_names(assignment: Assignment, index: Index) -> None:
    for kind, names, held in (
        ("models", assignment.models, index.models),
        ("bundles", assignment.bundles, index.bundles),
    ):
        missing = [name for name in names if name not in held]
        if missing:
            raise PublishError(
                f"group {assignment.group!r}: expected {kind} that are published, got {', '.join(missing)}. "
                f"Published: {', '.join(held) or 'none'}."
            )
