"""Claims about the small models of these tests: they are ONNX as the package onnx has it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.small_models import build_onnx

onnx = pytest.importorskip("onnx")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"work": 3, "noise": 0.5},
        {"only_batch": 0},
        {"only_batch": 1},
        {"extra_input": True},
        {"input_type": 1},
    ],
)
def test_the_package_writes_the_same_bytes(options: dict[str, Any]) -> None:
    content = build_onnx(**options)
    read = onnx.load_from_string(content)
    assert read.SerializeToString(deterministic=True) == content
    onnx.checker.check_model(read)
