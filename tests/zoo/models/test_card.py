"""Claims about model cards and the manifest."""

from __future__ import annotations

import copy
import json
import string
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo import Manifest, ModelCard
from zoo.errors import CardError, ClassMismatchError, ModelNotFoundError, SchemaVersionError
from zoo.files import decode_record, encode_record
from zoo.models.card import SCHEMA_VERSION, check_same_classes, manifest_json_schema, match_classes

CARD: dict[str, Any] = {
    "name": "tiny",
    "classes": ["cat", "dog"],
    "resolution": [16, 16],
    "file": "models/tiny.onnx",
    "sha256": "0" * 64,
    "size_bytes": 100,
    "parameters": 10,
    "macs": 20,
    "trained_on": {"data_sha256": "1" * 64, "share": 0.6, "seed": 0},
}
MANIFEST: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "models": [CARD, {**CARD, "name": "full"}]}


def decode(value: Any) -> Manifest:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return decode_record(content, Manifest, name="zoo.json", schema_version=SCHEMA_VERSION)


def with_field(field: str, value: Any) -> dict[str, Any]:
    return {**MANIFEST, "models": [{**CARD, field: value}]}


def test_survives_a_round_trip_with_equal_bytes() -> None:
    manifest = decode(MANIFEST)
    again = decode(encode_record(manifest))
    assert again == manifest
    assert encode_record(again) == encode_record(manifest)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sha256", "abc"),
        ("sha256", "G" * 64),
        ("sha256", "0" * 64 + "\n"),
        ("name", "Tiny"),
        ("name", "tiny\n"),
        ("name", "-tiny"),
        ("name", "a" * 65),
        ("size_bytes", 0),
        ("size_bytes", "100"),
        ("parameters", -1),
        ("macs", 1.5),
        ("compression", "zip"),
        ("parent", "../full"),
    ],
)
def test_names_the_exact_path_of_a_bad_field(field: str, value: Any) -> None:
    with pytest.raises(CardError, match=rf"zoo\.json.* `\$\.models\[0\]\.{field}`"):
        decode(with_field(field, value))


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("classes", ["cat"], r"\.classes"),
        ("classes", ["cat", 1], r"\.classes\[1\]"),
        ("resolution", [16], r"\.resolution"),
        ("resolution", [16, 0], r"\.resolution\[1\]"),
        ("trained_on", {"data_sha256": "1" * 64, "share": 1.5, "seed": 0}, r"\.trained_on\.share"),
        ("trained_on", {"data_sha256": "1" * 64, "share": 0.5}, r"\.trained_on"),
    ],
)
def test_names_the_exact_path_inside_a_field(field: str, value: Any, path: str) -> None:
    with pytest.raises(CardError, match=rf"`\$\.models\[0\]{path}`"):
        decode(with_field(field, value))


@pytest.mark.parametrize(
    "field", [name for name in CARD if name != "trained_on"] + ["schema_version", "models"]
)
def test_names_a_missing_field(field: str) -> None:
    broken = copy.deepcopy(MANIFEST)
    (broken["models"][0] if field in CARD else broken).pop(field)
    with pytest.raises(CardError, match=f"missing required field `{field}`"):
        decode(broken)


def test_names_an_unknown_field() -> None:
    with pytest.raises(CardError, match="unknown field `speed`"):
        decode(with_field("speed", 1))
    with pytest.raises(CardError, match="unknown field `author`"):
        decode({**MANIFEST, "author": "me"})


@pytest.mark.parametrize(
    "file",
    [
        "/etc/passwd",
        "../secret.onnx",
        "models/../../secret.onnx",
        "models\\tiny.onnx",
        "C:/models/tiny.onnx",
        "c:tiny.onnx",
        "",
        ".",
        "models/tiny\x00.onnx",
        "models/tiny\n.onnx",
    ],
)
def test_refuses_a_file_that_is_not_a_path_inside_the_zoo(file: str) -> None:
    with pytest.raises(CardError, match=r"relative path that stays inside.*`\$\.models\[0\]`"):
        decode(with_field("file", file))


def test_refuses_a_name_that_occurs_twice() -> None:
    with pytest.raises(CardError, match="distinct, got twice: tiny"):
        decode({**MANIFEST, "models": [CARD, CARD]})


def test_refuses_a_class_that_occurs_twice() -> None:
    with pytest.raises(CardError, match="classes must be distinct, got twice: 'cat'"):
        decode(with_field("classes", ["cat", "cat"]))


def test_refuses_a_newer_schema_before_it_looks_at_the_fields() -> None:
    newer = {"schema_version": SCHEMA_VERSION + 1, "networks": "in a new form"}
    with pytest.raises(SchemaVersionError, match=rf"schema version {SCHEMA_VERSION} or older, got .*upgrade"):
        decode(newer)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"text"', b"[" * 100_000])
def test_refuses_what_is_not_a_json_object(content: bytes) -> None:
    with pytest.raises(CardError, match=r"zoo\.json: not a valid Manifest"):
        decode(content)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=70)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner), max_leaves=6
)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A valid manifest in which one to three places were replaced, removed or added."""
    value = copy.deepcopy(MANIFEST)
    for _ in range(draw(st.integers(1, 3))):
        place: Any = value
        while True:
            key = draw(st.sampled_from(range(len(place)) if isinstance(place, list) else sorted(place)))
            if not isinstance(place[key], dict | list) or not place[key] or draw(st.booleans()):
                break
            place = place[key]
        action = draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "replace" or len(place) == 1:
            place[key] = draw(VALUES)
        elif action == "remove":
            del place[key]
        elif isinstance(place, dict):
            place[draw(st.text(max_size=8))] = draw(VALUES)
        else:
            place.append(draw(VALUES))
    return value


@given(mutated())
def test_any_mutation_is_a_valid_manifest_or_a_card_error(value: dict[str, Any]) -> None:
    try:
        manifest = decode(value)
    except CardError:
        return
    assert decode(encode_record(manifest)) == manifest


@given(st.binary(max_size=30), st.integers(0, 400), st.integers(0, 30))
def test_any_damaged_bytes_are_a_valid_manifest_or_a_card_error(junk: bytes, start: int, cut: int) -> None:
    content = encode_record(decode(MANIFEST))
    try:
        decode(content[:start] + junk + content[start + cut :])
    except CardError:
        return


@given(st.lists(st.sampled_from(string.ascii_lowercase), min_size=1, unique=True), st.randoms())
def test_classes_are_matched_by_name(names: list[str], random: Any) -> None:
    shuffled = random.sample(names, len(names))
    found = match_classes(tuple(names), tuple(shuffled), model="tiny")
    assert [shuffled[i] for i in found] == names


def test_lists_the_class_names_that_do_not_match() -> None:
    with pytest.raises(ClassMismatchError, match=r"does not know 'cow' of.*does not have: 'dog', 'owl'"):
        match_classes(("cat", "cow"), ("cat", "dog", "owl"), model="tiny")


def test_shortens_a_long_list_of_names() -> None:
    with pytest.raises(ClassMismatchError, match="'g', 'h' and 18 more"):
        match_classes(tuple(string.ascii_lowercase), ("0", "1"), model="tiny")


def test_models_of_one_zoo_share_their_classes_in_any_order() -> None:
    one = decode(with_field("classes", ["cat", "dog"])).card("tiny")
    other = decode(with_field("classes", ["dog", "cat"])).card("tiny")
    assert check_same_classes((one, other)) == ("cat", "dog")


def test_refuses_models_of_different_classes() -> None:
    one = decode(MANIFEST).card("tiny")
    other = msgspec.structs.replace(one, name="other", classes=("cat", "owl", "dog"))
    with pytest.raises(ClassMismatchError, match="only 'tiny': none; only 'other': 'owl'"):
        check_same_classes((one, other))
    with pytest.raises(CardError, match="empty zoo"):
        check_same_classes(())


def test_an_unknown_model_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        decode(MANIFEST).card("huge")
    assert str(caught.value) == "no model 'huge' in this zoo. It holds: tiny, full."
    assert str(ModelNotFoundError()) == ""


def test_json_schema_names_every_field_of_a_card() -> None:
    schema = manifest_json_schema()
    properties = schema["$defs"]["ModelCard"]["properties"]
    assert set(properties) == set(ModelCard.__struct_encode_fields__)
    assert schema["$defs"]["Manifest"]["additionalProperties"] is False
