"""Claims about plain-text tables: columns line up, cells may have several lines, rows are complete."""

from __future__ import annotations

import pytest

from selector.commands.tables import table


def test_text_is_to_the_left_and_numbers_are_to_the_right_under_a_rule() -> None:
    assert table(["model", "MB"], [["tiny", "0.1"], ["small-int8", "12.5"]]).splitlines() == [
        "model         MB",
        "────────────────",
        "tiny         0.1",
        "small-int8  12.5",
    ]


def test_every_column_can_be_aligned_and_no_line_ends_with_blanks() -> None:
    lines = table(["a", "b", ""], [["x", "longer", ""], ["y", "z", "why"]], "rll").splitlines()
    assert lines == ["a  b", "──────────────", "x  longer", "y  z       why"]


def test_a_cell_may_have_several_lines() -> None:
    lines = table(["name", "n"], [["one\ntwo", "1"], ["three", "2"]]).splitlines()
    assert lines[2:] == ["one    1", "two", "three  2"]


def test_without_rows_there_are_heads_and_a_rule() -> None:
    assert table(["name", "n"], []) == "name  n\n───────"


@pytest.mark.parametrize(("row", "align"), [(["x"], ""), (["x", "1", "2"], ""), (["x", "1"], "l")])
def test_a_row_or_an_alignment_of_another_length_is_refused(row: list[str], align: str) -> None:
    with pytest.raises(ValueError, match="zip"):
        table(["name", "n"], [row], align)
