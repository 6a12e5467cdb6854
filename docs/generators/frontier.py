"""The picture of the frontier: accuracy against time, from the table of suite ``cifar10``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from generators.packages import label

SUITE = "## Suite `cifar10`:"
ROW = re.compile(
    r"^(?P<name>\S+(?: 0\.\d+)?) +(?P<kind>single|ours|oracle) .*?"
    r"(?P<accuracy>\d+\.\d) ± \d+\.\d % +~?(?P<ms>\d+\.\d+) ",
    re.MULTILINE,
)
WIDTH, HEIGHT = 820, 440
LEFT, RIGHT, UP, DOWN = 74, 30, 60, 78
TICKS = (0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)
OURS, SINGLE, INT8, GREY = "#0969da", "#6e7781", "#bc4c00", "#57606a"


@dataclass(frozen=True)
class Point:
    """One method: accuracy in percent, mean time in milliseconds."""

    name: str
    kind: str
    accuracy: float
    ms: float


def points(text: str) -> list[Point]:
    """The rows of the first table of the suite."""
    table = text.split("```\n")[3]
    return [
        Point(row["name"], row["kind"], float(row["accuracy"]), float(row["ms"]))
        for row in ROW.finditer(table)
    ]


def frontier_picture(page: Path) -> str:
    """An SVG of single models and of the selector at several precisions."""
    suite = page.read_text("utf-8").split(SUITE, 1)[1].split("\n## ")[0]
    found = points(suite)
    ours = [one for one in found if one.kind == "ours"]
    singles = [one for one in found if one.kind == "single"]
    times = [math.log(one.ms) for one in (*ours, *singles)]
    least, most = min(times) - 0.25, max(times) + 0.15  # a ratio of times is a distance
    low, high = int(min(one.accuracy for one in singles)) - 1, int(max(one.accuracy for one in ours)) + 1
    bottom, right = HEIGHT - DOWN, WIDTH - RIGHT

    def x(ms: float) -> float:
        return LEFT + (math.log(ms) - least) / (most - least) * (right - LEFT)

    def y(accuracy: float) -> float:
        return bottom - (accuracy - low) / (high - low) * (bottom - UP)

    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' "
        f"height='{HEIGHT}' role='img' aria-label='Accuracy and mean time, single models and selector'>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' rx='10' fill='#ffffff'/>",
        label(LEFT, 30, "More right answers in less time", size=17, weight=600),
        label(LEFT, 49, "CIFAR-10 as JPEG, four ResNets, float and 8-bit, one thread", size=13, colour=GREY),
    ]
    for accuracy in range(low, high + 1):
        parts.append(line(LEFT, y(accuracy), right, y(accuracy), "#d8dee4"))
        parts.append(label(LEFT - 10, y(accuracy) + 4, f"{accuracy} %", size=12, colour=GREY, anchor="end"))
    for tick in TICKS:
        if LEFT < x(tick) < right:
            parts.append(label(x(tick), bottom + 20, f"{tick:g}", size=12, colour=GREY, anchor="middle"))
    middle = (LEFT + right) / 2
    parts.append(label(middle, bottom + 40, "mean milliseconds an answer", size=13, anchor="middle"))
    best = best_so_far(ours)
    path = " ".join(f"{x(one.ms):.1f},{y(one.accuracy):.1f}" for one in best)
    parts.append(f"<polyline points='{path}' fill='none' stroke='{OURS}' stroke-width='2.4'/>")
    asked: dict[float, list[Point]] = {}  # points of one accuracy share a label
    for one in ours:
        parts.append(dot(x(one.ms), y(one.accuracy), OURS, 6))
        asked.setdefault(one.accuracy, []).append(one)
    for accuracy, some in asked.items():
        levels = ", ".join(f"{float(one.name.split()[1]) * 100:g}" for one in some)
        behind = accuracy > best[0].accuracy and not set(some) & set(best)  # the line is on its left
        ends = [x(one.ms) for one in some]
        left, anchor = (max(ends) + 11, "start") if behind else (min(ends) - 11, "end")
        parts.append(label(left, y(accuracy) + 5, f"asked {levels} %", size=12.5, colour=OURS, anchor=anchor))
    named, dearest = best_so_far(singles), max(singles, key=lambda one: one.ms)
    for one in singles:
        colour = INT8 if one.name.endswith("int8") else SINGLE
        left, top, anchor = x(one.ms) + 9, y(one.accuracy) + 4, "start"
        if one is dearest and one not in named:
            left, top, anchor = x(one.ms), y(one.accuracy) - 11, "middle"
        shown = one is dearest or one in named
        parts.append(dot(x(one.ms), y(one.accuracy), colour, 5 if shown else 3))
        if shown:
            parts.append(label(left, top, one.name, size=11.5, colour=colour, anchor=anchor))
    legend = (
        (OURS, "zooselect, certified"),
        (SINGLE, "single model"),
        (INT8, "single model, 8-bit integers"),
    )
    for row, (colour, text) in enumerate(legend):
        parts.append(dot(right - 330, bottom - 88 + 21 * row, colour, 5))
        parts.append(label(right - 318, bottom - 84 + 21 * row, text, size=13))
    text = "small: a cheaper single model is at least as often right"
    parts.append(label(right - 336, bottom - 84 + 21 * len(legend), text, size=12, colour=GREY))
    parts.append(label(LEFT, HEIGHT - 14, note(suite), size=11.5, colour=GREY))
    return "\n".join([*parts, "</svg>"]) + "\n"


def best_so_far(some: list[Point]) -> list[Point]:
    """Those that are more often right than all that take less time, cheapest first."""
    kept: list[Point] = []
    for one in sorted(some, key=lambda one: (one.ms, -one.accuracy)):
        if not kept or one.accuracy > kept[-1].accuracy:
            kept.append(one)
    return kept


def note(suite: str) -> str:
    """What the times are, in one line."""
    sentence = re.search(r"Wall-clock over simulated time: (.*?)\.(?: |$)", " ".join(suite.split()))
    assert sentence is not None
    ratios = [float(one) for one in re.findall(r": (\d\.\d\d) ±", sentence[1])]
    low, high = (round(100 * (one - 1)) for one in (min(ratios), max(ratios)))
    took = f"between {low:+d} and {high:+d} %"
    if high < 0:
        took = f"{-high} to {-low} % less"
    elif low > 0:
        took = f"{low} to {high} % more"
    return f"Accuracy ± 2 points. Times are of the latency table; real answers of the selector took {took}."


def line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    """A straight line."""
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}'/>"


def dot(x: float, y: float, colour: str, radius: float) -> str:
    """A filled point."""
    return f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{radius:g}' fill='{colour}'/>"
