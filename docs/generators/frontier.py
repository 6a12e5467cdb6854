"""The picture of the frontier: accuracy against time, from the table of suite ``cifar10``."""

from __future__ import annotations

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
ROOM = 90.0  # pixels that the label of a point takes beside it
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
    most_ms = max(one.ms for one in singles) * 1.12
    low, high = int(min(one.accuracy for one in singles)) - 1, int(max(one.accuracy for one in ours)) + 1
    bottom, right = HEIGHT - DOWN, WIDTH - RIGHT

    def x(ms: float) -> float:
        return LEFT + ms / most_ms * (right - LEFT)

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
        parts.append(line(x(0), y(accuracy), right, y(accuracy), "#d8dee4"))
        parts.append(label(LEFT - 10, y(accuracy) + 4, f"{accuracy} %", size=12, colour=GREY, anchor="end"))
    for half in range(int(most_ms * 2) + 1):
        parts.append(label(x(half / 2), bottom + 20, f"{half / 2:g}", size=12, colour=GREY, anchor="middle"))
    middle = (LEFT + right) / 2
    parts.append(label(middle, bottom + 40, "mean milliseconds an answer", size=13, anchor="middle"))
    path = " ".join(f"{x(one.ms):.1f},{y(one.accuracy):.1f}" for one in ours)
    parts.append(f"<polyline points='{path}' fill='none' stroke='{OURS}' stroke-width='2.4'/>")
    asked: dict[float, list[Point]] = {}  # points of one accuracy share a label
    for one in ours:
        parts.append(dot(x(one.ms), y(one.accuracy), OURS, 6))
        asked.setdefault(one.accuracy, []).append(one)
    for accuracy, some in asked.items():
        levels = ", ".join(f"{float(one.name.split()[1]) * 100:g}" for one in some)
        left = min(x(one.ms) for one in some) - 11
        parts.append(label(left, y(accuracy) + 5, f"asked {levels} %", size=12.5, colour=OURS, anchor="end"))
    for one in singles:
        beside = one.name.endswith("int8")  # because a float model may lie right below
        colour = INT8 if beside else SINGLE
        crowded = any(
            0 < x(other.ms) - x(one.ms) < ROOM and abs(y(other.accuracy) - y(one.accuracy)) < 12
            for other in singles
        )
        left, top = (x(one.ms) + 9, y(one.accuracy) + 4) if beside else (x(one.ms), y(one.accuracy) + 19)
        anchor = "start" if beside else "middle"
        if beside and crowded:
            left, top, anchor = x(one.ms), y(one.accuracy) - 10, "middle"
        parts.append(dot(x(one.ms), y(one.accuracy), colour, 5))
        parts.append(label(left, top, one.name, size=11.5, colour=colour, anchor=anchor))
    legend = (
        (OURS, "zooselect, certified"),
        (SINGLE, "single model"),
        (INT8, "single model, 8-bit integers"),
    )
    for row, (colour, text) in enumerate(legend):
        parts.append(dot(right - 270, UP + 20 + 22 * row, colour, 5))
        parts.append(label(right - 256, UP + 24 + 22 * row, text, size=13))
    parts.append(label(LEFT, HEIGHT - 14, note(suite), size=11.5, colour=GREY))
    return "\n".join([*parts, "</svg>"]) + "\n"


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
