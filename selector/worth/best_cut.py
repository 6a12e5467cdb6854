"""Where a model is best computed: all of it on the device, all on a server, or a part on each.

Times are those of a cut table, the device's so many times as long, and those of the network: what goes up and
comes back at its rate, and one round trip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zoo.errors import DataError
from zoo.models.cuts import CutTable, Encoded

HERE, THERE = "all here", "all there"
REQUEST_BYTES = 400  # lines of HTTP and JSON around what one request carries
ANSWER_BYTES = 300  # and around the logits that come back
LOGIT_BYTES = 4
LEAST_SAVED = 0.03  # of what the device takes alone, by what asks a server: times vary by less
NEVER_SENT = "packed"  # in tables for comparison: no server of the protocol is known to take it


@dataclass(frozen=True)
class Conditions:
    """A network and a device.

    Raises
    ------
    DataError
        When a rate or a speed is not above 0, or a round trip takes less than no time.
    """

    rate_mbps: float  # megabits per second, in both directions
    rtt_ms: float  # a round trip of the least there is
    slower: float = 1.0  # by how much the device is slower than the machine that was measured

    def __post_init__(self) -> None:
        for what, value, least in (
            ("a rate above 0 Mbit/s", self.rate_mbps, 0),
            ("a device that is a positive number of times slower", self.slower, 0),
        ):
            if not (value > least and math.isfinite(value)):
                raise DataError(f"expected {what}, got {value:g}.")
        if not (self.rtt_ms >= 0 and math.isfinite(self.rtt_ms)):
            raise DataError(f"expected a round trip of 0 ms or more, got {self.rtt_ms:g}.")


@dataclass(frozen=True)
class Way:
    """One way of computing a model, and what an answer takes."""

    where: str  # "all here", "all there", or the tensor at which the model is cut
    sends: str  # "raw", "png", "jpeg" or "8-bit"; "" where nothing is sent
    uplink_bytes: float  # of one request
    downlink_bytes: float  # of its answer
    device_ms: float
    network_ms: float
    server_ms: float
    number: int | None = None  # of the place, from 1

    @property
    def total_ms(self) -> float:
        """Milliseconds from the image to the logits."""
        return self.device_ms + self.network_ms + self.server_ms

    @property
    def is_cut(self) -> bool:
        """Whether a part is computed on each side."""
        return self.number is not None


def all_ways(table: CutTable, at: Conditions, *, raw_stays: bool = False) -> tuple[Way, ...]:
    """All ways of computing a model, the fastest first; the device alone comes before what saves little.

    A way that asks a server has to save :data:`LEAST_SAVED` of the time that the device takes alone.

    Parameters
    ----------
    raw_stays
        Leave out what sends the image: all there, and cuts before the first layer, where the tensor is still
        the picture. What later tensors tell about the image is not judged.

    Examples
    --------
    >>> from selector.worth.best_cut import Conditions, all_ways
    >>> all_ways(table, Conditions(rate_mbps=10, rtt_ms=20, slower=8))[0].where  # doctest: +SKIP
    'all here'
    """
    ways = [Way(HERE, "", 0.0, 0.0, at.slower * table.whole_ms, 0.0, 0.0)]
    if not raw_stays:
        ways += [_sent(table, at, THERE, one, 0.0, table.whole_ms) for one in table.encoded]
    for number, cut in enumerate(table.cuts, 1):
        if not (raw_stays and cut.shows_image):
            ways += [
                _sent(table, at, cut.tensor, one, cut.head_ms, cut.tail_ms, number)
                for one in cut.encoded
                if one.encoding != NEVER_SENT
            ]
    return tuple(sorted(ways, key=lambda way: way.total_ms * (1 - LEAST_SAVED * (way.where == HERE))))


def fastest(ways: Sequence[Way], *, cut: bool = False, where: str = "") -> Way | None:
    """The first way that cuts the model, or that computes it at one place; None where there is none."""
    return next((way for way in ways if (way.is_cut if cut else way.where == where)), None)


def needed_mbps(table: CutTable, at: Conditions, *, raw_stays: bool = False) -> float | None:
    """The rate above which some cut comes before all of it on the device; None: no rate is enough.

    The rate of `at` does not count.
    """
    here = at.slower * table.whole_ms * (1 - LEAST_SAVED)
    rates = []
    for way in all_ways(table, at, raw_stays=raw_stays):
        if way.is_cut:
            left = here - way.device_ms - way.server_ms - at.rtt_ms
            if left > 0:
                rates.append((way.uplink_bytes + way.downlink_bytes) * 8 / 1e3 / left)
    return min(rates, default=None)


def _sent(
    table: CutTable,
    at: Conditions,
    where: str,
    encoded: Encoded,
    head_ms: float,
    tail_ms: float,
    number: int | None = None,
) -> Way:
    up = encoded.size_bytes + REQUEST_BYTES
    down = table.classes * LOGIT_BYTES + ANSWER_BYTES
    return Way(
        where=where,
        sends=encoded.encoding,
        uplink_bytes=up,
        downlink_bytes=down,
        device_ms=at.slower * (head_ms + encoded.encode_ms),
        network_ms=at.rtt_ms + (up + down) * 8 / 1e3 / at.rate_mbps,
        server_ms=encoded.decode_ms + tail_ms,
        number=number,
    )
