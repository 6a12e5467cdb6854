"""Show an evaluation: as a table in the terminal and as one self-contained HTML page."""

from __future__ import annotations

import base64
import itertools
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2

from training.evaluation.records import Evaluation, FeatureShown, MethodRow
from training.reports.frontier_plot import frontier_plot
from training.reports.plots import darken, model_colours, reliability_plot
from training.reports.spread_plots import guarantee_plot, noise_limit, times_plot
from zoo.files import write_atomic

TEMPLATES = Path(__file__).parent / "templates"
_MIN_SHARES, _MAX_NAME, _MOST_SHARES = 24, 26, 4


def page_templates() -> jinja2.Environment:
    """The templates of pages; what a template asks for and does not get is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(evaluation: Evaluation, path: str | Path) -> None:
    """Write the evaluation to `path` as one HTML file that needs nothing else, atomically.

    Raises
    ------
    ZooError
        When the file cannot be written.
    """
    environment = page_templates()
    decimals = _decimals(evaluation)
    environment.filters.update(
        percent=lambda share, digits=1: _together(percent(share, digits)),
        ms=lambda value: milliseconds(value, decimals),
        bytes=_size,
        together=_together,
    )
    colours = model_colours(evaluation.models)
    page = environment.get_template("report.html").render(
        e=evaluation,
        environments=lambda method: _hardest_first(evaluation, method),
        asked=evaluation.asked or _in_words(evaluation.asked_precision),
        colours=colours,
        features=[FeatureShown(*item) for item in evaluation.features],
        groups=_groups(evaluation),
        noise_limit=noise_limit,
        plots=_plots(evaluation, colours),
        verdict=verdict(evaluation),
    )
    write_atomic(Path(path), page.encode())


def table(evaluation: Evaluation, width: int = 100) -> str:
    """The methods as a plain-text table, no line longer than `width` columns (at least 72).

    A time that was added up from measured costs instead of timed end to end is marked with ``~``.
    """
    rows, decimals = evaluation.rows, _decimals(evaluation)
    header = ["method", "kind", "asked", "accuracy", "mean ms", "p95 ms"]
    cells = [
        [row.name, row.kind, _asked(row), _accuracy(row), *(_time(row, ms, decimals) for ms in _times(row))]
        for row in rows
    ]
    shown = [i for i in range(len(header)) if i != 2 or any(map(_asked, rows))]
    sizes = {i: max(len(line[i]) for line in [header, *cells]) for i in shown}
    fixed = sum(size + 2 for i, size in sizes.items() if i)
    sizes[0] = max(len(header[0]), min(sizes[0], _MAX_NAME, max(12, width - fixed - 2)))
    used = fixed + sizes[0] + 2
    beside = width - used >= _MIN_SHARES
    lines = [_line(header, sizes) + ("  share of inputs" if beside else "")]
    lines.append("─" * width)
    for row, line in zip(rows, cells, strict=True):
        names = textwrap.wrap(line[0], sizes[0]) or [""]
        shares = _wrap_shares(row, width - (used if beside else 4))
        first = [_line([names[0], *line[1:]], sizes), *names[1:]]
        if beside:
            for left, right in itertools.zip_longest(first, shares, fillvalue=""):
                lines.append(f"{left:<{used}}{right}".rstrip())
        else:
            lines += [*first, *(f"    {text}" for text in shares)]
    if any(not row.wall_clock for row in rows):
        lines += ["", *textwrap.wrap("~ added up from measured costs, not timed end to end", width)]
    return "\n".join(lines)


@dataclass(frozen=True)
class Comparison:
    """How the selector's mean time relates to a single model's."""

    row: MethodRow
    what: str
    times: float  # at least 1
    faster: bool
    points: float  # accuracy of the selector minus that of the model, in percentage points


def verdict(evaluation: Evaluation) -> list[Comparison]:
    """The selector against the reference model, the cheapest single model that is good enough, and others."""
    ours = evaluation.ours
    if ours is None or ours.mean_ms <= 0:
        return []
    found: list[Comparison] = []
    pairs = [
        (
            evaluation.reference,
            "the reference model" if evaluation.reference_model else "the most accurate single model",
        ),
        (evaluation.cheapest_enough, "the cheapest single model that reaches the asked precision"),
        (_rival(evaluation, ours), "the fastest other method that is as accurate"),
    ]
    for row, what in pairs:
        if row is not None and row.mean_ms > 0 and all(row is not other.row for other in found):
            ratio = row.mean_ms / ours.mean_ms
            points = (ours.accuracy - row.accuracy) * 100
            found.append(Comparison(row, what, max(ratio, 1 / ratio), ratio >= 1, points))
    return found


def percent(share: float, digits: int = 1) -> str:
    """A share as text: ``95.3 %``; never rounded up to 100 or down to 0."""
    text = f"{share * 100:.{digits}f}"
    if share < 1 and float(text) == 100:
        return f"> {100 - 10**-digits:.{digits}f} %"
    if share > 0 and float(text) == 0:
        return f"< {10**-digits:.{digits}f} %"
    return f"{text} %"


def milliseconds(value: float, decimals: int) -> str:
    """A time as text: ``0.041``, ``1,250.0``."""
    return f"{value:,.{decimals}f}"


def _plots(evaluation: Evaluation, colours: Mapping[str, str]) -> dict[str, dict[str, str]]:
    plots = {}
    if evaluation.rows:
        plots["frontier"] = picture(lambda narrow: frontier_plot(evaluation, narrow=narrow))
    if evaluation.reliability:
        plots["reliability"] = picture(
            lambda narrow: reliability_plot(evaluation.reliability, colours, narrow=narrow)
        )
    if any(len(calls) for calls in evaluation.times.values()):
        plots["times"] = picture(lambda narrow: times_plot(evaluation.times, colours, narrow=narrow))
    if evaluation.guarantee:
        plots["guarantee"] = picture(lambda narrow: guarantee_plot(evaluation.guarantee, narrow=narrow))
    return plots


def _groups(evaluation: Evaluation) -> list[tuple[str, list[MethodRow]]]:
    """The rows by what they are; without a heading where a glance tells them apart."""
    kinds = {"ours": "Zooselect", "single": "Single models", "peer": "Other methods", "oracle": "Ceiling"}
    if not evaluation.peers:
        return [("", list(evaluation.rows))]
    groups = [(title, [row for row in evaluation.rows if row.kind == kind]) for kind, title in kinds.items()]
    return [(title, rows) for title, rows in groups if rows]


def _in_words(precision: float | None) -> str:
    return "" if precision is None else f"precision of at least {precision * 100:g} %"


def _hardest_first(evaluation: Evaluation, method: str) -> list[tuple[str, Mapping[str, float]]]:
    return sorted(evaluation.environments.items(), key=lambda item: item[1].get(method, 1.0))


def _rival(evaluation: Evaluation, ours: MethodRow) -> MethodRow | None:
    """The fastest method of others that is as accurate, of those whose times were found in the same way."""
    equal = [row for row in evaluation.peers if row.wall_clock == ours.wall_clock]
    enough = [row for row in equal if row.accuracy >= ours.accuracy]
    return min(enough, key=lambda row: row.mean_ms, default=None)


def _size(count: int) -> str:
    """Bytes as text: ``8.4 kB``, ``1.9 MB``."""
    return f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:,.1f} MB"


def _times(row: MethodRow) -> tuple[float, float]:
    return row.mean_ms, row.p95_ms


def _decimals(evaluation: Evaluation) -> int:
    """Enough for two significant digits of the smallest time, so that a column lines up."""
    smallest = min((row.mean_ms for row in evaluation.rows if row.mean_ms > 0), default=1.0)
    return min(max(1 - math.floor(math.log10(smallest)), 0), 5)


def _together(text: str) -> str:
    """No line break between a figure and its unit."""
    return re.sub(r"(?<=\d) (?=%|ms\b|µs\b|kB\b|MB\b)", "\N{NO-BREAK SPACE}", text)


def picture(plot: Callable[[bool], str]) -> dict[str, str]:
    """A plot as data URIs, for wide and narrow, light and dark pages."""
    pictures = {}
    for size, narrow in (("wide", False), ("narrow", True)):
        svg = plot(narrow)
        pictures[size], pictures[f"{size}_dark"] = _data_uri(svg), _data_uri(darken(svg))
    return pictures


def _data_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _line(cells: list[str], sizes: Mapping[int, int]) -> str:
    left = {0, 1}
    return "  ".join(
        f"{cells[i]:<{sizes[i]}}" if i in left else f"{cells[i]:>{sizes[i]}}" for i in sorted(sizes)
    )


def _asked(row: MethodRow) -> str:
    mark = {True: "✓", False: "✗", None: ""}[row.certified]
    precision = "" if row.precision is None else f"{row.precision * 100:g} %"
    return f"{precision} {mark}".strip()


def _accuracy(row: MethodRow) -> str:
    return f"{row.accuracy * 100:.1f} ± {(row.accuracy_high - row.accuracy_low) * 50:.1f} %"


def _time(row: MethodRow, value: float, decimals: int) -> str:
    return ("" if row.wall_clock else "~") + milliseconds(value, decimals)


def _wrap_shares(row: MethodRow, width: int) -> list[str]:
    if row.kind == "single":
        return []
    some = {name: share for name, share in row.shares.items() if share}
    largest = sorted(some, key=some.__getitem__, reverse=True)[:_MOST_SHARES]
    items = [f"{name} {percent(share, 0)}" for name, share in some.items() if name in largest]
    rest = sum(share for name, share in some.items() if name not in largest)
    return list(_joined([*items, *([f"others {percent(rest, 0)}"] if rest else [])], width))


def _joined(items: list[str], width: int) -> Iterator[str]:
    line = ""
    for item in itertools.chain.from_iterable(textwrap.wrap(item, width) for item in items):
        if line and len(line) + len(item) + 3 > width:
            yield line
            line = item
        else:
            line = f"{line} · {item}" if line else item
    if line:
        yield line
