"""Claims about the command make: six steps in one go, continued wherever they were stopped."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.onnx_bytes import FLOAT
from tests.support.small_models import build_onnx
from tests.support.world import steady
from zoo import Zoo

STEPS = {  # → what does its work
    "add": "zoo.convert.add.add_foreign",
    "profile": "training.outcomes.profile.profile",
    "bench": "zoo.models.latency.measure",
    "fit": "training.fitting.fit.prove",
    "evaluate": "training.reports.page.render",
    "export": "training.fitting.export.export_bundle",
}


@pytest.fixture(autouse=True, scope="module")
def given_costs() -> Iterator[None]:
    with steady():
        yield


@pytest.fixture
def networks(tmp_path: Path) -> list[Path]:
    """Two ONNX files whose outputs are in the order of the folder names: blue, green, red."""
    made = []
    for name, noise, work in (("Small", 0.3, 0), ("large", 0.0, 6)):
        content = build_onnx(
            channels=(2, 1, 0), noise=noise, work=work, input_type=FLOAT, input_shape=("N", 8, 8, 3)
        )
        made.append(tmp_path / f"{name}.onnx")
        made[-1].write_bytes(content)
    return made


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def steps(text: str) -> dict[str, str]:
    """Step → done or kept."""
    lines = [line.split() for line in text.splitlines() if line[:1].isdigit() and line[1:3] == "/6"]
    assert [line[0] for line in lines] == [f"{n + 1}/6" for n in range(len(lines))]
    return {line[1]: line[2].rstrip(":") for line in lines}


def test_one_command_leads_to_answers_and_continues_where_it_was_stopped(
    zooselect: CommandLine, pictures: Path, networks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("make", pictures, *networks, "--accuracy", 0.6, "--scale", "0..255")
    stopped = []
    for step, work in STEPS.items():
        with monkeypatch.context() as patch:
            patch.setattr(work, interrupted)
            stopped.append(zooselect(*asked, code=130))
        assert "interrupted; finished work is kept" in stopped[-1].err
        before = list(STEPS)[: len(stopped) - 1]
        assert list(steps(stopped[-1].out)) == before, f"{step} was not finished"
        assert not before or steps(stopped[-1].out)[before[-1]] == "done"
    assert "the classes are the folder names in this order: blue, green, red" in stopped[1].out
    assert "images of 8x8 pixels, rgb, 0..255, mean 0, std 1" in stopped[1].out
    done = zooselect(*asked)
    assert steps(done.out) == dict.fromkeys(STEPS, "kept") | {"evaluate": "done", "export": "done"}
    assert "it/s" not in stopped[-1].err + done.err
    assert "certified at 95% confidence" in done.out
    assert "oracle" in done.out
    assert Path("my-report.html").is_file()
    again = zooselect(*asked)
    assert steps(again.out) == dict.fromkeys(STEPS, "kept") | {"evaluate": "done"}
    assert again.out.split("\n\n", 1)[1] == done.out.split("\n\n", 1)[1]
    command = done.out.rstrip().rpartition("Next: ")[2]
    program, *words = shlex.split(command)
    assert program == "zooselect"
    assert Path(words[-1]).is_file()
    assert Path(words[-1]).parent.name in zooselect(*words).out
    # models of the zoo by name, and a constraint that cannot be certified
    kept = zooselect("make", pictures, "small", "large", "--precision", 0.999, code=1)
    assert steps(kept.out) == dict.fromkeys(list(STEPS)[:3], "kept")
    assert "Not certified with" in kept.err
    assert "To have the nearest: zooselect make " in kept.err
    assert "my-selector holds a selector that is, for precision 0.6" in kept.err


def test_what_a_file_does_not_say_has_to_be_given(
    zooselect: CommandLine,
    pictures: Path,
    networks: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = tmp_path / "free.onnx"
    free.write_bytes(build_onnx(input_type=FLOAT, input_shape=("N", "H", "W", 3)))
    assert (
        "expected a fixed image size in the graph, got none. Give --size PIXELS"
        in zooselect("make", pictures, free, code=1).err
    )
    four = tmp_path / "four.onnx"
    four.write_bytes(build_onnx(("a", "b", "c", "d"), input_type=FLOAT, input_shape=("N", 8, 8, 3)))
    wrong = zooselect("make", pictures, four, code=1).err
    assert "expected as many outputs as there are class folders (3), got 4" in wrong
    absent = zooselect("make", pictures, "nothing", code=1).err
    assert "expected ONNX files, or names in the zoo my-zoo, got 'nothing': no such file" in absent
    with monkeypatch.context() as patch:
        patch.setattr(STEPS["profile"], interrupted)
        zooselect("make", pictures, networks[1], "--scale", "0..255", code=130)
    assert Zoo.open(tmp_path / "my-zoo").names == ("large",)
    changed = zooselect("make", pictures, networks[1], "--precision", 0.6, code=1).err
    assert "large" in changed
    assert Zoo.open(tmp_path / "my-zoo").card("large").resolution == (8, 8)
