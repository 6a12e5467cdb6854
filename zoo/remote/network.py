"""What a network costs: a table of round trip and rates, as measured or as standards give them.

The time of a remote answer is the round trip, the bytes at their rates and the time of the server. That of
the server is measured on a connection that is kept, so no handshake is in it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from zoo.errors import CardError, ZooError
from zoo.files import encode_record, read_record, write_atomic
from zoo.inputs.kind import InputKind, Item
from zoo.inputs.kinds import IMAGE
from zoo.remote.client import Client
from zoo.remote.descriptor import Remote
from zoo.remote.runs import RemoteRuns
from zoo.types import Name

SCHEMA_VERSION = 1
MOST_MBPS = 100_000.0  # what is faster is not told apart: the clock and the processor are what is measured
PROBE_BYTES = (65_536, 524_288)  # of bodies whose times are compared
MIN_ROUNDS = 5
Milliseconds = Annotated[float, Meta(ge=0)]


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A network table: one condition, such as ``4g``.

    Examples
    --------
    >>> from zoo.remote.network import PRESETS
    >>> round(PRESETS["4g"].answer_ms(uplink_bytes=3_000, downlink_bytes=300), 1)
    65.6
    """

    schema_version: int = SCHEMA_VERSION
    name: Name
    rtt_ms: Milliseconds  # from a request without a body to its answer, on a kept connection
    uplink_mbps: Annotated[float, Meta(ge=0, le=MOST_MBPS)]  # megabits a second; 0: there is no network
    downlink_mbps: Annotated[float, Meta(ge=0, le=MOST_MBPS)]
    server_ms: dict[Name, Milliseconds] = {}  # of one image, by the model's name in the zoo
    measured: bool = False
    source: str = ""  # where the figures come from, in words

    @property
    def reachable(self) -> bool:
        """Whether there is a network at all."""
        return self.uplink_mbps > 0 and self.downlink_mbps > 0

    def answer_ms(self, *, uplink_bytes: float, downlink_bytes: float, server_ms: float = 0.0) -> float:
        """Milliseconds of one remote answer; infinite where there is no network.

        Examples
        --------
        >>> from zoo.remote.network import PRESETS
        >>> PRESETS["none"].answer_ms(uplink_bytes=1, downlink_bytes=1)
        inf
        """
        if not self.reachable:
            return math.inf
        up_ms = 8 * uplink_bytes / (1000 * self.uplink_mbps)
        down_ms = 8 * downlink_bytes / (1000 * self.downlink_mbps)
        return self.rtt_ms + up_ms + down_ms + server_ms

    def model_ms(self, name: str, remote: Remote) -> float:
        """Milliseconds of one image for the model `name`; a server that was not measured takes none."""
        return self.answer_ms(
            uplink_bytes=remote.uplink_bytes,
            downlink_bytes=remote.downlink_bytes,
            server_ms=self.server_ms.get(name, 0.0),
        )


_IMT_ADVANCED = (
    "ITU-R M.2083: 10 Mbit/s as experienced, 10 ms one way over the air; ITU-R M.2134: the uplink's spectral "
    "efficiency is 6.75/15 of the downlink's; 3GPP TS 23.203: 20 ms one way from the base station on"
)
_IMT_2020 = (
    "ITU-R M.2410: 100 and 50 Mbit/s as experienced, 4 ms one way over the air; 3GPP TS 23.501: 20 ms one "
    "way from the base station on"
)
_WIFI = (
    "IEEE 802.11n, one stream of 20 MHz: 65 Mbit/s, of which six tenths are assumed to be left by the "
    "medium access; a round trip of 10 ms is assumed"
)
PRESETS: Mapping[str, Network] = {
    network.name: network
    for network in (
        Network(name="wifi", rtt_ms=10.0, uplink_mbps=39.0, downlink_mbps=39.0, source=_WIFI),
        Network(name="4g", rtt_ms=60.0, uplink_mbps=4.5, downlink_mbps=10.0, source=_IMT_ADVANCED),
        Network(name="5g", rtt_ms=48.0, uplink_mbps=50.0, downlink_mbps=100.0, source=_IMT_2020),
        Network(name="none", rtt_ms=0.0, uplink_mbps=0.0, downlink_mbps=0.0, source="no network"),
    )
}


def measure_network(
    remotes: Mapping[str, Remote],
    widths: Mapping[str, int],
    images: Sequence[Item],
    *,
    name: str,
    rounds: int = 20,
    kind: InputKind = IMAGE,
) -> Network:
    """Measure the way to the one server of `remotes`, and its time for each of them.

    The uplink is told from bodies of two sizes that the server reads and refuses. Answers are too small to
    tell the downlink, so it is taken to be the uplink.

    Parameters
    ----------
    remotes, widths
        By name in the zoo: the models, and how many classes each has.
    images
        uint8 ``[H, W, 3]``, or inputs of another `kind`, to ask for, one in each request.
    rounds
        How often each time is taken; the median counts.

    Raises
    ------
    ZooError
        When there is no model, or the models are on several servers.
    UnreachableError
        When the server does not answer.
    """
    addresses = sorted({remote.address for remote in remotes.values()})
    if len(addresses) != 1 or not images:
        raise ZooError(
            f"expected remote models of one server, got {', '.join(addresses) or 'none'}. "
            "Add one with 'zooselect zoo add --remote', or name a zoo with those of one server."
        )
    if rounds < MIN_ROUNDS:
        raise ZooError(f"expected at least {MIN_ROUNDS} rounds, got {rounds}.")
    first = next(iter(remotes.values()))
    client = Client.of(first)
    deadline_s = first.deadline_ms / 1000
    feeds = [kind.feeds(kind.stack([item])) for item in images]
    try:
        rtt_ms = _median_ms(lambda: client.ready(deadline_s=deadline_s), rounds)
        small, large = (_refused_ms(client, first, size, rounds) for size in PROBE_BYTES)
        bits = 8 * (PROBE_BYTES[1] - PROBE_BYTES[0])
        gap_ms = large - small
        uplink_mbps = min(MOST_MBPS, bits / (1000 * gap_ms)) if gap_ms > 0 else MOST_MBPS
        way = Network(name=name, rtt_ms=rtt_ms, uplink_mbps=uplink_mbps, downlink_mbps=uplink_mbps)
        server_ms = {}
        for model, remote in remotes.items():
            runs = RemoteRuns(remote, width=widths[model], client=client)
            whole_ms, up, down = _asked(runs, feeds, rounds)
            server_ms[model] = max(0.0, whole_ms - way.answer_ms(uplink_bytes=up, downlink_bytes=down))
    finally:
        client.close()
    source = f"measured to {addresses[0]}; the downlink is taken to be the uplink"
    return msgspec.structs.replace(way, server_ms=server_ms, measured=True, source=source)


def save_network(network: Network, path: str | Path) -> None:
    """Write a network table as JSON, atomically."""
    write_atomic(Path(path), encode_record(network))


def load_network(name_or_path: str | Path) -> Network:
    """The network of a preset's name, or of a file.

    Raises
    ------
    CardError
        When it is neither, or does not validate.

    Examples
    --------
    >>> from zoo.remote.network import load_network
    >>> load_network("5g").uplink_mbps
    50.0
    """
    preset = PRESETS.get(str(name_or_path))
    if preset is not None:
        return preset
    if not Path(name_or_path).is_file():
        raise CardError(
            f"expected one of the networks {', '.join(PRESETS)} or the file of a network table, got "
            f"{str(name_or_path)!r}. Check the spelling, or measure one: zooselect bench --network."
        )
    return read_record(Path(name_or_path), Network, schema_version=SCHEMA_VERSION)


def _refused_ms(client: Client, remote: Remote, size: int, rounds: int) -> float:
    deadline_s = remote.deadline_ms / 1000
    return _median_ms(lambda: client.refused(remote.model, b" " * size, deadline_s=deadline_s), rounds)


def _median_ms(call: Callable[[], object], rounds: int) -> float:
    call()  # opens the connection
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1000)
    return median(times)


def _asked(
    runs: RemoteRuns, feeds: Sequence[Mapping[str, NDArray[Any]]], rounds: int
) -> tuple[float, float, float]:
    """Milliseconds of one input, and the bytes up and down, as the medians of `rounds`."""
    found = []
    for k in range(rounds + 1):
        start = time.perf_counter()
        runs.ask(feeds[k % len(feeds)], time.monotonic() + runs.remote.deadline_ms / 1000)
        found.append(((time.perf_counter() - start) * 1000, *runs.last_bytes))
    whole_ms, up, down = np.median(found[1:], axis=0)
    return float(whole_ms), float(up), float(down)
