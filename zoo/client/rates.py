"""Rates: how fast a network has to be for a model to arrive in time.

The table is like those of 3GPP TR 22.874, Annex C; its limits are in 3GPP TS 22.261, 7.10: 138 MB within
a second take 1.1 Gbit/s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from zoo.errors import ZooError
from zoo.releases.release import Index
from zoo.types import NonNegative

DEADLINES_S = (1.0, 5.0, 10.0, 60.0)


class RateRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What it takes to bring one model to a device."""

    name: str
    size_bytes: NonNegative
    own_bytes: NonNegative  # what no other model has: all that moves to a device that holds the others
    mbit_per_s: tuple[float, ...]  # for each deadline
    own_mbit_per_s: tuple[float, ...]


def bits_per_s(size_bytes: int, deadline_s: float) -> float:
    """The rate at which `size_bytes` arrive within `deadline_s`; headers and round trips come on top.

    Raises
    ------
    ZooError
        When the deadline is no positive time.
    """
    if not deadline_s > 0:
        raise ZooError(f"expected a deadline of more than 0 seconds, got {deadline_s!r}.")
    return size_bytes * 8 / deadline_s


def rate_text(rate: float) -> str:
    """Bits per second in the unit that reads best: ``1.1 Gbit/s``."""
    for unit, size in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if rate >= size * 0.9995:  # what would be rounded to 1000 is 1 of the next
            return f"{rate / size:.3g} {unit}"
    return f"{rate:.3g} bit/s"


def rate_table(index: Index, deadlines_s: Sequence[float] = DEADLINES_S) -> tuple[RateRow, ...]:
    """The rates for every model that is published, largest model first.

    Raises
    ------
    ZooError
        When a deadline is no positive time.
    """
    holders = Counter(digest for release in index.models.values() for digest in release.blobs)
    rows = []
    for name, release in index.models.items():
        own = sum(size for digest, size in release.blobs.items() if holders[digest] == 1)
        rows.append(
            RateRow(
                name=name,
                size_bytes=release.size_bytes,
                own_bytes=own,
                mbit_per_s=tuple(bits_per_s(release.size_bytes, limit) / 1e6 for limit in deadlines_s),
                own_mbit_per_s=tuple(bits_per_s(own, limit) / 1e6 for limit in deadlines_s),
            )
        )
    return tuple(sorted(rows, key=lambda row: (-row.size_bytes, row.name)))
