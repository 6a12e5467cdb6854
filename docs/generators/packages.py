"""The picture of the packages: their folders in layers, from the import contracts in ``pyproject.toml``."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

BOX, GAP, ROW, TOP, MARGIN = 250, 46, 40, 84, 24
COLOURS = {"benchmarks": "#8250df", "training": "#1a7f37", "selector": "#0969da", "zoo": "#9a6700"}
TITLES = {
    "benchmarks": "figures on real data",
    "training": "labelled images → bundle",
    "selector": "choose and answer",
    "zoo": "models and how they travel",
}
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"
LEGEND = (
    "A folder may import what lies below it in its own box, and what lies in the boxes to the right. "
    "Folders in one row do not import each other."
)


def packages_picture(pyproject: Path) -> str:
    """An SVG of the layers that import-linter keeps."""
    contracts = tomllib.loads(pyproject.read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layered = [one for one in contracts if one["type"] == "layers"]
    packages = next(one["layers"] for one in layered if "containers" not in one)
    layers = {one["containers"][0]: one["layers"] for one in layered if "containers" in one}
    height = TOP + ROW * max(len(layers[name]) for name in packages) + 62
    width = 2 * MARGIN + len(packages) * BOX + (len(packages) - 1) * GAP
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' "
        f"height='{height}' role='img' aria-label='Folders of zooselect and what they may import'>",
        "<defs><marker id='tip' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='7' markerHeight='7' "
        "orient='auto'><path d='M0 0 L10 5 L0 10 z' fill='#57606a'/></marker></defs>",
        f"<rect width='{width}' height='{height}' rx='10' fill='#ffffff'/>",
    ]
    for place, name in enumerate(packages):
        x = MARGIN + place * (BOX + GAP)
        parts += package(name, layers[name], x)
        if place + 1 < len(packages):
            y = TOP - 30
            parts.append(arrow(x + BOX + 6, y, x + BOX + GAP - 6, y))
    parts.append(label(MARGIN, height - 20, LEGEND, size=13, colour="#57606a"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def package(name: str, layers: list[str], x: int) -> list[str]:
    """One package: its title, and a row for each layer."""
    colour = COLOURS.get(name, "#57606a")
    high = TOP - 20 + ROW * len(layers)
    parts = [
        f"<rect x='{x}' y='20' width='{BOX}' height='{high}' rx='8' fill='{colour}' fill-opacity='0.06' "
        f"stroke='{colour}'/>",
        label(x + 14, 44, name, size=17, colour=colour, weight=600),
        label(x + 14, 64, TITLES.get(name, ""), size=12.5, colour="#57606a"),
        arrow(x + BOX - 14, TOP - 4, x + BOX - 14, 20 + high - 12),
    ]
    for row, layer in enumerate(layers):
        folders = [one.strip(" ()") for one in re.split(r"[|:]", layer)]
        y, left = TOP - 6 + row * ROW, float(x + 14)
        room = BOX - 46 - 6 * (len(folders) - 1)
        letters = sum(len(folder) + 4 for folder in folders)
        for folder in folders:
            wide = room * (len(folder) + 4) / letters
            parts.append(
                f"<rect x='{left:.1f}' y='{y}' width='{wide:.1f}' height='{ROW - 10}' rx='5' fill='#ffffff' "
                f"stroke='{colour}' stroke-opacity='0.5'/>"
            )
            parts.append(label(left + wide / 2, y + 20, folder, size=12.5, anchor="middle"))
            left += wide + 6
    return parts


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """An arrow from what imports to what is imported."""
    return (
        f"<line x1='{x1:g}' y1='{y1:g}' x2='{x2:g}' y2='{y2:g}' stroke='#57606a' stroke-width='1.4' "
        "marker-end='url(#tip)'/>"
    )


def label(
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    colour: str = "#1f2328",
    weight: int = 400,
    anchor: str = "start",
) -> str:
    """A line of text."""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' {FONT} font-size='{size:g}' font-weight='{weight}' "
        f"text-anchor='{anchor}' fill='{colour}'>{escape(text)}</text>"
    )
