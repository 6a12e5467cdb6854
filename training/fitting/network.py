"""Times of models on servers over a network: from a network table instead of measured ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from zoo.errors import LatencyError
from zoo.models.card import ModelCard
from zoo.models.latency import Latency, LatencyTable, ModelLatency
from zoo.models.zoo import Zoo
from zoo.remote.network import Network

NO_NETWORK = "none"


def over_network(table: LatencyTable, zoo: Zoo, network: Network) -> tuple[LatencyTable, Zoo]:
    """A latency table as it is over a network, and the models that can be asked there.

    A model on a server takes the round trip, its bytes over the rates, and the server's time. Where the
    network table does not know that, it is all of the time in `table`, which rather overstates it. These are
    means: nothing is known of how the times are spread. Whole answers that asked a server are left out.

    Raises
    ------
    LatencyError
        When rates are not above 0, bytes or the server's time are not known, or no model is left.
    """
    remote = {card.name: card for card in zoo.cards if card.remote is not None}
    if network.name == NO_NETWORK:
        local = [name for name in zoo.names if name not in remote]
        if not local:
            raise LatencyError(
                f"expected a model that runs without a network, got only models on servers: "
                f"{', '.join(remote)}. Add one that runs on the device, or fit for a network (--network)."
            )
        return _without_paths(table, remote), zoo.only(local)
    for what, value in (
        ("uplink_mbps", network.uplink_mbps),
        ("downlink_mbps", network.downlink_mbps),
    ):
        if not 0 < value < math.inf:
            raise LatencyError(
                f"network {network.name!r}: expected {what} above 0, got {value!r}. Correct the table; "
                f"where there is no network, take {NO_NETWORK!r} (--network {NO_NETWORK})."
            )
    if not 0 <= network.rtt_ms < math.inf:
        raise LatencyError(
            f"network {network.name!r}: expected rtt_ms of at least 0, got {network.rtt_ms!r}. "
            "Correct the network table."
        )
    models = dict(table.models)
    for name, card in remote.items():
        mean_ms = _mean_ms(card, network, table)
        models[name] = ModelLatency(sha256=card.sha256, latency=_known(mean_ms), network=network.name)
    return msgspec.structs.replace(_without_paths(table, remote), models=models), zoo


def _mean_ms(card: ModelCard, network: Network, table: LatencyTable) -> float:
    assert card.remote is not None
    row = table.models.get(card.name)
    measured_ms = None if row is None or row.sha256 != card.sha256 else row.latency.typical_ms
    server_ms = network.server_ms.get(card.name, measured_ms)
    if server_ms is None or not card.remote.uplink_bytes:
        lacking = "the server's time" if server_ms is None else "the bytes of a request"
        raise LatencyError(
            f"model {card.name!r}: expected {lacking}, got none in {network.name!r}, the latency table "
            "and the zoo. Measure them with 'zooselect bench ZOO', with and without --network."
        )
    return network.answer_ms(
        uplink_bytes=card.remote.uplink_bytes,
        downlink_bytes=card.remote.downlink_bytes,
        server_ms=server_ms,
    )


def _known(mean_ms: float) -> Latency:
    """A mean of which nothing else is known: no single runs, so no bound on a percentile."""
    return Latency(
        p50_ms=mean_ms,
        p50_low_ms=mean_ms,
        p50_high_ms=mean_ms,
        p95_ms=mean_ms,
        mean_ms=mean_ms,
        runs=1,
        interrupted=0,
    )


def _without_paths(table: LatencyTable, remote: Mapping[str, object]) -> LatencyTable:
    kept = tuple(row for row in table.paths if not remote.keys() & set(row.models))
    return msgspec.structs.replace(table, paths=kept)
