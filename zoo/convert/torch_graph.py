"""A stored graph as a torch module, so that any model of a zoo can go on learning, wherever it came from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor, nn

from zoo.convert.parity import TOLERANCE, disagreement
from zoo.convert.preprocessing_graph import PREFIX
from zoo.convert.torch_operators import OPERATORS, UnsupportedError, batch_normalization
from zoo.errors import ModelError, ParityError

_MIN_KEPT_SHARE = 0.01  # of its size is what an element keeps that keeps its sign


class _Step(NamedTuple):
    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    spent: tuple[str, ...]  # values that no later step reads


class TorchGraph(nn.Module):
    """The graph of a zoo model: uint8 ``[N, H, W, 3]`` → logits float32 ``[N, C]``.

    Parameters
    ----------
    content
        The ONNX file under the model contract.
    name
        Name of the model, for the messages.
    learned
        Names of the float tensors that are parameters; all others stay as they are.
    statistics
        Names of means and variances of BatchNormalization that follow the images while training.
    signed
        Names of learned tensors whose elements keep their sign, and a hundredth of their size at least. A
        scale per channel that changed its sign would change all 8-bit codes of its kernel.

    Raises
    ------
    ModelError
        When the graph has operators that torch does not compute here; the message names them.
    """

    def __init__(
        self,
        content: bytes,
        *,
        name: str,
        learned: Collection[str] = (),
        statistics: Collection[str] = (),
        signed: Collection[str] = (),
    ) -> None:
        super().__init__()
        graph = onnx.load_model_from_string(content).graph
        self._name, self._statistics = name, frozenset(statistics)
        self._tensors: dict[str, str] = {}  # name in the graph → name as a parameter or buffer
        self._sizes: dict[
            str, Tensor
        ] = {}  # shapes, axes and limits are read one by one: they stay on the CPU
        self._half = False
        self._signed = frozenset(signed)
        steps = _steps(graph)
        _check_operators(steps, name)
        for key, value in stored_tensors(graph).items():
            self._keep(key, numpy_helper.to_array(value), learn=key in learned)
        for node in graph.node:
            if node.op_type == "Constant" and node.output[0] not in {*self._tensors, *self._sizes}:
                self._keep(node.output[0], _plain_constant(node), learn=False)
        self._steps = _plan(steps)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch."""
        values: dict[str, Tensor | None] = {"": None, "image": images, **self._sizes}
        values |= {key: self._value(key) for key in self._tensors}
        for step in self._steps:
            given = [values[key] for key in step.inputs]
            result: Any
            try:
                if step.kind == "BatchNormalization":
                    follows = self.training and step.inputs[3] in self._statistics
                    result = batch_normalization(step.attributes, given, learn=follows)
                else:
                    result = OPERATORS[step.kind](step.attributes, given)
            except UnsupportedError as error:
                raise ModelError(
                    f"model {self._name!r}: expected operators that torch computes like ONNX Runtime, got "
                    f"{step.kind} with {error} ({step.name!r}). Adapt another model."
                ) from error
            values.update(zip(step.outputs, result if isinstance(result, tuple) else (result,), strict=False))
            for key in step.spent:
                del values[key]
        logits = values["logits"]
        assert logits is not None
        return logits

    @property
    def half_precision(self) -> bool:
        """Whether the graph has weights in float16."""
        return self._half

    def tensor(self, key: str) -> NDArray[np.float32]:
        """The present content of a float tensor, by its name in the graph."""
        return self._value(key).detach().cpu().numpy().copy()

    def _value(self, key: str) -> Tensor:
        held: Tensor = getattr(self, self._tensors[key])
        if key not in self._signed:
            return held
        before: Tensor = getattr(self, f"{self._tensors[key]}_before")
        sign = torch.sign(before)
        return torch.where(
            before == 0, held, sign * torch.maximum(sign * held, _MIN_KEPT_SHARE * before.abs())
        )

    def _keep(self, key: str, value: NDArray[Any], *, learn: bool) -> None:
        self._half = self._half or value.dtype == np.float16
        held = torch.from_numpy(value.astype(np.float32) if value.dtype.kind == "f" else value.copy())
        if value.dtype.kind != "f" or (value.ndim == 0 and not learn):
            self._sizes[key] = held
            return
        self._tensors[key] = own = f"tensor_{len(self._tensors)}"  # a name in a graph may have dots in it
        if key in self._signed:
            self.register_buffer(f"{own}_before", held.clone())
        if learn:
            setattr(self, own, nn.Parameter(held))
        else:
            self.register_buffer(own, held)


def check_torch_graph(content: bytes, module: TorchGraph, resolution: tuple[int, int], *, name: str) -> float:
    """Compare a graph in torch with ONNX Runtime on random images of two sizes.

    Torch computes in float32 also where the graph is in float16, which allows for a hundred times as much.

    Returns
    -------
    float
        The largest difference as a share of the largest logit.

    Raises
    ------
    ParityError
        When it is above 1e-4 or not a number.
    """

    def torch_answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            with torch.inference_mode():
                logits: NDArray[np.float32] = module(torch.from_numpy(images)).numpy()
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
            raise ModelError(
                f"model {name!r}: expected a graph that torch can run, got: "
                f"{str(error).strip().splitlines()[0][:200]}. Adapt another model."
            ) from error
        return logits

    training = module.training
    module.eval()
    worst = disagreement(content, torch_answer, resolution, name=name)
    module.train(training)
    tolerance = 100 * TOLERANCE if module.half_precision else TOLERANCE
    if worst > tolerance:
        raise ParityError(
            f"model {name!r}: expected torch to answer like ONNX Runtime within {tolerance:.0e} of the "
            f"largest logit, got {worst:.1e}. Its operators are computed differently; adapt another model."
        )
    return worst


def check_operators(content: bytes, *, name: str) -> None:
    """Raise :class:`ModelError` where a graph has operators that cannot be trained here, naming them."""
    _check_operators(_steps(onnx.load_model_from_string(content).graph), name)


def stored_tensors(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """All tensors of a graph by name: initializers, and constants, as which some exporters write weights."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            tensors[node.output[0]] = node.attribute[0].t
    return tensors


def _steps(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [node for node in graph.node if node.op_type != "Constant"]


def _plain_constant(node: onnx.NodeProto) -> NDArray[Any]:
    value = helper.get_attribute_value(node.attribute[0])
    return np.asarray(value, dtype=np.float32 if "float" in node.attribute[0].name else np.int64)


def _check_operators(nodes: list[onnx.NodeProto], name: str) -> None:
    unknown = sorted(
        {
            f"{node.domain}:{node.op_type}" if node.domain else node.op_type
            for node in nodes
            if node.op_type not in {*OPERATORS, "BatchNormalization"} or node.domain not in ("", "ai.onnx")
        }
    )
    if unknown:
        quantised = {"QuantizeLinear", "DequantizeLinear"} & set(unknown)
        advice = "Adapt its float parent and make that smaller." if quantised else "Adapt another model."
        raise ModelError(
            f"model {name!r}: expected operators that can be trained here, got {', '.join(unknown)}. {advice}"
        )


def _plan(nodes: list[onnx.NodeProto]) -> list[_Step]:
    last = {key: i for i, node in enumerate(nodes) for key in (*node.input, *node.output) if key}
    made = {key for node in nodes for key in node.output}
    steps = []
    for i, node in enumerate(nodes):
        attributes: dict[str, Any] = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        attributes = {key: v.decode() if isinstance(v, bytes) else v for key, v in attributes.items()}
        spent = {key for key in (*node.input, *node.output) if key in made and last[key] == i} - {"logits"}
        steps.append(
            _Step(
                node.op_type,
                node.name,
                tuple(node.input),
                tuple(node.output),
                {"outputs": len(node.output), **attributes},
                tuple(sorted(spent)),
            )
        )
    return steps


def is_front(node: onnx.NodeProto) -> bool:
    """Whether a node belongs to the preprocessing, which nothing here may change."""
    return bool(node.name.startswith(PREFIX))
