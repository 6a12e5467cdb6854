"""An evaluation with everything in it, and what its page shows."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from training.evaluation.records import (
    Evaluation,
    FeatureShown,
    FrontierCurve,
    GuaranteeRow,
    MethodRow,
    wilson_interval,
)
from training.reports.page import render
from training.search.comparisons import CandidateComparison, StorageRow


def method(name: str, kind: Any, accuracy: float, mean_ms: float, **more: Any) -> MethodRow:
    low, high = wilson_interval(round(accuracy * 1000), 1000)
    facts = {
        "precision": None,
        "p95_ms": mean_ms * 2,
        "shares": {name: 1.0},
        "certified": None,
        "wall_clock": True,
        **more,
    }
    return MethodRow(
        name, kind, accuracy=accuracy, accuracy_low=low, accuracy_high=high, mean_ms=mean_ms, **facts
    )


MIX = {"tiny": 0.61, "small": 0.3, "full": 0.09}


EVALUATION = Evaluation(
    title="Digits under changing environments",
    subtitle="1,000 test images",
    asked_precision=0.95,
    rows=[
        method("full", "single", 0.965, 1.2),
        method("tiny", "single", 0.84, 0.03),
        method("small", "single", 0.953, 0.4),
        method("zooselect", "ours", 0.92, 0.1, precision=0.9, certified=True, shares=MIX),
        method("zooselect", "ours", 0.955, 0.2, precision=0.95, certified=True, shares=MIX),
        method("zooselect", "ours", 0.96, 0.9, precision=0.99, certified=False, shares=MIX),
        method("oracle", "oracle", 0.99, 0.05, shares=MIX, wall_clock=False),
        *(method(f"peer-{i}", "peer", 0.9 + i / 200, 0.3 + i / 50, shares=MIX) for i in range(7)),
    ],
    curves=[
        FrontierCurve("zooselect", "ours", [(0.1, 0.92), (0.2, 0.955), (0.9, 0.96)], wall_clock=True),
        *(
            FrontierCurve(f"peer-{i}", "peer", [(0.1, 0.8 + i / 100), (0.9, 0.9)], wall_clock=True)
            for i in range(7)
        ),
    ],
    mixes=[(0.9, MIX), (0.95, MIX)],
    environments={"clear": {"zooselect": 0.98, "tiny": 0.9}, "noise": {"zooselect": 0.93, "tiny": 0.7}},
    reliability={"tiny": [(0.2, 0.25, 10), (0.9, 0.88, 90), (0.5, 0.0, 0)], "full": [(0.95, 0.96, 100)]},
    features=[FeatureShown("brightness_mean", True, "kept", 0.8), FeatureShown("hue", False, "constant")],
    facts=[("device", "this-machine")],
    notes=["The oracle is a ceiling."],
    next_commands=["zooselect predict --help"],
    gain=(0.012, 0.004),
    times={"zooselect": [0.1, 0.1, 0.4, 0.1], "full": [1.2, 1.3, 1.1]},
    guarantee=[GuaranteeRow(100, 200, 2, None, 0), GuaranteeRow(1000, 200, 9, 1.25, 200)],
    comparisons=[
        CandidateComparison(
            kind="probe",
            label="probe, committee",
            models=("tiny", "full"),
            reaches=True,
            accuracy=0.951,
            mean_ms=0.21,
            chosen=True,
        )
    ],
    storage=[StorageRow(size_bytes=8412, models=("tiny",), reaches=False, accuracy=0.84, mean_ms=0.03)],
)


# with one plot only: drawing is most of the time that a page takes
PLAIN = dataclasses.replace(
    EVALUATION, rows=EVALUATION.rows[:7], curves=EVALUATION.curves[:1], reliability={}, times={}, guarantee=[]
)
EMPTY = Evaluation("Nothing", "", None, [], [], [], {}, {}, [], [], [], [])


def rendered(evaluation: Evaluation, folder: Path) -> str:
    render(evaluation, folder / "report.html")
    return (folder / "report.html").read_text("utf-8")


class Balance(HTMLParser):
    """Collects the text of a page and insists that every element is closed."""

    void = frozenset({"meta", "img", "source", "link", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def visible(page: str) -> str:
    parser = Balance()
    parser.feed(page)
    assert not parser.open
    return re.sub(r"\s+", " ", " ".join(parser.text))
