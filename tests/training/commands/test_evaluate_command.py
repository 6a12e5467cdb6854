"""Claims about the command evaluate: one judgement, as a table, as JSON and as a page."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.support.command_line import CommandLine
from tests.support.evaluations import visible
from tests.support.world import World
from training.data.folder import folder as image_folder
from training.fitting.export import export_bundle
from training.fitting.fit import fit
from training.fitting.fitted import save_fit
from training.outcomes.profile import profile


@pytest.fixture(scope="module")
def made(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images of colours, and profile, fit and bundle of them."""
    folder = tmp_path_factory.mktemp("made")
    for i in range(120):
        image = Image.fromarray(world.data.image(3 * i))
        path = folder / "photos" / world.data.classes[world.data.labels[3 * i]] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    profile(world.zoo, image_folder(folder / "photos"), folder / "profile", progress=False)
    fitted = fit(folder / "profile", world.zoo, world.table, precision=0.6, policy="cascade")
    save_fit(fitted, folder / "fit")
    export_bundle(fitted, world.zoo, folder / "bundle")
    return folder


def test_it_prints_a_table_and_writes_a_page(zooselect: CommandLine, made: Path) -> None:
    inputs = ("--fit", made / "fit", "--profile", made / "profile")
    done = zooselect("evaluate", *inputs, "--report", "page.html", "--title", "My camera")
    text = visible(Path("page.html").read_text("utf-8"))
    for shown in ("My camera", "Why this policy", "When storage is short", "added up from measured costs"):
        assert shown in text
    assert "How long one answer takes" not in text
    assert "oracle" in done.out
    assert "Report: page.html" in done.out


def test_with_images_the_times_are_real(zooselect: CommandLine, made: Path) -> None:
    done = zooselect(
        *("evaluate", "--fit", made / "fit", "--profile", made / "profile", "--json"),
        *("--bundle", made / "bundle", "--data", made / "photos", "--precision", "0.5"),
    )
    facts = done.json()
    assert facts["asked"] == "precision 0.5"
    assert all(row["wall_clock"] for row in facts["rows"] if row["kind"] != "oracle")
    text = visible(Path("my-report.html").read_text("utf-8"))
    assert "How long one answer takes" in text
    assert "timed end to end" in text


def test_any_constraint_can_be_asked_for(zooselect: CommandLine, made: Path) -> None:
    inputs = ("--fit", made / "fit", "--profile", made / "profile", "--json")
    assert zooselect("evaluate", *inputs, "--mean-ms", 1).json()["asked"] == "mean of at most 1 ms"


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--data", "digits"], "expected --bundle with --data"),
        (["--bundle", "somewhere"], "expected --data with --bundle"),
        (["--precision", "0.9", "--max-drop", "0.1"], "Give only one"),
        (["--report", "."], "Name --report my-report.html"),
    ],
)
def test_it_says_what_is_missing(
    zooselect: CommandLine, made: Path, arguments: list[str], advice: str
) -> None:
    inputs = ("--fit", made / "fit", "--profile", made / "profile")
    assert advice in zooselect("evaluate", *inputs, *arguments, code=1).err


@pytest.mark.parametrize("arguments", [(), ("--help",), ("--out", "page.html", "--bundle", "b")])
def test_the_name_that_it_had_ends_with_the_new_one(
    zooselect: CommandLine, arguments: tuple[str, ...]
) -> None:
    done = zooselect("report", *arguments, code=2)
    assert done.err == (
        "error: 'zooselect report' is now 'zooselect evaluate', with the same options and --report FILE for "
        "--out FILE.\n"
    )
    assert "│ report" not in zooselect("--help").out
