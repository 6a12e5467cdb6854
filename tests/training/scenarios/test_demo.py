"""Claims about the demo: it runs from training to timed answers, and a second run makes nothing again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import training.scenarios.demo
from selector import Selector
from tests.support.command_line import CommandLine
from tests.support.world import steady
from training.data.fragments import fragments
from training.data.images import ArrayImages
from training.data.sources import digits
from training.scenarios import reused
from training.scenarios.answered_demo import DemoResult
from training.scenarios.bytes_demo import run_bytes_demo
from training.scenarios.demo import run_demo
from zoo import load_image

DIGITS = 700
STEPS = ("train", "compress", "profile", "bench", "fit", "export", "answer", "report")


def run(folder: Path, lines: list[str], **options: bool) -> DemoResult:
    return run_demo(
        folder,
        precision=0.5,
        sizes=("tiny", "small"),
        epochs=4,
        rounds=1,
        progress=False,
        say=lines.append,
        **options,
    )


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    kept = ("zoo", "profile", "fit")
    files = [path for name in kept for path in sorted((folder / name).rglob("*")) if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module", autouse=True)
def few_digits() -> Iterator[None]:
    """Enough digits for a small network to be better than a tiny one; a fit that looks at few candidates."""
    every = digits()
    some = ArrayImages(
        np.stack([every.image(i) for i in range(DIGITS)]),
        every.classes,
        every.ids[:DIGITS],
        every.labels[:DIGITS],
    )
    with steady(watch=True) as patch:
        patch.setattr(training.scenarios.demo, "digits", lambda: some)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoResult, list[str]]:
    folder, lines = tmp_path_factory.mktemp("demo") / "out", list[str]()
    return folder, run(folder, lines), lines


Made = tuple[Path, DemoResult, list[str]]


def test_the_demo_goes_from_training_to_timed_answers(made: Made) -> None:
    folder, result, lines = made
    assert [line.split(" s  ")[1].split()[0].rstrip(":") for line in lines] == list(STEPS)
    rows = {row.name: row for row in result.evaluation.rows}
    assert set(rows) == {"tiny", "small", "tiny-int8", "small-int8", "zooselect 0.5", "oracle"}
    assert all(row.wall_clock for row in rows.values() if row.kind != "oracle")
    ours = rows["zooselect 0.5"]
    assert rows["small"].accuracy > rows["tiny"].accuracy
    if ours.certified:
        assert ours.accuracy > 0.45
    else:
        assert ours.shares == {Selector.load(result.bundle).reference: 1.0}
    assert "data:image/" in (folder / "report.html").read_text("utf-8")


def test_the_bundle_of_the_demo_answers_alone(made: Made) -> None:
    selector = Selector.load(made[1].bundle)
    assert len(selector.models) == 4
    images = digits()
    right = sum(
        selector.predict(images.image(i)).label == images.classes[images.labels[i]] for i in range(60)
    )
    assert right > 24


def test_there_are_pictures_to_try_commands_on(made: Made) -> None:
    folder, result, _ = made
    selector = Selector.load(result.bundle)
    files = sorted((folder / "images").rglob("*.png"))
    assert len(files) >= 100
    assert {path.parent.name for path in files} == set(selector.classes)
    right = [selector.predict(load_image(path)).label == path.parent.name for path in files]
    assert sum(right) > 0.3 * len(files)


def test_the_next_commands_run(made: Made, zooselect: CommandLine) -> None:
    for command in made[1].evaluation.next_commands:
        program, *words = shlex.split(command)
        assert program == "zooselect"
        assert zooselect(*words).out, command


def test_a_second_run_uses_what_is_valid(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, first, _ = made
    before = state(folder)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured or fitted again")

    monkeypatch.setattr(reused, "measure", never)
    monkeypatch.setattr(reused, "fit", never)
    again = run(folder, [])
    after = state(folder)
    same = {path for path in before if after[path][0] == before[path][0]}
    assert same == set(before) == set(after)
    touched = {Path(path).name for path in before if after[path][1] != before[path][1]}
    assert touched <= {"samples.parquet", "profile.json"}
    accuracies = [{row.name: row.accuracy for row in result.evaluation.rows} for result in (first, again)]
    assert accuracies[0] == accuracies[1]


def test_the_demo_of_bytes_goes_from_fragments_to_answers(tmp_path: Path) -> None:
    said: list[str] = []
    result = run_bytes_demo(
        tmp_path,
        precision=0.2,
        sizes=("tiny", "small"),
        count=300,
        epochs=1,
        rounds=1,
        progress=False,
        say=said.append,
    )
    assert any("train tiny, small" in line for line in said)
    assert [row.name for row in result.evaluation.rows][:2] == ["tiny", "small"]
    assert Selector.load(result.bundle).predict(b"import os\nimport sys\n").label in fragments(12).classes
    assert result.report.stat().st_size > 10_000
