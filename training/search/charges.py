"""Charges: what candidates are compared by where a budget is about what is sent, instead of milliseconds.

Under such a budget a policy should send little, whatever that takes on the device. So a remote model is
charged a *unit* for what one of its answers sends, on top of its time. A unit is longer than any answer: what
is charged tells units and milliseconds apart, and of two ways that send as much the faster one is cheaper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from selector.policies.constraint import Constraint
from zoo.models.latency import Latency, LatencyTable
from zoo.models.zoo import Zoo

_STEPS = 1000  # units of the longest request
_BESIDE_MS = 100.0  # features and decisions of an answer take less


class Charges(msgspec.Struct, frozen=True):
    """How a table was charged for what is sent.

    Parameters
    ----------
    table
        With charges in place of the times of remote models.
    unit_ms
        Length of a unit.
    per_unit
        What a unit stands for in the words of the constraint: kilobytes, or one for a request.
    """

    table: LatencyTable
    unit_ms: float
    per_unit: float


def charges_of(table: LatencyTable, zoo: Zoo, constraint: Constraint) -> Charges | None:
    """The charges for a constraint; None where milliseconds are what counts."""
    remote = {card.name: card.remote for card in zoo.cards if card.remote is not None}
    if not constraint.on_network or not remote:
        return None
    unit_ms = 2.0 ** math.ceil(math.log2(2 * sum(table.costs_ms(zoo).values()) + _BESIDE_MS))
    if constraint.kind == "max_remote":
        per_unit, units = 1.0, dict.fromkeys(remote, 1)
    else:
        sizes = {name: one.uplink_bytes / 1e3 for name, one in remote.items()}
        per_unit = max(sizes.values()) / _STEPS  # check_provable: above 0
        units = {name: math.ceil(kb / per_unit * (1 - 1e-12)) for name, kb in sizes.items()}
    return Charges(_charged(table, units, unit_ms), unit_ms, per_unit)


def _charged(table: LatencyTable, units: Mapping[str, int], unit_ms: float) -> LatencyTable:
    models = {
        name: msgspec.structs.replace(row, latency=_later(row.latency, units[name] * unit_ms))
        if name in units
        else row
        for name, row in table.models.items()
    }
    return msgspec.structs.replace(table, models=models, paths=())


def _later(latency: Latency, extra_ms: float) -> Latency:
    return msgspec.structs.replace(
        latency,
        p50_ms=latency.p50_ms + extra_ms,
        mean_ms=latency.mean_ms + extra_ms,
        p99_ms=None,
        times_ms=(),
    )
