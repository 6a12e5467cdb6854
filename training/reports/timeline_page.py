"""The page of a timeline: one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path

from training.evaluation.timeline import Timeline, changes
from training.reports.page import page_templates, picture
from training.reports.timeline_plot import MEAN_WINDOW_INPUTS, timeline_plot
from zoo.files import write_atomic


def render_timeline(timeline: Timeline, path: str | Path) -> None:
    """Write the timeline to `path` as one HTML file that needs nothing else, atomically.

    Raises
    ------
    ZooError
        When the file cannot be written.
    """
    environment = page_templates()
    environment.filters["share"] = lambda value: (
        "–" if value is None else f"{value * 100:.1f}\N{NO-BREAK SPACE}%"
    )
    page = environment.get_template("scenario.html").render(
        t=timeline,
        key=_key(timeline),
        plot=picture(lambda narrow: timeline_plot(timeline, narrow=narrow)),
        window=MEAN_WINDOW_INPUTS,
    )
    write_atomic(Path(path), page.encode())


def _key(timeline: Timeline) -> list[tuple[str, str]]:
    """The figures on top, with their words."""
    changed = changes(timeline.phases)
    switched = [inputs for _, inputs in changed if inputs is not None]
    known = sum(phase.specialist is not None for phase, _ in changed)
    moved = sum(phase.bytes_moved for phase in timeline.phases[1:])
    shown = []
    moving = timeline.deadline_ms is not None
    if switched:
        shown.append((f"{max(switched)} inputs", "at most from a change until its specialist answered"))
    shown += [
        (f"{len(switched)} of {known}", "changes to an environment with a specialist ended with it"),
        *(
            []
            if moving
            else [(f"{moved / 1e6:.2f} MB", "received after the first environment, metadata included")]
        ),
        (f"{timeline.longest_ms:.0f} ms", f"the longest of {len(timeline.answers):,} answers; none failed"),
    ]
    if moving:
        asked = sum(answer.asked for answer in timeline.answers) / len(timeline.answers)
        sent = timeline.answers[-1].sent_bytes
        shown.insert(
            1, (f"{asked * 100:.0f} %", f"of the answers came from the server; {sent / 1e6:.2f} MB sent")
        )
    return shown
