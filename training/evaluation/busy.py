"""Whether the machine was busy while times were taken: then they are shown, but not compared."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from selector.commands.last_words import command
from selector.commands.options import MY_PROFILE, MY_ZOO, THIS_MACHINE
from training.evaluation.wallclock import Timed
from training.fitting.fitted import Fitted
from zoo.errors import ZooError
from zoo.models.latency import BUSY_SHARE, LatencyTable, load_table

MAX_LOST_SHARE = 0.1  # of the time of measuring
MAX_INTERVAL = 0.1  # width of the interval of a median, over the median


def busy_table(table: LatencyTable, models: Collection[str]) -> str:
    """Why the times of a latency table are not to be compared; empty where they are.

    A single model does the same work in every run. What its runs take beyond its median therefore went to
    other programs. Added up over all models, that is the share of the measuring time that was lost. Newer
    tables also know how many runs were interrupted; these are left out of the times.

    Parameters
    ----------
    models
        Those of the table that count.
    """
    interrupted = table.share_interrupted(models) or 0.0
    if interrupted > BUSY_SHARE:
        return (
            f"the machine was busy when the latency table of {table.device} was measured: "
            f"other programs interrupted {interrupted:.0%} of the runs of a model"
        )
    found = {name: row.latency for name, row in table.models.items() if name in models}
    total = sum(one.runs * one.mean_ms for one in found.values())
    lost = sum(one.runs * max(0.0, one.mean_ms - one.p50_ms) for one in found.values())
    if total and lost / total > MAX_LOST_SHARE:
        return (
            f"the machine was busy when the latency table of {table.device} was measured: "
            f"{lost / total:.0%} of that time went to other programs"
        )
    widths = {name: (one.p50_high_ms - one.p50_low_ms) / one.p50_ms for name, one in found.items()}
    widest = max(widths, key=widths.__getitem__, default="")
    if widest and widths[widest] > MAX_INTERVAL:
        return (
            f"the latency table of {table.device} is not steady: the 95 % interval of the median of {widest} "
            f"is {widths[widest]:.0%} of it wide"
        )
    return ""


def busy_fit(fitted: Fitted) -> str:
    """Why a fit certifies no budget of time: its answers were timed on a busy machine; else empty."""
    share = fitted.record.interrupted or 0.0
    return (
        f"No budget of time is certified: other programs interrupted {share:.0%} of the runs in which "
        "answers were timed. On a quiet machine, measure with 'zooselect bench --wait-quiet SECONDS' and fit "
        "again."
        if share > BUSY_SHARE
        else ""
    )


def busy_warning(
    table: LatencyTable,
    models: Collection[str],
    *,
    zoo: str | Path | None = None,
    profile: str | Path = MY_PROFILE,
) -> str:
    """What to say before the times of a latency table are used; empty where they can be compared."""
    busy = busy_table(table, models)
    return busy and (
        f"warning: {busy}. What is fitted with these times may not be the fastest on a quiet machine. "
        + remedy(wall_clock=False, again=measure_again(table, zoo=zoo, profile=profile))
    )


def busy_run(timed: Collection[Timed]) -> str:
    """Why the times of a wall-clock run are not to be compared; empty where they are.

    With one thread, the clock of the processor says how long the program ran; the rest of the time it waited.
    With several threads that clock says nothing, and what single models take beyond their medians counts.
    """
    waited = max((one.waited for one in timed if one.waited is not None), default=None)
    if waited is None:
        calls = [one.all_times_ms for one in timed if one.certified is None]
        total = sum(float(times.sum()) for times in calls)
        summaries = [one.latency for one in timed if one.certified is None]
        lost = sum(one.runs * max(0.0, one.mean_ms - one.p50_ms) for one in summaries)
        waited = lost / total if total else 0.0
    if waited <= MAX_LOST_SHARE:
        return ""
    return (
        f"the machine was busy while the images were answered: "
        f"{waited:.0%} of that time went to other programs"
    )


def remedy(*, wall_clock: bool, again: str = "") -> str:
    """What to do about times that were taken on a busy machine; `again`: :func:`measure_again`, if known."""
    if wall_clock:
        return "Run this again on a quiet machine."
    how = f" with {again}" if again else ""
    return f"Measure again on a quiet machine{how}, then run 'zooselect fit' again."


def measure_again(table: LatencyTable, *, zoo: str | Path | None, profile: str | Path) -> str:
    """The command that measures a table of a profile again, as it was measured, in quotes.

    Parameters
    ----------
    zoo
        Folder of the models; None where it is not known: then the usual one if there is one, else ``ZOO``.
    """
    if zoo is None:
        zoo = MY_ZOO if (MY_ZOO / "zoo.json").is_file() else "ZOO"
    size = "x".join(map(str, table.image))
    again = command(
        "bench",
        zoo,
        device=None if table.device == THIS_MACHINE.stem else table.device,
        size=None if size == "32x32" else size,
        threads=None if table.threads == 1 else table.threads,
        out=None if Path(profile) == MY_PROFILE else Path(profile) / "latency" / f"{table.device}.json",
    )
    return f"'{again}'"


def table_in(profile: Path, fitted: Fitted) -> LatencyTable | None:
    """The latency table in a profile that the costs of a fit are from, or None."""
    costs = fitted.record.bundle.costs_ms()
    try:
        table = load_table(profile / "latency" / f"{costs.device}.json")
    except ZooError:
        return None
    found = {name: row.latency.typical_ms for name, row in table.models.items()}
    return table if all(found.get(name) == cost for name, cost in costs.models.items()) else None
