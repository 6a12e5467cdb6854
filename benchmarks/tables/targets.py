"""What the suites of tables are held against, and whether they reach it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.selection.repeated import DELTA
from training.evaluation.records import wilson_interval

TIMES_CHEAPER = 3.0  # than ResNet-152, at its accuracy


@dataclass(frozen=True)
class Target:
    """One figure and what it should be."""

    what: str
    found: str
    holds: bool

    def __str__(self) -> str:
        return f"{'PASS' if self.holds else 'NOT '}  {self.what}: {self.found}"


def targets(name: str, figures: dict[str, Any]) -> list[Target]:
    """The targets of the suite `name` on its figures."""
    found = [_not_behind(figures["peers"])] if figures["peers"] else []
    if figures["guarantee"]:
        found.append(_kept(figures["guarantee"]))
    at, drop = figures["at_reference"][0], figures["certified_drop"]
    if name.startswith("three-nets"):
        text = f"{at['ratio']:.2f} ± {at['ratio_error']:.2f} ×"
        what = f"{TIMES_CHEAPER:g} × cheaper than the reference model at its accuracy"
        found.append(Target(what, text, at["ratio"] >= TIMES_CHEAPER))
    if name == "routerbench":
        certified = f"{drop['certified']} of {figures['repetitions']}"
        text = f"in {certified} splits, {drop['ratio'][0]:.2f} × cheaper"
        what = "something cheaper than the reference model is certified for the drop"
        found.append(Target(what, text, drop["certified"] > 0 and drop["ratio"][0] > 1))
        for what, cost, key in (
            ("no dearer than any peer that is certified for that drop", drop["cost"][0], "proven_cost"),
            ("no dearer than any peer that promises that drop", drop["promised_cost"], "promised_cost"),
        ):
            costs = [one[key] for one in figures["peers"]]
            if costs:
                found.append(Target(what, f"{cost:.4g} against {min(costs):.4g}", cost <= min(costs)))
    return found


def _not_behind(peers: Sequence[dict[str, Any]]) -> Target:
    behind = [f"{one['peer']} at {one['behind_levels']}" for one in peers if one["behind_levels"]]
    what = "behind no peer by more than one standard error at any level"
    return Target(what, ", ".join(behind) or f"behind none of {len(peers)}", not behind)


def _kept(rows: Sequence[dict[str, Any]]) -> Target:
    worst = max(rows, key=lambda one: one["violated"] / one["draws"])
    low, high = wilson_interval(worst["violated"], worst["draws"])
    text = f"at most {worst['violated']} of {worst['draws']:,} draws (95 % interval {low:.1%} to {high:.1%})"
    what = f"certificates are false in at most {DELTA:.0%} of the draws, as far as these can tell"
    return Target(what, text, low <= DELTA)
