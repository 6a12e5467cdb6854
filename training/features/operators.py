"""Operator lists: small graphs written once as ONNX operators, which torch can run as well.

Written by hand instead of exported from torch: every operator of a graph that takes microseconds counts, a
graph is made in milliseconds, and the two runtimes still check each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional as F

OPSET = 20
IR_VERSION = 10


@dataclass(frozen=True)
class Operator:
    """One ONNX operator with one output."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


@dataclass
class OperatorList:
    """Operators in the order in which they run; ``add`` and ``constant`` return names of values."""

    operators: list[Operator] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append an operator and return the name of its output."""
        output = f"{kind.lower()}_{len(self.operators)}"
        self.operators.append(Operator(kind, inputs, output, attributes))
        return output

    def constant(self, value: NDArray[Any] | float | Sequence[int], *, name: str = "") -> str:
        """Name of a constant; floats become float32, integers int64. Equal ones are kept once."""
        array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        if name:
            self.constants[name] = array
            return name
        for other, known in self.constants.items():
            if known.dtype == array.dtype and known.shape == array.shape and (known == array).all():
                return other
        name = f"constant_{len(self.constants)}"
        self.constants[name] = array
        return name

    def run(self, constants: dict[str, Tensor], **inputs: Tensor) -> dict[str, Tensor]:
        """All values, computed by torch; `constants` hold :attr:`constants` as tensors."""
        values = {**constants, **inputs}
        for step in self.operators:
            arguments = [values[name] for name in step.inputs]
            values[step.output] = _TORCH[step.kind](*arguments, **step.attributes)
        return values

    def to_onnx(
        self, inputs: Sequence[onnx.ValueInfoProto], outputs: dict[str, tuple[str, int]]
    ) -> onnx.ModelProto:
        """The ONNX model; `outputs` maps a name to (value, width) of a float32 output ``[N, width]``."""
        names = {value: name for name, (value, _) in outputs.items()}
        nodes = [
            helper.make_node(
                step.kind,
                [names.get(name, name) for name in step.inputs],
                [names.get(step.output, step.output)],
                **step.attributes,
            )
            for step in self.operators
        ]
        results = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width])
            for name, (_, width) in outputs.items()
        ]
        graph = helper.make_graph(
            nodes,
            "zooselect",
            list(inputs),
            results,
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        model.producer_name = "zooselect"
        onnx.checker.check_model(model)
        return model


def _clip(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(x, low), high)


def _conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
) -> Tensor:  # fmt: skip
    top, left, bottom, right = pads
    padded = F.pad(x, (left, right, top, bottom)) if any(pads) else x
    return F.conv2d(padded, weight, bias, stride=list(strides))


def _divide(x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _gather(x: Tensor, index: Tensor, *, axis: int = 0) -> Tensor:
    index = torch.where(index < 0, index + x.shape[axis], index)
    chosen = x.index_select(axis, index.flatten())
    return chosen.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _reshape(x: Tensor, shape: Tensor) -> Tensor:
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape.tolist())])


def _shape(x: Tensor, *, start: int, end: int) -> Tensor:
    return torch.tensor(x.shape[start:end])


def _slice(x: Tensor, start: Tensor, end: Tensor, axis: Tensor) -> Tensor:
    return x.narrow(int(axis), int(start), int(end) - int(start))


def _reduce(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, axes, keepdims=1: function(x, tuple(axes.tolist()), keepdim=bool(keepdims))


_TORCH: dict[str, Callable[..., Tensor]] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "Cast": lambda x, to: x.to({TensorProto.FLOAT: torch.float32}[to]),
    "Clip": _clip,
    "Concat": lambda *parts, axis: torch.cat(parts, axis),
    "Conv": _conv,
    "Div": _divide,
    "Flatten": lambda x: x.flatten(1),
    "Gather": _gather,
    "Gemm": lambda x, weight, bias: x @ weight + bias,
    "GlobalAveragePool": lambda x: x.mean((2, 3), keepdim=True),
    "Log": torch.log,
    "MatMul": torch.matmul,
    "Min": torch.minimum,
    "Mul": torch.mul,
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceMin": _reduce(torch.amin),
    "ReduceSum": _reduce(torch.sum),
    "Relu": torch.relu,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
}
