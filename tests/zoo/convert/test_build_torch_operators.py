"""Every operator in torch gives what ONNX Runtime gives, in the variants that exporters write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from zoo.convert.torch_operators import OPERATORS, UnsupportedError, batch_normalization
from zoo.models.session import open_session

RNG = np.random.default_rng(0)


def normal(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


X = normal(2, 4, 9, 7)
NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
VARIANTS: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("Conv", [X, normal(6, 4, 3, 3), normal(6)], {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ("Conv", [X, normal(6, 4, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", [X, normal(6, 4, 3, 2)], {"auto_pad": "SAME_LOWER", "strides": [1, 2]}),
    ("Conv", [X, normal(4, 1, 3, 3)], {"pads": [0, 1, 2, 1], "group": 4}),
    ("MaxPool", [X], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    ("MaxPool", [X], {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("AveragePool", [X], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("AveragePool", [X], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("GlobalAveragePool", [X], {}),
    ("GlobalMaxPool", [X], {}),
    ("Gemm", [normal(3, 4), normal(5, 4), normal(5)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", [normal(4, 3), normal(4, 5)], {"transA": 1}),
    ("LayerNormalization", [X, normal(7), normal(7)], {"axis": -1, "epsilon": 1e-3}),
    ("InstanceNormalization", [X, normal(4), normal(4)], {}),
    ("Pad", [X, ints(0, 0, 1, 2, 0, 0, 0, 1), np.float32(2)], {}),
    ("Pad", [X, ints(1, 2, 2, 1)], {"mode": "reflect", "axes": ints(2, 3)}),
    ("Pad", [X, ints(0, 0, 1, 1, 0, 0, 1, 1)], {"mode": "edge"}),
    ("Slice", [X, ints(1, -5), ints(2**62, -1), ints(2, 3), ints(2, 1)], {}),
    ("Resize", [X, None, np.array([1, 1, 2, 2], np.float32)], NEAREST),
    ("Resize", [X, None, None, ints(2, 4, 18, 14)], {"mode": "linear"}),
    ("Reshape", [X, ints(0, -1)], {}),
    ("Flatten", [X], {"axis": -1}),
    ("Squeeze", [normal(2, 1, 3), ints(1)], {}),
    ("Unsqueeze", [normal(2, 3), ints(-1, 0)], {}),
    ("Transpose", [X], {"perm": [0, 2, 3, 1]}),
    ("Gather", [X, ints(1, -1)], {"axis": 1}),
    ("Concat", [X, X], {"axis": 1}),
    ("Expand", [normal(1, 3), ints(2, 1)], {}),
    ("ReduceMean", [X, ints(2, 3)], {"keepdims": 0}),
    ("ReduceMax", [X], {}),
    ("ReduceSum", [X, ints()], {"noop_with_empty_axes": 1}),
    ("Clip", [X, np.float32(-0.5), np.float32(0.5)], {}),
    ("HardSigmoid", [X], {"alpha": 1 / 6}),
    ("HardSwish", [X], {}),
    ("LeakyRelu", [X], {"alpha": 0.1}),
    ("PRelu", [X, normal(4, 1, 1)], {}),
    ("Elu", [X], {}),
    ("Softmax", [X], {"axis": 1}),
    ("LogSoftmax", [X], {}),
    ("Div", [ints(7, -7), ints(2, 2)], {}),
    ("Max", [X, normal(9, 7), normal(7)], {}),
    ("Where", [X > 0, X, normal(7)], {}),
    ("Shape", [X], {"start": 1, "end": 3}),
    ("Cast", [X], {"to": TensorProto.INT32}),
    ("Attention", [normal(2, 3, 5, 4), normal(2, 3, 6, 4), normal(2, 3, 6, 4)], {}),
    ("Attention", [normal(2, 5, 8), normal(2, 5, 4), normal(2, 5, 4)], {"q_num_heads": 2, "kv_num_heads": 1}),
    ("Attention", [normal(1, 2, 5, 4)] * 3, {"is_causal": 1, "scale": 0.3}),
    ("Attention", [normal(1, 2, 5, 4)] * 3 + [normal(5, 5)], {}),
    ("ConstantOfShape", [ints(2, 3)], {}),
    ("ConstantOfShape", [ints(2)], {"value": numpy_helper.from_array(ints(7))}),
    ("Einsum", [normal(2, 3, 4), normal(2, 4, 5)], {"equation": "bij,bjk->bik"}),
    ("Floor", [X], {}),
    ("Greater", [X, normal(7)], {}),
    ("Less", [X, normal(7)], {}),
    ("Not", [X > 0], {}),
    ("And", [X > 0, X < 1], {}),
    ("Tile", [normal(2, 3), ints(2, 1)], {}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "inputs", "attributes"), VARIANTS, ids=[v[0] for v in VARIANTS])
def test_gives_what_onnx_runtime_gives(kind: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    values = [None if value is None else np.asarray(value) for value in inputs]
    if isinstance(attributes.get("axes"), np.ndarray):  # an input since opset 18
        values += [None, attributes["axes"]]
        attributes = {key: value for key, value in attributes.items() if key != "axes"}
    names = ["" if value is None else f"x{i}" for i, value in enumerate(values)]
    stored = [numpy_helper.from_array(v, n) for n, v in zip(names, values, strict=True) if v is not None]
    node = helper.make_node(kind, names, ["y"], **attributes)
    graph = helper.make_graph([node], "g", [], [helper.make_empty_tensor_value_info("y")], stored)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 23 if kind == "Attention" else 18)], ir_version=10
    )
    (expected,) = open_session(model.SerializeToString(), name=kind).run(None, {})
    given = [None if value is None else torch.from_numpy(value) for value in values]
    got = OPERATORS[kind](attributes, given)
    assert isinstance(got, torch.Tensor)
    assert got.shape == expected.shape
    assert np.allclose(got.numpy(), expected, atol=1e-5)


def test_a_split_has_parts_of_equal_or_given_size() -> None:
    x = torch.arange(10)
    parts = OPERATORS["Split"]({"num_outputs": 3, "outputs": 3}, [x])
    assert [len(part) for part in parts] == [4, 4, 2]
    given = OPERATORS["Split"]({"outputs": 2}, [x, torch.tensor([3, 7])])
    assert [len(part) for part in given] == [3, 7]


def test_batch_normalization_takes_a_tenth_of_each_batch_whatever_the_graph_says() -> None:
    mean, variance = torch.zeros(3), torch.ones(3)
    data = torch.full((2, 3, 4, 4), 5.0)
    batch_normalization(
        {"momentum": 0.999}, [data, torch.ones(3), torch.zeros(3), mean, variance], learn=True
    )
    assert torch.allclose(mean, torch.full((3,), 0.5))


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes"),
    [
        ("Slice", [torch.zeros(3), *(torch.tensor([n]) for n in (-1, -9, 0, -1))], {}),
        ("AveragePool", [torch.zeros(1, 1, 4, 4)], {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}),
        ("Pad", [torch.zeros(3), torch.tensor([1, 1])], {"mode": "wrap"}),
        ("Attention", [torch.zeros(1, 1, 2, 2)] * 3, {"softcap": 1.0}),
    ],
)
def test_refuses_what_torch_computes_otherwise(
    kind: str, inputs: list[Any], attributes: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedError):
        OPERATORS[kind](attributes, inputs)
