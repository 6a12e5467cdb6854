"""An evaluation as one self-contained HTML page."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from selector.policies.constraint import ConstraintKind
from training.evaluation.records import Evaluation, FeatureShown, MethodRow
from training.reports.confusion_plot import confusion_plot
from training.reports.frontier_plot import frontier_plot
from training.reports.method_table import decimals, milliseconds, percent
from training.reports.plots import darken, model_colours, reliability_plot
from training.reports.spread_plots import guarantee_plot, noise_limit, times_plot
from zoo.files import write_atomic

TEMPLATES = Path(__file__).parent / "templates"


def page_templates() -> jinja2.Environment:
    """The templates of pages; what a template asks for and does not get is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["together"] = _together
    return environment


def render(evaluation: Evaluation, path: str | Path) -> None:
    """Write the evaluation to `path` as one HTML file that needs nothing else, atomically.

    Raises
    ------
    ZooError
        When the file cannot be written.
    """
    environment = page_templates()
    digits = decimals(evaluation)
    environment.filters.update(
        percent=lambda share, digits=1: _together(percent(share, digits)),
        ms=lambda value: milliseconds(value, digits),
        bytes=_size,
    )
    colours = model_colours(evaluation.models)
    page = environment.get_template("report.html").render(
        e=evaluation,
        environments=lambda method: _hardest_first(evaluation, method),
        answering=_models_of(evaluation, [shares for _, shares in evaluation.mixes]),
        mixed_models=_models_of(evaluation, [row.shares for row in evaluation.rows if row.kind != "single"]),
        asked=evaluation.asked or _in_words(evaluation.asked_precision),
        colours=colours,
        features=[FeatureShown(*item) for item in evaluation.features],
        groups=_groups(evaluation),
        level=lambda value: _level(evaluation.mix_kind, value),
        asked_level=evaluation.asked_precision if evaluation.asked_level is None else evaluation.asked_level,
        noise_limit=noise_limit,
        other_clock=_on_other_clock(evaluation),
        plots=_plots(evaluation, colours),
        sends=any(row.sent_share is not None for row in evaluation.rows),
        verdict=verdict(evaluation),
    )
    write_atomic(Path(path), page.encode())


@dataclass(frozen=True)
class TimeComparison:
    """How the selector's mean time relates to a single model's."""

    row: MethodRow
    what: str
    times: float  # at least 1
    faster: bool
    points: float  # accuracy of the selector minus that of the model, in percentage points


def verdict(evaluation: Evaluation) -> list[TimeComparison]:
    """The selector against the reference model, the cheapest single model that is good enough, and others.

    Empty where the machine was busy, for then no ratio of times means anything. A model that is all that the
    selector uses is not compared with it.
    """
    ours = evaluation.ours
    if ours is None or ours.mean_ms <= 0 or evaluation.busy:
        return []
    found: list[TimeComparison] = []
    alone = evaluation.as_good.name if evaluation.as_good and evaluation.as_good.alone else None
    pairs = [
        (
            evaluation.reference,
            "the reference model" if evaluation.reference_model else "the most accurate single model",
        ),
        (evaluation.cheapest_enough, "the cheapest single model that reaches the asked precision"),
        (
            _rival(evaluation, ours),
            f"the {'cheapest' if evaluation.on_cost else 'fastest'} other method that is as accurate",
        ),
    ]
    for row, what in pairs:
        if row is None or not evaluation.on_clock(row) or row.name == alone:
            continue
        if row.mean_ms > 0 and all(row is not other.row for other in found):
            ratio = row.mean_ms / ours.mean_ms
            points = (ours.accuracy - row.accuracy) * 100
            found.append(TimeComparison(row, what, max(ratio, 1 / ratio), ratio >= 1, points))
    return found


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
    where = evaluation.breakdown
    if where is not None and where.matrix:
        plots["confusions"] = picture(lambda narrow: confusion_plot(where.names, where.matrix, narrow=narrow))
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


def _on_other_clock(evaluation: Evaluation) -> list[str]:
    """Names of what the plot of all methods leaves out."""
    rows = [row.name for row in evaluation.rows if not evaluation.on_clock(row)]
    curves = [curve.name for curve in evaluation.curves if not evaluation.on_clock(curve)]
    return list(dict.fromkeys([*rows, *curves]))


def _models_of(evaluation: Evaluation, shares: Sequence[Mapping[str, float]]) -> list[str]:
    """Names of the models that answer some input."""
    return [name for name in evaluation.models if any(one.get(name) for one in shares)]


def _level(kind: ConstraintKind, value: float) -> str:
    """A level of a constraint in few words."""
    words: dict[ConstraintKind, str] = {
        "precision": f"≥ {value * 100:g} %",
        "max_drop": f"drop ≤ {value * 100:.3g} %",
        "mean_ms": f"mean ≤ {value:.3g} ms",
        "p95_ms": f"p95 ≤ {value:.3g} ms",
        "mean_uplink_kb": f"sent ≤ {value:.3g} kB",
        "max_remote": f"sent ≤ {value * 100:.3g} %",
    }
    return words[kind]


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
