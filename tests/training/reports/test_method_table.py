"""Claims about the table of methods: it lines up, fits its width, and says who answers."""

from __future__ import annotations

import dataclasses
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.evaluations import EMPTY, EVALUATION, method
from training.reports.method_table import WIDTH, percent, table


def test_the_table_lines_up_and_marks_what_was_not_timed() -> None:
    lines = table(EVALUATION).splitlines()
    assert lines[0].split("  ")[0] == "method"
    assert "95 % ✓" in lines[6]
    assert "tiny 61 % · small 30 % · full 9 %" in lines[6]
    assert "99 % ✗" in lines[7]
    assert "~0.050" in lines[8]
    assert lines[-1].startswith("~ added up")
    assert {line.index(".", 30) for line in lines[2:9]} == {lines[2].index(".", 30)}


def test_the_table_names_the_models_that_answer_most_and_adds_up_the_rest() -> None:
    shares = {"a": 0.3, "b": 0.02, "c": 0.25, "d": 0.2, "e": 0.2, "f": 0.03}
    text = table(dataclasses.replace(EMPTY, rows=[method("ours", "ours", 0.9, 1.0, shares=shares)]))
    assert "a 30 % · c 25 % · d 20 % · e 20 %" in text
    assert "others 5 %" in text


@settings(max_examples=60)
@given(
    names=st.lists(
        st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True), min_size=1, max_size=12, unique=True
    )
)
def test_the_table_fits_its_width(names: list[str]) -> None:
    shares = dict.fromkeys(names, 1 / len(names))
    rows = [method(name, "single", 0.9, 1.0) for name in names]
    rows.append(method("ours", "ours", 0.955, 123.4, precision=0.955, certified=True, shares=shares))
    text = table(dataclasses.replace(EVALUATION, rows=rows))
    assert max(map(len, text.splitlines())) <= WIDTH
    squeezed = re.sub(r"\s", "", text)
    assert all(name in squeezed or len(name) > 20 for name in names)  # a longer one may take two lines


def test_names_are_not_broken_at_their_hyphens() -> None:
    shares = {"tiny-int8": 0.4, "small-int8": 0.3, "medium-int8": 0.2, "full-int8": 0.1}
    text = table(dataclasses.replace(EMPTY, rows=[method("oracle", "oracle", 0.9, 1.0, shares=shares)]))
    assert len(text.splitlines()) > 3
    assert all(name in text for name in shares)


def test_shares_are_never_rounded_to_all_or_nothing() -> None:
    assert [percent(share) for share in (0, 0.0001, 0.5, 0.9999, 1)] == [
        "0.0 %",
        "< 0.1 %",
        "50.0 %",
        "> 99.9 %",
        "100.0 %",
    ]
    assert percent(0.004, 0) == "< 1 %"
