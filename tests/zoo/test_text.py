"""Claims about text from outside: it is shown, and steers nothing."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import FetchError, ModelNotFoundError, ZooError
from zoo.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("photo.jpg", "photo.jpg"),
        ("Grüße, 猫 → 90 %\u00a0", "Grüße, 猫 → 90 %\u00a0"),
        ("👩\u200d🔬 می\u200cخواهم", "👩\u200d🔬 می\u200cخواهم"),
        ("a\x1b[31mred\x07", r"a\u001b[31mred\u0007"),
        ("two\nlines\r\x7f\x9b", r"two\u000alines\u000d\u007f\u009b"),
        ("\u202egpj.exe\u2066", r"\u202egpj.exe\u2066"),
        ("\udcff\U000e0041", r"\udcff\udb40\udc41"),
    ],
)
def test_control_characters_are_shown_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_what_is_shown_has_no_control_characters_and_is_right_in_json(text: str) -> None:
    shown = printable(json.dumps(text, ensure_ascii=False))
    assert not {unicodedata.category(letter) for letter in shown} & {"Cc", "Cs"}
    assert json.loads(shown) == text


def test_errors_repeat_nothing_that_steers() -> None:
    for error in (ZooError("\x1b[2J"), ModelNotFoundError("\x1b[2J"), FetchError("0", "u", "\x1b[2J", "Go.")):
        assert "\x1b" not in str(error)
        assert r"\u001b[2J" in str(error)
    assert str(ZooError()) == ""
