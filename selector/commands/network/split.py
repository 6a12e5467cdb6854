"""What ``plan --split`` says: where a model is best cut between a device and a server, if anywhere."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from selector.commands.say import say
from selector.commands.tables import table
from zoo.errors import DataError

if TYPE_CHECKING:
    from selector.worth.best_cut import Conditions, Way
    from zoo.models.cuts import CutTable

NOTHING = "–"


def plan_split(
    name: str, zoo: Path, *, rate: str, rtt: str, slower: str, raw_stays: bool, as_json: bool
) -> None:
    """Print the best way of computing a model under all combinations of conditions."""
    from selector.worth.best_cut import Conditions, all_ways
    from zoo.models.cuts import load_cuts
    from zoo.models.zoo import Zoo

    conditions = [
        Conditions(rate_mbps=mbps, rtt_ms=trip, slower=times)
        for times, trip, mbps in itertools.product(
            _numbers(slower, "--slower"), _numbers(rtt, "--rtt"), _numbers(rate, "--rate")
        )
    ]
    card = Zoo.open(zoo).card(name)
    cuts = load_cuts(zoo, card)
    found = [(at, all_ways(cuts, at, raw_stays=raw_stays)) for at in conditions]
    if as_json:
        import msgspec

        facts = [
            {"conditions": msgspec.to_builtins(at), "ways": [_fact(way) for way in ways]}
            for at, ways in found
        ]
        say(msgspec.json.encode(facts).decode())
        return
    rows = [_row(at, ways) for at, ways in found]
    heads = ["Mbit/s", "round trip ms", "device", "all here ms", "all there ms", "best cut ms", "best"]
    say(table(heads, rows, "rrrrrrl"))
    _say_words(cuts, found, raw_stays)


def _row(at: Conditions, ways: tuple[Way, ...]) -> list[str]:
    from selector.worth.best_cut import HERE, THERE, fastest

    best = ways[0]
    return [
        f"{at.rate_mbps:g}",
        f"{at.rtt_ms:g}",
        f"{at.slower:g}x slower",
        *(_cell(fastest(ways, where=where)) for where in (HERE, THERE)),
        _cell(fastest(ways, cut=True)),
        f"cut {best.number} ({best.where})" if best.is_cut else best.where,
    ]


def _cell(way: Way | None) -> str:
    if way is None:
        return NOTHING
    how = [f"cut {way.number}"] if way.is_cut else []
    how += [f"{way.sends}, {way.uplink_bytes / 1e3:.1f} kB"] if way.sends else []
    return f"{way.total_ms:.1f}" + (f" ({': '.join(how)})" if how else "")


def _say_words(cuts: CutTable, found: list[tuple[Conditions, tuple[Way, ...]]], raw_stays: bool) -> None:
    from selector.worth.best_cut import HERE, LEAST_SAVED, needed_mbps

    if not cuts.cuts:
        say(f"{cuts.model} can be cut nowhere: no tensor crosses its graph alone.")
        return
    pays = sum(ways[0].is_cut for _, ways in found)
    say(f"A cut pays in {pays} of {len(found)} cases." if pays else "No cut pays here.")
    say(f"What asks a server pays where it saves {LEAST_SAVED:.0%} of the time of {HERE} or more.")
    if raw_stays:
        say("The image stays on the device: nothing that sends it is among these.")
    asked = {(at.rtt_ms, at.slower): at for at, _ in found}
    for (trip, times), at in asked.items():
        least = needed_mbps(cuts, at, raw_stays=raw_stays)
        speed = "as fast as the measured one" if times == 1 else f"{times:g} times slower"
        where = f"On a device {speed}, at a round trip of {trip:g} ms,"
        say(
            f"{where} no rate makes a cut pay."
            if least is None
            else f"{where} a cut pays above {least:.3g} Mbit/s."
        )


def _fact(way: Way) -> dict[str, object]:
    import msgspec

    return {**msgspec.to_builtins(way), "total_ms": way.total_ms}


def _numbers(text: str, option: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise DataError(f"{option}: expected numbers such as 1,10,100, got {text!r}.") from None
    return list(dict.fromkeys(found))
