"""What a device may report: counts and drift numbers of bounded size, and nothing else."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selector.telemetry.demand import AskedDemand
from selector.telemetry.report import (
    MAX_REPORT_BYTES,
    Drift,
    DriftNumber,
    Report,
    decode_report,
    encode_report,
)
from tests.support.small_service import demand, report
from zoo.errors import ReportError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def changed(**fields: Any) -> bytes:
    """A report as JSON with other fields."""
    return json.dumps(json.loads(encode_report(report())) | fields).encode()


def test_a_report_comes_back_as_it_was_sent() -> None:
    drift = Drift(bundle="birds", numbers=(DriftNumber(name="brightness ks", statistic=0.3, alarm=True),))
    sent = report(drift=(drift,), rate_bytes_per_s=1e6)
    assert decode_report(encode_report(sent)) == sent


def test_no_field_can_carry_an_image() -> None:
    schema = msgspec.json.schema(Report)
    free = []

    def look(node: Any, where: str) -> None:
        if isinstance(node, list):
            for one in node:
                look(one, where)
        elif isinstance(node, dict):
            if node.get("type") == "string" and not {"pattern", "maxLength"} & set(node):
                free.append(where)
            if "contentEncoding" in node or node == {}:
                free.append(where)
            for name, one in node.items():
                if name != "default":
                    look(one, f"{where}.{name}")

    look(schema, "")
    assert free == []
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8).tobytes()
    assert len(base64.b64encode(pixels)) >= MAX_REPORT_BYTES


def test_a_large_report_is_refused_before_it_is_read() -> None:
    with pytest.raises(ReportError, match="at most 16,384 bytes, got 16,385"):
        decode_report(b" " * (MAX_REPORT_BYTES + 1))
    many = tuple(
        AskedDemand(kind="precision", level=0.9, environment="e" * 200, answers=1, unmet=0) for _ in "x" * 16
    )
    with pytest.raises(ReportError, match="fewer"):
        encode_report(report(demand=tuple(demand(f"b{i}", 99, 0, asked=many) for i in range(16))))


@pytest.mark.parametrize(
    "fields",
    [
        {"schema_version": 3},
        {"device": "me"},
        {"device": "0" * 32 + "\n"},
        {"sequence": 0},
        {"sequence": 2**53 + 1},
        {"sequence": 10**400},
        {"sequence": 1.5},
        {"group": "../x"},
        {"stored_bytes": -1},
        {"budget_bytes": 10**30},
        {"rate_bytes_per_s": 0},
        {"zooselect": "<script>"},
        {"image": "aGVsbG8="},
        {"models": [{"name": "a", "version": 1}] * 2},
        {"models": [{"name": f"m{i}", "version": 1} for i in range(65)]},
        {"demand": [json.loads(msgspec.json.encode(demand()))] * 2},
        {"drift": [{"bundle": "b", "numbers": [{"name": "n", "statistic": 1e400, "alarm": False}]}]},
    ],
)
def test_a_field_that_is_wrong_is_named(fields: dict[str, Any]) -> None:
    with pytest.raises(ReportError, match=r"report: .*(Correct|upgrade)"):
        decode_report(changed(**fields))


@pytest.mark.parametrize(
    "wrong",
    [
        demand(answers=5000, unmet=0),
        demand(answers=2**60, unmet=0, window=10, asked=()),
        demand(window=9),
        demand(asked=(AskedDemand(kind="precision", level=0.9, environment="a\x00", answers=1, unmet=0),)),
    ],
)
def test_no_device_speaks_for_more_answers_than_it_may(wrong: Any) -> None:
    with pytest.raises(ReportError, match="demand: expected"):
        decode_report(changed(demand=[json.loads(msgspec.json.encode(wrong))]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[" * 10_000,
        b'{"a":' * 3000,
        b'{"schema_version":NaN}',
        b"\xff\xfe",
        b"1" * 9999,
        b'{"schema_version":1,"device":"\\ud800"}',
        b'{"schema_version":1e999}',
        b'{"schema_version":"1"}',
    ],
)
def test_what_is_no_report_is_an_error_of_ours(content: bytes) -> None:
    with pytest.raises(ReportError):
        decode_report(content)


@given(st.sampled_from(Report.__struct_fields__), JSON)
def test_any_value_of_any_field_is_a_report_or_an_error_of_ours(field: str, value: Any) -> None:
    try:
        decoded = decode_report(changed(**{field: value}))
    except ReportError:
        return
    assert decode_report(encode_report(decoded)) == decoded
