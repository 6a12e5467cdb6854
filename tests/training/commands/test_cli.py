"""Claims about the command line: it teaches, its steps chain through files, and fails with a reason."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from selector import cli
from selector.commands import answer
from tests.support.colours import colour_zoo
from tests.support.command_line import CommandLine, Done
from tests.support.small_models import COLOURS, plain_image
from tests.support.world import World, colour_images
from zoo.models.latency import save_table

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders with PNG files."""
    root = tmp_path_factory.mktemp("pictures") / "colours"
    data = colour_images(200)
    for i in range(0, len(data), 3):
        folder = root / COLOURS[data.labels[i]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.image(i)).save(folder / f"{data.ids[i]}.png")
    return root


COMMANDS = [
    (),
    ("zoo",),
    *(("zoo", name) for name in ("train", "add", "compress", "list")),
    *((name,) for name in ("demo", "profile", "bench", "fit", "evaluate", "export", "select", "predict")),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_teaches(zooselect: CommandLine, command: tuple[str, ...]) -> None:
    text = " ".join(zooselect(*command, "--help").out.replace("│", " ").split())
    assert "Usage: zooselect" in text
    assert len(text) > 250 or command == ("zoo",)
    assert any(
        word in text for word in ("Example", "See it work", "about two minutes", "one folder", "Judge")
    )


def test_commands_are_listed_in_the_order_of_their_use(zooselect: CommandLine) -> None:
    text = zooselect("--help").out
    for first, second in zip(("profile", "fit", "evaluate"), ("fit", "evaluate", "export"), strict=True):
        assert text.index(f"│ {first} ") < text.index(f"│ {second} ")


def test_says_its_version(zooselect: CommandLine) -> None:
    assert zooselect("--version").out.startswith("zooselect ")


def test_wrong_usage_is_code_2(zooselect: CommandLine) -> None:
    assert "No such command" in zooselect("fly", code=2).err
    assert "--precision" in zooselect("predict", "b", "i", "--precision", "high", code=2).err
    assert "Missing argument" in zooselect("predict", code=2).err


def chain(zooselect: CommandLine, pictures: Path, *flags: str) -> dict[str, Done]:
    colour_zoo(Path("my-zoo"))
    splits = "fit=0.3,tune=0.1,certify=0.4,test=0.2"
    done = {
        "list": zooselect("zoo", "list", *flags),
        "profile": zooselect("profile", "--data", pictures, "--split", splits, *flags),
        "bench": zooselect("bench", "--images", pictures / "red", "--runs", 20, *flags),
        "fit": zooselect("fit", "--precision", 0.8, "--policy", "cascade", *flags),
        "evaluate": zooselect("evaluate", *flags),
        "export": zooselect("export", *flags),
    }
    done["timed"] = zooselect("evaluate", "--bundle", "my-bundle", "--data", pictures, *flags)
    done["select"] = zooselect("select", "my-bundle", pictures / "green", *flags)
    done["predict"] = zooselect("predict", "my-bundle", pictures, *flags)
    return done


def test_the_whole_chain_in_words(zooselect: CommandLine, pictures: Path) -> None:
    done = chain(zooselect, pictures)
    assert all(name in done["list"].out for name in ("tiny", "small", "full"))
    assert "samples × 3 models in my-profile. Next: zooselect bench my-zoo" in done["profile"].out
    assert "Written to my-profile/latency/this-machine.json" in done["bench"].out
    assert "policy: cascade" in done["fit"].out
    assert re.search(r"certified: precision 0\.8\d* at 95% confidence", done["fit"].out)
    assert "oracle" in done["evaluate"].out
    assert "<html" in Path("my-report.html").read_text("utf-8")
    assert "my-bundle: 3 models" in done["export"].out
    assert "oracle" in done["timed"].out
    assert done["select"].out.splitlines()[0].split() == [
        "image",
        "model",
        "probability",
        "cost",
        "ms",
        "certified",
    ]
    rows = done["predict"].out.splitlines()
    assert len(rows) == 201
    right = sum(line.split("/")[-2] == line.split()[1] for line in rows[1:])
    assert right > 150


def test_the_whole_chain_for_programs(zooselect: CommandLine, pictures: Path) -> None:
    done = chain(zooselect, pictures, "--json")
    assert [card["name"] for card in done["list"].json()] == ["tiny", "small", "full"]
    assert done["profile"].json()["samples"] == 200
    assert set(done["bench"].json()["models"]) == {"tiny", "small", "full"}
    assert done["fit"].json()["bundle"]["default"] == {"kind": "precision", "level": 0.8}
    assert {row["kind"] for row in done["evaluate"].json()["rows"]} == {"single", "ours", "oracle"}
    assert all(row["wall_clock"] for row in done["timed"].json()["rows"] if row["kind"] != "oracle")
    assert done["export"].json()["models"] == ["tiny", "small", "full"]
    for name in ("select", "predict"):
        rows = [Done(0, line, "").json() for line in done[name].out.splitlines()]
        assert all(row["certified"] and row["model"] in ("tiny", "small", "full") for row in rows)
    assert {row["label"] for row in rows} == set(COLOURS)


def test_an_uncertified_precision_is_said_and_can_end_in_code_3(
    zooselect: CommandLine, world: World, pictures: Path
) -> None:
    arguments = (world.bundles["cascade"], pictures / "red", "--precision", 0.999, "--json")
    done = zooselect("predict", *arguments)
    assert "precision 0.999 is not certified with the models tiny, small, full; " in done.err
    assert re.search(r"; 0\.9\d* is the nearest that is\.", done.err)
    assert "The reference model full answers." in done.err
    first = Done(0, done.out.splitlines()[0], "").json()
    assert (first["certified"], first["probability"], first["model"]) == (False, None, "full")
    for command in ("predict", "select"):
        zooselect(command, *arguments, "--require-certified", code=3)
        zooselect(command, *arguments[:2], "--precision", 0.8, "--require-certified")


def test_a_fit_that_certifies_nothing_says_what_can_be(
    zooselect: CommandLine, world: World, tmp_path: Path
) -> None:
    save_table(world.table, tmp_path / "table.json")
    arguments = ("fit", "--zoo", world.zoo.folder, "--profile", world.profile, "--latency", "table.json")
    options = ("--policy", "cascade", "--precision", 0.995)
    done = zooselect(*arguments, *options)
    assert "Not certified with 256 certify samples: precision 0.995" in done.err
    assert "the highest precision that can be certified is 0.9" in done.err
    zooselect(*arguments, *options, "--require-certified", "--json", code=3)
    assert "input: decide" not in done.out


def test_a_fit_can_be_narrowed_to_some_models(zooselect: CommandLine, world: World, tmp_path: Path) -> None:
    save_table(world.table, tmp_path / "table.json")
    arguments = ("fit", "--zoo", world.zoo.folder, "--profile", world.profile, "--latency", "table.json")
    done = zooselect(*arguments, "--policy", "cascade", "--models", "full, tiny", "--json")
    assert {card["name"] for card in done.json()["bundle"]["models"]} == {"full", "tiny"}
    assert "no model 'huge'" in zooselect(*arguments, "--models", "huge", code=1).err


def test_an_input_fit_lists_the_features_it_kept(
    zooselect: CommandLine, world: World, tmp_path: Path
) -> None:
    save_table(world.table, tmp_path / "table.json")
    arguments = ("fit", "--zoo", world.zoo.folder, "--profile", world.profile, "--latency", "table.json")
    done = zooselect(*arguments, "--policy", "input", "--precision", 0.8)
    assert "in cross-validation: input features alone, tiny" in done.out
    assert re.search(r"features kept: \d+ of \d+: \w+", done.out)


CONSTRAINTS = [("--max-drop", 0.05), ("--mean-ms", 0.3), ("--p95-ms", 0.5)]


@pytest.mark.parametrize(("option", "level"), CONSTRAINTS)
def test_a_fit_and_an_answer_can_be_asked_for_a_drop_or_a_budget(
    zooselect: CommandLine, world: World, tmp_path: Path, option: str, level: float
) -> None:
    save_table(world.table, tmp_path / "table.json")
    Image.fromarray(plain_image("blue")).save(tmp_path / "x.png")
    inputs = ("--zoo", world.zoo.folder, "--profile", world.profile, "--latency", "table.json")
    done = zooselect("fit", *inputs, "--policy", "cascade", option, level, "--json")
    kind = option[2:].replace("-", "_")
    assert done.json()["bundle"]["default"] == {"kind": kind, "level": level}
    zooselect("export", "--zoo", world.zoo.folder)
    for command in ("select", "predict"):
        row = zooselect(command, "my-bundle", "x.png", option, level, "--json", "--require-certified").json()
        assert row["certified"]
        again = zooselect(command, "my-bundle", "x.png", "--json", "--require-certified").json()
        assert again["model"] == row["model"]
    both = zooselect("fit", *inputs, option, level, "--precision", 0.9, code=1)
    assert f"expected one constraint, got precision and {kind}" in both.err


def test_an_environment_can_be_named(zooselect: CommandLine, world: World, tmp_path: Path) -> None:
    Image.fromarray(plain_image("blue")).save(tmp_path / "x.png")
    arguments = ("predict", world.bundles["learned"], "x.png", "--precision", 0.7, "--json", "--environment")
    assert zooselect(*arguments, "clear", "--require-certified").json()["certified"]
    unknown = zooselect(*arguments, "fog")
    assert not unknown.json()["certified"]
    assert "small, full in the environment 'fog'; none is. The reference model full answers." in unknown.err


def test_pictures_of_another_environment_are_said_to_differ(
    zooselect: CommandLine, world: World, tmp_path: Path
) -> None:
    for i, name in enumerate(world.data.ids[:300]):
        (tmp_path / world.data.environments[i]).mkdir(exist_ok=True)
        Image.fromarray(world.data.image(i)).save(tmp_path / world.data.environments[i] / f"{name}.png")
    dark = zooselect("predict", world.watched["cascade"], "dark", "--json")
    assert "drift: these images are unlike those that the certificates were made on" in dark.err
    assert "the reference model full answered, uncertified" in dark.err
    assert "drift" not in zooselect("predict", world.watched["cascade"], "clear", "--json").err
    assert "drift" not in zooselect("predict", world.watched["cascade"], "dark", "--no-watch").err


def test_a_fit_for_one_environment_says_which_there_are(zooselect: CommandLine, world: World) -> None:
    inputs = ("--zoo", world.zoo.folder, "--profile", world.profile)
    save_table(world.table, Path("table.json"))
    done = zooselect("fit", *inputs, "--latency", "table.json", "--environment", "fog", code=1)
    assert "It has: clear, dark, noise." in done.err


def test_an_infeasible_budget_names_the_nearest_feasible_one(
    zooselect: CommandLine, world: World, tmp_path: Path
) -> None:
    save_table(world.table, tmp_path / "table.json")
    Image.fromarray(plain_image("blue")).save(tmp_path / "x.png")
    inputs = ("--zoo", world.zoo.folder, "--profile", world.profile, "--latency", "table.json")
    done = zooselect("fit", *inputs, "--policy", "cascade", "--mean-ms", 0.001)
    assert "The nearest that is: mean of at most 0.1 ms." in done.err
    done = zooselect("fit", *inputs, "--policy", "cascade", "--max-bytes", 10, code=1)
    assert "expected a budget that some model fits into, got 10 bytes; the smallest needs" in done.err
    done = zooselect("predict", world.bundles["cascade"], "x.png", "--p95-ms", 0.001)
    assert re.search(
        r"95th percentile of at most 0\.001 ms is not certified .*; 0\.1\d* is the nea", done.err
    )


def test_right_can_mean_top_k_or_agreement(zooselect: CommandLine, world: World, tmp_path: Path) -> None:
    save_table(world.table, tmp_path / "table.json")
    inputs = ("--zoo", world.zoo.folder, "--profile", world.profile, "--latency", "table.json")
    done = zooselect("fit", *inputs, "--policy", "cascade", "--top-k", 2, "--json")
    assert done.json()["bundle"]["calibration"]["top_k"] == 2
    done = zooselect("fit", *inputs, "--policy", "cascade", "--no-labels", "--json")
    assert done.json()["bundle"]["calibration"]["agree_with"] == "full"
    assert "k from 1 to 2, got 3" in zooselect("fit", *inputs, "--top-k", 3, code=1).err


def test_times_of_another_device_or_zoo_ask_for_bench_or_another_table(
    zooselect: CommandLine, world: World, tmp_path: Path
) -> None:
    models = {name: row for name, row in world.table.models.items() if name != "full"}
    save_table(msgspec.structs.replace(world.table, models=models), tmp_path / "table.json")
    inputs = ("--zoo", world.zoo.folder, "--profile", world.profile, "--latency", "table.json")
    done = zooselect("fit", *inputs, code=1)
    assert "model 'full' is not in the latency table of device 'bench-top'" in done.err
    assert "Measure again with 'zooselect bench', or name the right table with --latency" in done.err
    missing = zooselect("fit", *inputs[:-1], "nowhere.json", code=1)
    assert "nowhere.json: expected a LatencyTable record" in missing.err


def test_a_bundle_of_an_earlier_version_says_to_make_it_again(
    zooselect: CommandLine, world: World, tmp_path: Path
) -> None:
    bundle = world.copy_bundle("cascade", tmp_path / "bundle")
    record = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(record | {"schema_version": 1}))
    done = zooselect("predict", "bundle", "x.png", code=1)
    assert "expected schema version 2 or newer, got 1. It was written by an older zooselect" in done.err


def bad_picture(pictures: Path, tmp_path: Path) -> Path:
    shutil.copytree(pictures / "red", tmp_path / "photos" / "red")
    shutil.copytree(pictures / "blue", tmp_path / "photos" / "blue")
    (tmp_path / "photos" / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n truncated")
    return tmp_path / "photos"


def test_an_unreadable_image_is_named_or_left_out_and_counted(
    zooselect: CommandLine, world: World, pictures: Path, tmp_path: Path
) -> None:
    photos = bad_picture(pictures, tmp_path)
    count = len(list(photos.rglob("*.png")))
    done = zooselect("predict", world.bundles["cascade"], photos, code=1)
    assert "broken.png: cannot be read as an image" in done.err
    assert "--skip-bad" in done.err
    done = zooselect("predict", world.bundles["cascade"], photos, "--skip-bad", "--json")
    assert f"1 of {count} images could not be read and were left out." in done.err
    assert len(done.out.splitlines()) == count - 1
    failed = zooselect("profile", "--zoo", world.zoo.folder, "--data", photos, code=1)
    assert "broken.png" in failed.err
    assert "--skip-bad" in failed.err
    skipped = zooselect(
        "profile", "--zoo", world.zoo.folder, "--data", photos, "--skip-bad", "--json", "--out", "other"
    )
    assert skipped.json()["skipped"] == 1
    assert "1 images could not be read and were left out" in skipped.err


def test_errors_are_one_line_on_standard_error_with_code_1(
    zooselect: CommandLine, world: World, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    Image.fromarray(plain_image("red")).save(tmp_path / "red.png")
    bundle = world.bundles["input"]
    cases: list[tuple[tuple[object, ...], str]] = [
        (("predict", "nowhere", "red.png"), "expected a bundle in nowhere, got no bundle.json there"),
        (("predict", bundle, "nowhere.png"), "nowhere.png: cannot be read"),
        (("predict", bundle, "empty"), "expected images in empty, got none. Supported: .bmp"),
        (("predict", bundle, "red.png", "--precision", 1.5), "expected a precision strictly between 0 and 1"),
        (
            ("select", bundle, "red.png", "--precision", "nan"),
            "expected a precision strictly between 0 and 1",
        ),
        (("bench", "nowhere"), "expected a zoo in nowhere"),
        (("bench", world.zoo.folder, "--size", "big"), "expected a size such as 224x224, got 'big'"),
        (("bench", world.zoo.folder, "--size", "0x5"), "expected a size such as 224x224, got '0x5'"),
        (("bench", world.zoo.folder, "--device", "My Phone"), "device: "),
        (("zoo", "list", "--zoo", "nowhere"), "expected a zoo in nowhere"),
        (("profile", "--data", "nowhere", "--zoo", world.zoo.folder), "expected 'digits', a folder of class"),
        (("profile", "--data", "empty", "--zoo", world.zoo.folder), "empty"),
        (("profile", "--data", "digits", "--zoo", world.zoo.folder), "does not know '0'"),
        (("fit", "--zoo", world.zoo.folder), "expected a LatencyTable record"),
        (("evaluate",), "expected a fitted selector in my-selector"),
        (("export",), "expected a fitted selector in my-selector"),
    ]
    for arguments, message in cases:
        done = zooselect(*arguments, code=1)
        assert done.out == ""
        assert done.err.startswith("error: ")
        assert message in done.err
        assert "Traceback" not in done.err


def test_a_second_command_of_a_process_adds_no_commands(zooselect: CommandLine) -> None:
    zooselect("bench", "nowhere", code=1)
    before = len(cli.app.registered_commands), len(cli.app.registered_groups)
    zooselect("bench", "nowhere", code=1)
    assert (len(cli.app.registered_commands), len(cli.app.registered_groups)) == before


def test_timing_a_bundle_needs_the_images(zooselect: CommandLine, world: World) -> None:
    from training.fitting.fitted import save_fit

    save_fit(world.fits["cascade"], Path("my-selector"))
    done = zooselect("evaluate", "--profile", world.profile, "--bundle", world.bundles["cascade"], code=1)
    assert "expected --data with --bundle" in done.err


@pytest.mark.parametrize("text", ["fit=much", "fit", "train=0.5", "fit=0.5,test=0.4"])
def test_wrong_splits_are_refused(zooselect: CommandLine, world: World, pictures: Path, text: str) -> None:
    arguments = ("profile", "--zoo", world.zoo.folder, "--data", pictures, "--split", text)
    assert "expected shares" in zooselect(*arguments, code=1).err


def test_one_image_is_answered_in_one_row(zooselect: CommandLine, world: World, tmp_path: Path) -> None:
    Image.fromarray(plain_image("blue")).save(tmp_path / "x.png")
    done = zooselect("predict", world.bundles["cascade"], "x.png", "--json")
    row = done.json()
    assert (row["image"], row["label"], row["path"], row["certified"]) == ("x.png", "blue", ["tiny"], True)
    assert row["latency_ms"] > 0
    assert row["class_probability"] > 0.5
    assert "x.png  blue" in zooselect("predict", world.bundles["cascade"], "x.png").out


def test_an_interrupted_command_says_that_it_continues(
    zooselect: CommandLine, monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("selector.answering.selector.Selector.load", interrupt)
    done = zooselect("predict", world.bundles["input"], "x.png", code=130)
    assert "interrupted; finished work is kept, the same command continues" in done.err


WITHOUT_EXTRAS = """
import sys
for name in ("torch", "torchvision", "sklearn", "skl2onnx", "onnx", "onnxscript", "pyarrow", "matplotlib",
             "scipy", "jinja2"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv.pop(1))
import selector, zoo
from selector.cli import main
main()
"""


def without_extras(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_EXTRAS, str(ROOT), *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=100)


def test_device_commands_work_without_the_train_extra(world: World, tmp_path: Path) -> None:
    Image.fromarray(plain_image("green")).save(tmp_path / "x.png")
    for bundle in world.bundles.values():
        done = without_extras("predict", bundle, "x.png", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["label"] == "green"
    done = without_extras("bench", world.bundles["input"], "--runs", 20, cwd=tmp_path)
    assert "(features + scores)" in done.stdout
    assert without_extras("--help", cwd=tmp_path).returncode == 0


def test_other_commands_say_which_extra_they_need(world: World, tmp_path: Path) -> None:
    for arguments in (("profile", "--data", "digits", "--zoo", world.zoo.folder), ("demo",), ("export",)):
        done = without_extras(*arguments, cwd=tmp_path)
        assert done.returncode == 1
        assert "pip install 'zooselect[train]'" in done.stderr
        assert "Traceback" not in done.stderr


def test_numbers_of_other_types_are_shown_plainly() -> None:
    assert answer._text(None) == "–"
    assert answer._text(np.float64(0.5)) == "0.500"
    assert answer._text(["a", "b"]) == "a → b"
    answer._show([], as_json=False)
