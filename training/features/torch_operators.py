"""The operators of small graphs as torch computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from onnx import TensorProto
from torch import Tensor
from torch.nn import functional as F


def _clip(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(x, low), high)


def _conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
) -> Tensor:  # fmt: skip
    top, left, bottom, right = pads
    padded = F.pad(x, (left, right, top, bottom)) if any(pads) else x
    return F.conv2d(padded, weight, bias, stride=list(strides))


def _constant(shape: Tensor, *, value: TensorProto) -> Tensor:
    return torch.full(shape.tolist(), value.float_data[0])


def _scatter(x: Tensor, index: Tensor, updates: Tensor, *, axis: int, reduction: str) -> Tensor:
    assert reduction == "add"
    return x.scatter_add(axis, index.long(), updates)


def _divide(x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _gather(x: Tensor, index: Tensor, *, axis: int = 0) -> Tensor:
    index = torch.where(index < 0, index + x.shape[axis], index)
    chosen = x.index_select(axis, index.flatten())
    return chosen.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _reshape(x: Tensor, shape: Tensor) -> Tensor:
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape.tolist())])


def _shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(x.shape[start:end])


def _slice(x: Tensor, start: Tensor, end: Tensor, axis: Tensor) -> Tensor:
    return x.narrow(int(axis), int(start), int(end) - int(start))


def _reduce(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, axes, keepdims=1: function(x, tuple(axes.tolist()), keepdim=bool(keepdims))


IN_TORCH: dict[str, Callable[..., Tensor]] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "Cast": lambda x, to: x.to({TensorProto.FLOAT: torch.float32, TensorProto.INT32: torch.int32}[to]),
    "Clip": _clip,
    "Concat": lambda *parts, axis: torch.cat(parts, axis),
    "ConstantOfShape": _constant,
    "Conv": _conv,
    "Div": _divide,
    "Flatten": lambda x: x.flatten(1),
    "Gather": _gather,
    "Gemm": lambda x, weight, bias: x @ weight + bias,
    "GlobalAveragePool": lambda x: x.mean((2, 3), keepdim=True),
    "Log": torch.log,
    "MatMul": torch.matmul,
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Mod": torch.remainder,
    "Mul": torch.mul,
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceMin": _reduce(torch.amin),
    "ReduceSum": _reduce(torch.sum),
    "Relu": torch.relu,
    "Reshape": _reshape,
    "ScatterElements": _scatter,
    "Shape": _shape,
    "Slice": _slice,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
}
