"""Claims about a zoo in a folder: what was added is there, whatever happens in between."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.small_models import COLOURS, add_colours, build_onnx, plain_image
from zoo import TrainedOn, Zoo, ZooError
from zoo.errors import CardError, DigestError, ModelError, ModelNotFoundError, SchemaVersionError
from zoo.models.card import LOCAL_VERSION, SCHEMA_VERSION, Adapted
from zoo.models.zoo import MANIFEST_FILE

PREVIOUS = ("tiny", "small", "full")

# Adds a model, and dies without notice at the file system operation under the zoo whose number it is given.
ADD_AND_DIE = """
import os, signal, sys
from pathlib import Path
from typing import Any
from zoo import Zoo
folder, content, deadly = sys.argv[1], Path(sys.argv[2]).read_bytes(), int(sys.argv[3])
zoo, seen = Zoo.open(folder), 0
def hook(event, args):
    global seen
    if event in {"open", "os.rename", "os.remove", "os.chmod", "os.scandir"} and folder in str(args[0]):
        seen += 1
        if seen == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
zoo.add(sys.argv[4], content, classes=("red", "green", "blue"), resolution=(8, 8), parameters=12, macs=9,
    force=True)
"""


def answers(zoo: Zoo) -> dict[str, list[str]]:
    images = np.stack([plain_image(colour) for colour in COLOURS])
    return {name: [COLOURS[k] for k in zoo.model(name).logits(images).argmax(axis=1)] for name in zoo.names}


def model_files(zoo: Zoo) -> set[str]:
    return {path.relative_to(zoo.folder).as_posix() for path in zoo.folder.glob("models/*.onnx")}


def test_opens_what_was_added_in_its_order(small_zoo: Zoo) -> None:
    zoo = Zoo.open(small_zoo.folder)
    assert zoo.names == PREVIOUS
    assert zoo.manifest == small_zoo.manifest
    assert answers(zoo)["full"] == list(COLOURS)
    assert answers(zoo)["tiny"] == ["red"] * 3


def test_create_makes_a_zoo_and_refuses_a_folder_that_is_in_use(small_zoo: Zoo, tmp_path: Path) -> None:
    assert Zoo.create(tmp_path / "other").names == Zoo.open(tmp_path / "other").names == ()
    for folder in (small_zoo.folder, tmp_path / "other"):
        with pytest.raises(CardError, match=r"got .*, which is there. Open it: Zoo.open"):
            Zoo.create(folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    for folder in (tmp_path / "full", tmp_path / "full" / "thesis.txt"):
        with pytest.raises(CardError, match=r"expected a new or empty folder for a zoo.*Name another folder"):
            Zoo.create(folder)
    assert Zoo.open(small_zoo.folder).names == PREVIOUS


def test_open_or_create_opens_the_zoo_that_is_there(small_zoo: Zoo, tmp_path: Path) -> None:
    assert Zoo.open_or_create(small_zoo.folder).names == PREVIOUS
    assert Zoo.open_or_create(tmp_path / "other").names == ()
    assert not (tmp_path / "other").exists()


def test_model_files_of_others_stay_in_the_folder(small_zoo: Zoo) -> None:
    (small_zoo.folder / "models" / "yolo.onnx").write_bytes(b"a model of somebody")
    small_zoo.remove("tiny")
    assert (small_zoo.folder / "models" / "yolo.onnx").exists()


def test_a_folder_without_a_manifest_is_not_a_zoo(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"expected a zoo in .*, got no zoo\.json there\. Make one"):
        Zoo.open(tmp_path)


def test_a_zoo_of_a_newer_schema_is_refused_and_left_alone(small_zoo: Zoo) -> None:
    path = small_zoo.folder / MANIFEST_FILE
    now, later = (f'"schema_version": {version}' for version in (LOCAL_VERSION, SCHEMA_VERSION + 1))
    newer = path.read_text().replace(now, later)
    path.write_text(newer)
    for opening in (Zoo.open, Zoo.open_or_create):
        with pytest.raises(SchemaVersionError, match="newer zooselect"):
            opening(small_zoo.folder)
    assert path.read_text() == newer


def test_all_facts_of_a_card_are_kept(small_zoo: Zoo) -> None:
    trained_on = TrainedOn(data_sha256="a" * 64, share=0.5, seed=7)
    card = small_zoo.add(
        "tiny-int8",
        build_onnx(),
        classes=COLOURS,
        resolution=(8, 6),
        parameters=12,
        macs=9,
        compression="int8",
        parent="tiny",
        source="made for a test",
        trained_on=trained_on,
    )
    assert Zoo.open(small_zoo.folder).card("tiny-int8") == card
    assert (card.trained_on, card.parent, card.resolution) == (trained_on, "tiny", (8, 6))


def test_replacing_a_model_removes_its_old_file(small_zoo: Zoo) -> None:
    add_colours(small_zoo, "tiny", build_onnx(bias=(0.0, 9.0, 0.0)))
    assert small_zoo.names == ("small", "full", "tiny")
    assert answers(Zoo.open(small_zoo.folder))["tiny"] == ["green"] * 3
    assert model_files(small_zoo) == {card.file for card in small_zoo.cards}


def test_adding_the_same_bytes_again_changes_nothing_but_the_order(small_zoo: Zoo) -> None:
    before = small_zoo.card("tiny")
    add_colours(small_zoo, "tiny", build_onnx(bias=(9.0, 0.0, 0.0)))
    assert small_zoo.card("tiny") == before
    assert set(answers(small_zoo)) == set(PREVIOUS)


def test_a_different_model_of_the_same_name_is_refused_and_the_same_one_is_not(small_zoo: Zoo) -> None:
    facts = {"classes": COLOURS, "resolution": (8, 8), "parameters": 12, "macs": 9}
    before = (small_zoo.folder / MANIFEST_FILE).read_bytes(), model_files(small_zoo)
    with pytest.raises(CardError, match=r"holds a different model 'tiny' already: .*--name .*--force"):
        small_zoo.add("tiny", build_onnx(), **facts)
    with pytest.raises(CardError, match="different model 'tiny'"):
        small_zoo.add("tiny", build_onnx(bias=(9.0, 0.0, 0.0)), **(facts | {"classes": COLOURS[::-1]}))
    assert ((small_zoo.folder / MANIFEST_FILE).read_bytes(), model_files(small_zoo)) == before
    small_zoo.add("tiny", build_onnx(bias=(9.0, 0.0, 0.0)), **facts)
    small_zoo.add("tiny", build_onnx(), force=True, **facts)
    assert answers(small_zoo)["tiny"] == list(COLOURS)


def test_a_new_name_is_known_to_the_models_that_were_made_from_it(small_zoo: Zoo) -> None:
    facts = {"classes": COLOURS, "resolution": (8, 8), "parameters": 12, "macs": 9}
    adapted = Adapted(
        environment="dark",
        parent="full",
        parent_sha256=small_zoo.card("full").sha256,
        changed=("head",),
        changed_bytes=9,
        samples=9,
        labels="full",
    )
    small_zoo.add("child", build_onnx(noise=0.1), parent="full", adapted=adapted, **facts)
    before = answers(small_zoo)
    small_zoo.rename("full", "whole")
    zoo = Zoo.open(small_zoo.folder)
    child = zoo.card("child")
    assert child.adapted is not None
    assert (zoo.names, child.parent) == (("tiny", "small", "whole", "child"), "whole")
    assert (child.adapted.parent, child.adapted.labels, zoo.children("whole")) == (
        "whole",
        "whole",
        ("child",),
    )
    assert answers(zoo)["whole"] == before["full"]
    assert model_files(zoo) == {card.file for card in zoo.cards}


def test_refuses_a_new_name_that_is_none_or_taken(small_zoo: Zoo) -> None:
    with pytest.raises(CardError, match="no model of the zoo has, got 'small'"):
        small_zoo.rename("tiny", "small")
    with pytest.raises(CardError, match=r"--name my-net$"):
        small_zoo.rename("tiny", "My net")
    with pytest.raises(ModelNotFoundError):
        small_zoo.rename("none", "other")
    assert Zoo.open(small_zoo.folder).names == PREVIOUS


def test_removes_a_model_and_its_file(small_zoo: Zoo) -> None:
    small_zoo.remove("small")
    assert Zoo.open(small_zoo.folder).names == ("tiny", "full")
    assert len(model_files(small_zoo)) == 2
    with pytest.raises(ModelNotFoundError, match=r"no model 'small'.*It holds: tiny, full"):
        small_zoo.remove("small")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Bad Name"}, r"cannot be added: .*--name bad-name$"),
        ({"resolution": (0, 8)}, r"`\$\.resolution\[0\]`"),
        ({"classes": ("red", "red", "blue")}, "classes must be distinct"),
        ({"parameters": -1}, r"`\$\.parameters`"),
        ({"name": "../tiny"}, r"cannot be added.*--name tiny$"),
    ],
)
def test_refuses_bad_facts_and_writes_nothing(small_zoo: Zoo, change: dict[str, Any], message: str) -> None:
    facts = {"name": "new", "classes": COLOURS, "resolution": (8, 8), "parameters": 1, "macs": 1, **change}
    before = sorted(small_zoo.folder.rglob("*"))
    with pytest.raises(CardError, match=message):
        small_zoo.add(facts.pop("name"), build_onnx(), **facts)
    assert sorted(small_zoo.folder.rglob("*")) == before


def test_refuses_a_graph_that_does_not_fit_and_writes_nothing(small_zoo: Zoo) -> None:
    before = sorted(small_zoo.folder.rglob("*"))
    with pytest.raises(ModelError, match=r"expected outputs logits float32 \[N, 2\]"):
        add_colours(small_zoo, "new", build_onnx(), classes=("red", "green"))
    assert sorted(small_zoo.folder.rglob("*")) == before
    assert small_zoo.names == PREVIOUS


def test_refuses_a_model_whose_file_changed(small_zoo: Zoo) -> None:
    path = small_zoo.folder / small_zoo.card("tiny").file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DigestError, match=r"expected SHA-256 .* The file has changed"):
        small_zoo.model("tiny")


def test_refuses_a_model_whose_file_was_truncated_or_lost(small_zoo: Zoo) -> None:
    path = small_zoo.folder / small_zoo.card("tiny").file
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DigestError, match="truncated or replaced"):
        small_zoo.model("tiny")
    path.unlink()
    with pytest.raises(DigestError, match="No such file"):
        small_zoo.model("tiny")


def fail_on_file(part: str, code: int) -> Callable[..., int]:
    """A `Path.write_bytes` that writes half and fails for the files whose name holds `part`."""
    real = Path.write_bytes

    def write(self: Path, content: bytes) -> int:
        if part in self.name:
            real(self, content[: len(content) // 2])
            raise OSError(code, os.strerror(code))
        return real(self, content)

    return write


@pytest.mark.parametrize("part", ["new-", MANIFEST_FILE])
def test_a_full_disk_leaves_the_previous_zoo(
    small_zoo: Zoo, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail_on_file(part, errno.ENOSPC))
        with pytest.raises(ZooError, match="No space left on device"):
            add_colours(small_zoo, "new", build_onnx())
    assert small_zoo.names == Zoo.open(small_zoo.folder).names == PREVIOUS
    assert not list(small_zoo.folder.rglob("*.tmp"))
    add_colours(small_zoo, "new", build_onnx())
    assert answers(Zoo.open(small_zoo.folder))["new"] == list(COLOURS)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("name", ["new", "tiny"])
def test_a_kill_at_any_moment_leaves_a_zoo_that_works(small_zoo: Zoo, tmp_path: Path, name: str) -> None:
    content = tmp_path / "new.onnx"
    content.write_bytes(build_onnx(bias=(0.0, 0.0, 9.0)))
    for deadly in range(1, 60):
        command = [sys.executable, "-c", ADD_AND_DIE, str(small_zoo.folder), str(content), str(deadly), name]
        code = subprocess.run(command, timeout=100).returncode
        zoo = Zoo.open(small_zoo.folder)
        assert set(PREVIOUS) <= set(zoo.names) <= {*PREVIOUS, name}
        found = answers(zoo)
        assert found["full"] == list(COLOURS)
        assert found["tiny"] in (["red"] * 3, ["blue"] * 3)
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert deadly > 5, "the test should have interrupted several operations"
    assert found[name] == ["blue"] * 3
    assert model_files(zoo) == {card.file for card in zoo.cards}
