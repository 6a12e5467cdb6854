"""What the client of a device tells: how fresh its knowledge is, how far it is, what it has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Progress = Callable[[int, int], None]  # bytes there, bytes in all


@dataclass(frozen=True)
class Freshness:
    """Whether the device knows what is published now.

    Examples
    --------
    >>> client.freshness.stale
    True
    >>> refreshed = client.refresh()
    >>> client.freshness.stale
    False
    """

    stale: bool
    reason: str | None  # why, in words
    checked: float | None  # seconds since 1970 of the last successful look; None: never


@dataclass(frozen=True)
class Change:
    """What an installation did.

    Examples
    --------
    >>> change = client.install(models=["tiny"])
    >>> change.installed, change.nothing, change.bytes_on_wire > 0
    (('tiny',), False, True)
    """

    installed: tuple[str, ...]  # models and bundles that are new or of another version
    removed: tuple[str, ...]
    evicted: tuple[str, ...]  # removed to make room
    bytes_on_wire: int  # everything that was received, metadata included
    requests: int
    seconds: float
    left_out: dict[str, str] = field(default_factory=dict)  # model or bundle → why it was not installed
    no_room: dict[str, str] = field(default_factory=dict)  # model that is assigned → why it does not fit here

    @property
    def nothing(self) -> bool:
        """Whether all was as it should be already."""
        return not (self.installed or self.removed or self.evicted)
