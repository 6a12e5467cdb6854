"""Claims about releases: hostile records are refused, and a graph refers to nothing but its own weights."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.small_releases import bundle_release, model_release
from zoo.errors import CardError, DigestError, SchemaVersionError
from zoo.files import decode_record, encode_record, sha256_bytes
from zoo.releases.release import SCHEMA_VERSION, Assignment, Blob, BundleRelease, ModelRelease, fill, slot

MODEL = model_release("tiny", {"a": 50, "b": 70})
BUNDLE = bundle_release("birds", (MODEL,))
PLAIN: dict[str, Any] = json.loads(encode_record(MODEL))


def decode(content: bytes, kind: Any = ModelRelease) -> Any:
    return decode_record(content, kind, name="record", schema_version=SCHEMA_VERSION)


def changed(**fields: object) -> bytes:
    return json.dumps(PLAIN | fields).encode()


def filled_by(graph: bytes) -> ModelRelease:
    """The release, with this graph."""
    blob = Blob(sha256=sha256_bytes(graph), size_bytes=len(graph))
    return msgspec.structs.replace(MODEL, graph=blob)


def test_records_survive_the_round_trip() -> None:
    assert decode(encode_record(MODEL)) == MODEL
    assert decode(encode_record(BUNDLE), BundleRelease) == BUNDLE


def test_a_slot_is_as_long_as_a_digest() -> None:
    assert {len(slot(i)) for i in (0, 1, 999_999)} == {64}
    assert len({slot(i) for i in range(1000)}) == 1000


def test_filling_changes_nothing_but_the_slots() -> None:
    graph = b"before " + slot(0).encode() + b" between " + slot(1).encode() + slot(0).encode() + b" after"
    release = filled_by(graph)
    first, second = (blob.sha256.encode() for blob in release.weights)
    assert fill(graph, release) == b"before " + first + b" between " + second + first + b" after"


@pytest.mark.parametrize("slots", [(), (0,), (0, 1, 2), (0, 2)])
def test_slots_without_weights_and_weights_without_slots_are_refused(slots: tuple[int, ...]) -> None:
    graph = b"".join(slot(i).encode() for i in slots)
    with pytest.raises(DigestError, match="expected a graph with 2 slots"):
        fill(graph, filled_by(graph))


def test_another_graph_is_not_filled() -> None:
    with pytest.raises(DigestError, match="expected the graph"):
        fill(b"another", MODEL)


@pytest.mark.parametrize(
    "path", ["../up", "/etc/passwd", "a/../../b", "C:x", "a\\b", "", "graphs/\n", "\x00", "a\u202e"]
)
def test_paths_out_of_a_bundle_are_refused(path: str) -> None:
    plain = json.loads(encode_record(BUNDLE))
    plain["files"] = {path: plain["record"]}
    with pytest.raises(CardError, match="relative path that stays inside"):
        decode(json.dumps(plain).encode(), BundleRelease)


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "", ".hidden", "UPPER", "a" * 65, "x\n", "nul\x00"])
def test_names_that_are_paths_are_refused(name: str) -> None:
    with pytest.raises(CardError):
        decode(changed(card=PLAIN["card"] | {"name": name}))


@pytest.mark.parametrize(
    "size", [0, -1, 2**31, 2**63, 2**200, 1.5, "1", None, True, float("inf"), float("nan")]
)
def test_sizes_out_of_range_are_refused(size: object) -> None:
    with pytest.raises(CardError):
        decode(changed(graph={"sha256": "0" * 64, "size_bytes": size}))


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "../" + "0" * 61, 7])
def test_digests_that_are_none_are_refused(digest: object) -> None:
    with pytest.raises(CardError):
        decode(changed(graph={"sha256": digest, "size_bytes": 1}))


def test_one_blob_has_one_size() -> None:
    graph = PLAIN["graph"]
    with pytest.raises(CardError, match="expected one size, got two"):
        decode(changed(weights=[graph, graph | {"size_bytes": 11}]))


def test_a_whole_is_as_long_as_its_parts() -> None:
    whole = {"sha256": "1" * 64, "size_bytes": MODEL.size_bytes}
    assert decode(changed(whole=whole)).offered["1" * 64] == MODEL.size_bytes
    with pytest.raises(CardError, match="whole: expected"):
        decode(changed(whole=whole | {"size_bytes": MODEL.size_bytes + 1}))


def test_the_self_test_has_a_logit_for_each_class() -> None:
    with pytest.raises(CardError, match=r"selftest\.logits: expected 2"):
        decode(changed(selftest=PLAIN["selftest"] | {"logits": [1.0, 2.0, 3.0]}))


def test_an_image_of_the_self_test_that_fills_the_memory_is_refused() -> None:
    with pytest.raises(CardError):
        decode(changed(selftest=PLAIN["selftest"] | {"image": [2**20, 2**20]}))


def test_a_newer_record_asks_for_an_upgrade() -> None:
    with pytest.raises(SchemaVersionError, match="upgrade"):
        decode(changed(schema_version=SCHEMA_VERSION + 1))


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(CardError):
        decode(changed(run="rm"))


@pytest.mark.parametrize("field", ["bundles", "models"])
def test_an_assignment_names_each_once(field: str) -> None:
    plain = {"schema_version": 1, "version": 1, "group": "park", "bundles": [], "models": []}
    with pytest.raises(CardError, match="distinct names"):
        decode(json.dumps(plain | {field: ["a", "a"]}).encode(), Assignment)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=300))
def test_bytes_are_a_record_or_an_error_of_ours(content: bytes) -> None:
    with pytest.raises(CardError):
        decode(content)


@given(st.sampled_from(sorted(PLAIN)), JSON)
def test_any_value_in_any_field_is_accepted_or_refused_in_words(field: str, value: object) -> None:
    try:
        release = decode(json.dumps(PLAIN | {field: value}).encode())
    except CardError:
        return
    assert isinstance(release, ModelRelease)
    assert release.size_bytes > 0


@given(st.integers(1, 5000))
def test_deep_records_are_refused_and_do_no_harm(depth: int) -> None:
    with pytest.raises(CardError):
        decode(b'{"schema_version": 1, "card": ' + b"[" * depth + b"]" * depth + b"}")
