"""Operator lists: small graphs written once as ONNX operators, which torch can run as well.

Written by hand instead of exported from torch: every operator of a graph that takes microseconds counts, a
graph is made in milliseconds, and the two runtimes still check each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from torch import Tensor

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
    prefix: str = ""  # of the names of values

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append an operator and return the name of its output."""
        output = f"{self.prefix}{kind.lower()}_{len(self.operators)}"
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
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants[name] = array
        return name

    def run(self, constants: dict[str, Tensor], **inputs: Tensor) -> dict[str, Tensor]:
        """All values, computed by torch; `constants` hold :attr:`constants` as tensors."""
        from training.features.torch_operators import IN_TORCH

        values = {**constants, **inputs}
        for step in self.operators:
            arguments = [values[name] for name in step.inputs]
            values[step.output] = IN_TORCH[step.kind](*arguments, **step.attributes)
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
