"""Claims about relative paths: what is taken stays inside its folder on every system."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.types import check_relative

HOSTILE = [
    *("", ".", "./", "/", "/etc/passwd", "//server/share", "..", "../up", "a/../../b", "a/..", "a/../b"),
    *("C:x", "C:/x", "file:stream", "a\\b", "..\\up", "\\\\server\\share"),
    *("nul\x00", "line\n", "a\u202eb", "\ud800"),
    *("a.", "a ", "a./b", "a /b", "...", "a/... "),
]


@pytest.mark.parametrize("file", HOSTILE)
def test_what_may_lead_out_or_elsewhere_is_refused(file: str) -> None:
    with pytest.raises(ValueError, match="expected a relative path that stays inside its folder, got"):
        check_relative(file)


@pytest.mark.parametrize("file", ["a", "models/tiny-0.onnx", "./weights.bin", ".hidden", "a b/c..d", "größe"])
def test_what_stays_inside_is_taken(file: str) -> None:
    check_relative(file)


@given(st.text(alphabet=st.sampled_from("ab./\\: \x00"), max_size=12))
def test_whatever_is_taken_stays_inside(file: str) -> None:
    try:
        check_relative(file)
    except ValueError:
        return
    assert (Path("/folder") / file).resolve().is_relative_to("/folder")
    for path in (PurePosixPath(file), PureWindowsPath(file)):
        assert not path.is_absolute()
        assert not path.drive
        assert ".." not in path.parts
