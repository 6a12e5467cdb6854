"""Names of points in a plot, placed so that they cover neither each other nor what they name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

_DIRECTIONS = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)]
_DIRECTIONS += [(2, 1), (2, -1), (-2, 1), (-2, -1), (1, 2), (1, -2), (-1, 2), (-1, -2)]
_DISTANCES = [8.0, 14.0, 22.0, 32.0, 46.0, 62.0, 84.0, 112.0]
_LEADER_FROM = 12.0
_MARK_RADIUS = 4.5  # pixels


@dataclass(frozen=True)
class Callout:
    """The text at a point in data coordinates."""

    text: str
    point: tuple[float, float]
    colour: str
    bold: bool = False


def place_callouts(
    axes: Axes,
    callouts: Sequence[Callout],
    lines: Sequence[Sequence[tuple[float, float]]],
) -> list[Bbox]:
    """Write every name beside its point: at the nearest place where it covers least, other texts included.

    Parameters
    ----------
    axes
        Of a figure that was laid out at 72 dots per inch, so that a pixel is a point.
    lines
        Data coordinates of lines that the names should keep off.

    Returns
    -------
    list of Bbox
        Where the names are, in pixels, in the order of `callouts`.
    """
    points = _pixels(axes, [callout.point for callout in callouts])
    obstacles = np.concatenate([points, *(_dense(_pixels(axes, line)) for line in lines if len(line))])
    taken = [text.get_window_extent() for text in axes.texts]
    drawn = len(taken)
    leaders = np.empty((0, 2))
    for own, (callout, point) in enumerate(zip(callouts, points, strict=True)):
        weight = "bold" if callout.bold else "normal"
        text = axes.annotate(callout.text, callout.point, fontsize=9, fontweight=weight, color=callout.colour)
        size = text.get_window_extent()
        text.remove()

        places = [(far, _box(point, size, way, far)) for far in _DISTANCES for way in _DIRECTIONS]
        costs = [
            far + _cost(axes, box, taken, obstacles, points, own) + _crossing(box, point, far, taken, leaders)
            for far, box in places
        ]
        far, box = places[int(np.argmin(costs))]
        if far > _LEADER_FROM:
            leaders = np.concatenate([leaders, _leader(point, box)])
        taken.append(box)
        leader = {"arrowstyle": "-", "color": callout.colour, "lw": 0.6, "alpha": 0.5, "shrinkB": 4}
        axes.annotate(
            callout.text,
            callout.point,
            xytext=((box.x0 + box.x1) / 2 - point[0], (box.y0 + box.y1) / 2 - point[1]),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
            fontweight=weight,
            color=callout.colour,
            arrowprops=leader if far > _LEADER_FROM else None,
            zorder=8,
        )
    return taken[drawn:]


def _pixels(axes: Axes, points: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    return np.asarray(axes.transData.transform(np.asarray(points, dtype=float).reshape(-1, 2)), dtype=float)


def _dense(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    corners = corners[np.argsort(corners[:, 0], kind="stable")]
    pieces = [np.linspace(a, b, 2 + int(np.hypot(*(b - a)) / 4)) for a, b in itertools.pairwise(corners)]
    return np.concatenate(pieces) if pieces else corners


def _box(point: NDArray[np.float64], size: Bbox, way: tuple[int, int], distance: float) -> Bbox:
    reach = distance / math.hypot(*way)
    x = point[0] + way[0] * (reach + size.width / 2)
    y = point[1] + way[1] * (reach + size.height / 2)
    return Bbox.from_bounds(x - size.width / 2, y - size.height / 2, size.width, size.height)


def _leader(point: NDArray[np.float64], box: Bbox) -> NDArray[np.float64]:
    """Pixels of the line from a point to where it meets its name."""
    end = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
    steps = np.linspace(0.0, 1.0, 2 + int(np.hypot(*(end - point)) / 2))
    path = point + steps[:, np.newaxis] * (end - point)
    return path[~_inside(path, box)]


def _inside(points: NDArray[np.float64], box: Bbox) -> NDArray[np.bool_]:
    return np.asarray(((points > box.min) & (points < box.max)).all(axis=1))


def _crossing(
    box: Bbox,
    point: NDArray[np.float64],
    far: float,
    taken: Sequence[Bbox],
    leaders: NDArray[np.float64],
) -> float:
    """What it costs that a leader line crosses a name, or another one."""
    crossed = 1000.0 * bool(_inside(leaders, box.padded(1.5)).any())
    if far > _LEADER_FROM:
        own = _leader(point, box)
        crossed += 1000.0 * sum(1 for other in taken if _inside(own, other.padded(1.5)).any())
        if len(leaders) and len(own):
            gaps = np.abs(own[:, np.newaxis] - leaders[np.newaxis]).max(axis=2)
            crossed += 300.0 * bool((gaps < 1.5).any())
    return crossed


def _cost(
    axes: Axes,
    box: Bbox,
    taken: Sequence[Bbox],
    obstacles: NDArray[np.float64],
    points: NDArray[np.float64],
    own: int,
) -> float:
    frame = axes.get_window_extent()
    outside = float(max(0.0, frame.x0 - box.x0, box.x1 - frame.x1, frame.y0 - box.y0, box.y1 - frame.y1))
    wide = box.padded(2.5)
    overlap = sum(1 for other in taken if wide.overlaps(other))
    centre = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
    half = np.array([box.width / 2, box.height / 2])
    gaps = np.hypot(*np.maximum(np.abs(points - centre) - half, 0).T)
    ambiguous = np.count_nonzero(gaps < gaps[own] + 2) - 1  # beside somebody else's point
    covered = np.count_nonzero(_inside(obstacles, wide))
    marks = np.count_nonzero((np.abs(points - centre) < half + _MARK_RADIUS).all(axis=1))
    return (
        100.0 * outside + 4000.0 * overlap + 12.0 * covered + 1000.0 * float(marks) + 60.0 * float(ambiguous)
    )
