"""Claims about the chain of commands: its steps go through files, in words and for programs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import onnx

from tests.support.command_line import CommandLine, Done
from tests.support.small_models import COLOURS
from tests.support.world import CANDIDATES, colour_zoo, steady


def chain(
    zooselect: CommandLine, pictures: Path, *flags: str, table: str = "my-profile/latency/this-machine.json"
) -> dict[str, Done]:
    splits = "fit=0.3,tune=0.1,certify=0.4,test=0.2"
    done = {
        "list": zooselect("zoo", "list", *flags),
        "profile": zooselect("profile", "--data", pictures, "--split", splits, *flags),
        "bench": zooselect("bench", "--images", pictures / "red", "--runs", 20, "--out", table, *flags),
        "fit": zooselect("fit", "--precision", 0.8, "--policy", "cascade", *flags),
        "evaluate": zooselect("evaluate", *flags),
        "export": zooselect("export", *flags),
    }
    done["timed"] = zooselect("evaluate", "--bundle", "my-bundle", "--data", pictures, *flags)
    done["select"] = zooselect("select", "my-bundle", pictures / "green", *flags)
    done["predict"] = zooselect("predict", "my-bundle", pictures, *flags)
    return done


def test_the_whole_chain_in_words_and_for_programs(zooselect: CommandLine, pictures: Path) -> None:
    colour_zoo(Path("my-zoo"))
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
        "reason",
    ]
    rows = done["predict"].out.splitlines()
    assert len(rows) == 202
    right = sum(line.split("/")[-2] == line.split()[1] for line in rows[2:])
    assert right > 150
    done = chain(zooselect, pictures, "--json", table="another.json")
    assert [card["name"] for card in done["list"].json()] == ["tiny", "small", "full"]
    assert done["profile"].json()["samples"] == 200
    assert set(done["bench"].json()["models"]) == {"tiny", "small", "full"}
    assert done["fit"].json()["bundle"]["default"] == {"kind": "precision", "level": 0.8}
    assert {row["kind"] for row in done["evaluate"].json()["rows"]} == {"single", "ours", "oracle"}
    assert all(row["wall_clock"] for row in done["timed"].json()["rows"] if row["kind"] != "oracle")
    assert done["export"].json()["models"] == ["tiny", "small", "full"]
    for name in ("select", "predict"):
        found = [Done(0, line, "").json() for line in done[name].out.splitlines()]
        assert all(row["certified"] and row["model"] in ("tiny", "small", "full") for row in found)
    assert {row["label"] for row in found} == set(COLOURS)


def hints(done: Done) -> list[list[str]]:
    """The commands after ``Next:``, as a shell takes them."""
    said = re.findall(r"(?:Next: |, then )(zooselect .*?)(?=, then |$)", done.out, re.MULTILINE)
    assert said, done.out
    return [shlex.split(command)[1:] for command in said]


def test_every_hint_of_the_chain_runs_as_it_is_printed(zooselect: CommandLine, pictures: Path) -> None:
    """All folders have names that are not the usual ones, with spaces in them."""
    colour_zoo(Path("a zoo"))
    splits = "fit=0.3,tune=0.1,certify=0.4,test=0.2"
    compressed = zooselect("zoo", "compress", "full", "--data", pictures, "--share", 1, "--zoo", "a zoo")
    assert "full-int8" in zooselect(*hints(compressed)[0]).out
    zooselect("zoo", "remove", "full-int8", "--zoo", "a zoo")
    common = ("--data", pictures, "--split", splits, "--zoo", "a zoo")
    bench, fit = hints(zooselect("profile", *common, "--out", "a profile"))
    assert [fit] == hints(zooselect(*bench))
    with steady(CANDIDATES["cascade"]):
        zooselect(*fit)
        missed = zooselect(*fit, "--precision", 0.999, "--out", "a fit").err
        (nearest,) = re.findall(r"To have the nearest: (zooselect .*)\.", missed)
        ((keep, ask),) = re.findall(r"was written to a fit: zooselect (.*), then zooselect (.*)", missed)
        zooselect(*shlex.split(keep))
        certain = shlex.split(ask.replace("IMAGE", shlex.quote(str(next((pictures / "red").iterdir())))))
        assert zooselect(*certain, "--require-certified", "--json").json()["certified"]
        evaluate, export = hints(zooselect(*shlex.split(nearest)[1:]))
    (again,) = hints(zooselect(*evaluate))
    assert again == export == ["export", "--fit", "a fit", "--zoo", "a zoo"]
    (predict,) = hints(zooselect(*export, "--out", "a bundle"))
    image = next((pictures / "red").iterdir())
    assert predict[-1] == "IMAGE"
    assert "red" in zooselect(*predict[:-1], image).out


def test_the_hints_after_training_and_adapting_run(zooselect: CommandLine, pictures: Path) -> None:
    train = ("zoo", "train", "--data", pictures, "--sizes", "tiny", "--epochs", 1)
    (profile,) = hints(zooselect(*train, "--seed", 3, "--zoo", "a zoo"))
    assert zooselect(*profile, "--json").json()["splits"]["train"] == 0.4
    done = zooselect(*train, "--share", 1, "--zoo", "whole")
    assert "trained on all of these images" in done.out
    assert "tiny" in zooselect(*hints(done)[0]).out
    office = ("--data", pictures, "--environment", "office", "--share", 1, "--epochs", 1, "--keep")
    adapted = zooselect("zoo", "adapt", "tiny", *office, "--zoo", "whole")
    assert "tiny, adapted to office" in zooselect(*hints(adapted)[0]).out


def sees_blue_green_red(path: Path) -> None:
    """A network whose outputs are the means of the channels, for images with blue first."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["m"]), helper.make_node("Flatten", ["m"], ["y"])]
    images = helper.make_tensor_value_info("x", kind, ["n", 3, 12, 12])
    graph = helper.make_graph(nodes, "g", [images], [helper.make_tensor_value_info("y", kind, ["n", 3])])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(made.SerializeToString())


def test_the_hints_after_adding_a_model_run(zooselect: CommandLine, pictures: Path) -> None:
    sees_blue_green_red(Path("a net.onnx"))
    Path("some names.txt").write_text("blue\ngreen\nred\n", "utf-8")
    add = ("zoo", "add", "--onnx", "a net.onnx", "--classes", "some names.txt", "--size", 12, "--name", "net")
    wrongly = zooselect(*add, "--zoo", "a zoo", "--check", pictures)
    assert "net" in zooselect(*hints(wrongly)[0]).out
    (options,) = re.findall(r"Add it again with (--.*) and --force\.", wrongly.err)
    rightly = zooselect(*add, "--zoo", "a zoo", "--check", pictures, *shlex.split(options), "--force")
    shares = [float(re.findall(r"net: right on ([\d.]+)%", done.out)[0]) for done in (wrongly, rightly)]
    assert shares[0] < 60 < 95 < shares[1]
    assert "may have been added wrongly" not in rightly.err
