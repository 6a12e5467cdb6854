"""Claims about files of class names: names as they are written, and faults named with their lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.commands.adding.class_names import read_class_names
from zoo.errors import DataError


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfring\nnut\n", b"ring\r\n\r\n  nut\r\n", b"ring\nnut"])
def test_names_hold_no_mark_and_no_blanks(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    assert read_class_names(tmp_path / "names.txt") == ("ring", "nut")


def test_names_that_stand_twice_are_told_with_their_lines(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(1000)]
    names[700], names[900], names[901] = "class 3", "class 3", "class 4"
    (tmp_path / "names.txt").write_text("\n" + "\n".join(names))
    with pytest.raises(DataError, match=r"'class 3' in the lines 5, 702, 902; 'class 4' in the") as caught:
        read_class_names(tmp_path / "names.txt")
    assert len(str(caught.value)) < 400


def test_many_names_that_stand_twice_are_counted(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join([f"class {i}" for i in range(500)] * 2))
    with pytest.raises(DataError, match="and 497 more names"):
        read_class_names(tmp_path / "names.txt")


@pytest.mark.parametrize(
    ("content", "why"), [(b"ring", "got 1"), (b"", "got 0"), ("ring\nnut".encode("utf-16"), "UTF-8")]
)
def test_refuses_a_file_that_is_no_list_of_names(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(DataError, match=why):
        read_class_names(tmp_path / "names.txt")
