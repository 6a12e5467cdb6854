"""Models that answer images of 8 rows, and take all time or memory for others."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tests.support.onnx_bytes import BOOL, FLOAT, INT64, UINT8, graph, model, node, value_info

FLOATS_PER_ROW = 100_000_000  # that the greedy one takes for every row above 8

Bomb = Literal["endless", "greedy", "dense", "modest"]


def bomb_onnx(kind: Bomb) -> bytes:
    """ONNX bytes of a classifier of the mean colour of the first 8 rows and columns of an image.

    Parameters
    ----------
    kind
        What it does where H is above 8: ``endless`` loops, ``greedy`` takes 400 MB of memory a row, ``dense``
        multiplies one matrix of ``500 (H - 8)`` rows and columns; ``modest`` does nothing more.
    """
    constants = {
        "scale": np.full(1, 10 / 255, np.float32),
        "axes": np.array([1, 2], np.int64),
        "corner": np.zeros(2, np.int64),
        "corner end": np.full(2, 8, np.int64),
        "weights": np.eye(3, dtype=np.float32),
        "first": np.array([1], np.int64),
        "last": np.array([2], np.int64),
        "usual": np.array([8], np.int64),
        "one": np.array([1], np.int64),
        "each": np.array([FLOATS_PER_ROW if kind == "greedy" else 500], np.int64),
        "zero": np.zeros(1, np.float32),
    }
    nodes = [
        node("Slice", ["image", "corner", "corner end", "axes"], ["part"]),
        node("Cast", ["part"], ["float"], to=FLOAT),
        node("Mul", ["float", "scale"], ["scaled"]),
        node("ReduceMean", ["scaled", "axes"], ["colour"], keepdims=0),
        node("Gemm", ["colour", "weights"], ["logits" if kind == "modest" else "sound"]),
        node("Shape", ["image"], ["shape"]),
        node("Slice", ["shape", "first", "last"], ["rows"]),
        node("Sub", ["rows", "usual"], ["more"]),
        node("Mul", ["more", "each"], ["many"]),
        node("Add", ["many", "one"], ["size"]),
    ]
    if kind == "endless":
        body = graph(
            "body",
            [node("Identity", ["go"], ["go on"]), node("Identity", ["x"], ["same"])],
            [value_info("i", INT64, []), value_info("go", BOOL, []), value_info("x", FLOAT, ["N", 3])],
            [value_info("go on", BOOL, []), value_info("same", FLOAT, ["N", 3])],
            {},
        )
        constants["scalar"] = np.zeros(0, np.int64)
        nodes += [
            node("Greater", ["rows", "usual"], ["other"]),
            node("Reshape", ["other", "scalar"], ["endless"]),
            node("Loop", ["", "endless", "sound"], ["logits"], body=body),
        ]
    elif kind != "modest":
        nodes += [
            node("Concat", ["size", "size"] if kind == "dense" else ["size"], ["sides"], axis=0),
            node("Expand", ["zero", "sides"], ["all"]),
            node("MatMul", ["all", "all"], ["product"]),
            node("ReduceSum", ["product"], ["nothing"], keepdims=0),
            node("Add", ["sound", "nothing"], ["logits"]),
        ]
    inputs = [value_info("image", UINT8, ["N", "H", "W", 3])]
    return model("bomb", nodes, inputs, [value_info("logits", FLOAT, ["N", 3])], constants)
