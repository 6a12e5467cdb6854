"""Claims about what options are made into: names and numbers, blanks and empty parts aside."""

from __future__ import annotations

import pytest

from selector.commands.options import names_in, numbers_in
from zoo.errors import DataError


def wrong(part: str) -> DataError:
    return DataError(f"got {part!r}")


def test_names_are_separated_by_commas() -> None:
    assert names_in("tiny, full,,") == ["tiny", "full"]
    assert names_in("") == []


def test_numbers_are_given_by_name() -> None:
    assert numbers_in("root=365, targets=1.5", ("root", "targets"), wrong) == {"root": 365.0, "targets": 1.5}
    assert numbers_in("", ("root",), wrong) == {}


@pytest.mark.parametrize("text", ["root", "root=soon", "branch=1", "root=1,=2"])
def test_what_is_not_of_that_form_is_named(text: str) -> None:
    with pytest.raises(DataError, match=f"got '{text.split(',')[-1]}'"):
        numbers_in(text, ("root",), wrong)
