"""Blocks: the nodes of a graph or of one of its branches, and other graphs placed among them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, helper, numpy_helper

_BRANCHES = ("then_branch", "else_branch")


@dataclass
class Block:
    """Nodes in the order in which they run, with the tensors that they need.

    A branch holds its own tensors: ONNX Runtime folds and packs those of the graph itself, not those of a
    graph around it. Names are distinct over all blocks that share `numbers`; they hold a slash, as no
    input's name does.
    """

    numbers: Iterator[int] = field(default_factory=itertools.count)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[TensorProto] = field(default_factory=list)

    def branch(self) -> Block:
        """An empty block for a branch of this one; it may use all values of this one."""
        return Block(self.numbers)

    def add(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Append an operator with one output; its name, which is made up where none is given."""
        name = name or f"{kind.lower()}/{next(self.numbers)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: NDArray[Any] | float | Sequence[int] | Sequence[str]) -> str:
        """The name of a stored tensor; Python's floats are float64, its whole numbers int64."""
        name = f"constant/{next(self.numbers)}"
        array = np.asarray(value)
        if array.dtype.kind == "U":
            tensor = TensorProto(name=name, data_type=TensorProto.STRING, dims=array.shape)
            tensor.string_data.extend(str(text).encode() for text in array.ravel())
            self.tensors.append(tensor)
        else:
            self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def place(self, graph: onnx.GraphProto, inputs: Mapping[str, str], outputs: Sequence[str]) -> list[str]:
        """Put another graph here.

        Parameters
        ----------
        inputs
            Its inputs → values of this block, or of one around it.
        outputs
            Those that are wanted; what only the others need is left out.

        Returns
        -------
        The names of `outputs` here.
        """
        prefix = f"part/{next(self.numbers)}/"
        needed, nodes = set(outputs), list[onnx.NodeProto]()
        for node in reversed(graph.node):
            if needed & set(node.output):
                nodes.append(node)
                needed |= _used(node)
        for node in reversed(nodes):
            self.nodes.append(_renamed(node, prefix, inputs))
        for tensor in graph.initializer:
            if tensor.name in needed:
                held = TensorProto()
                held.CopyFrom(tensor)
                held.name = _name(tensor.name, prefix, inputs)
                held.doc_string = ""
                self.tensors.append(held)
        return [_name(output, prefix, inputs) for output in outputs]

    def choose(
        self, condition: str, then: tuple[Block, Sequence[str]], otherwise: tuple[Block, Sequence[str]]
    ) -> list[str]:
        """One of two branches: the names here of what it gives, for values of unknown shapes.

        Parameters
        ----------
        condition
            One boolean.
        """
        number = next(self.numbers)
        outputs = [f"chosen/{number}/{i}" for i in range(len(then[1]))]
        graphs = {
            key: helper.make_graph(
                block.nodes,
                f"{key}_{number}",
                [],
                [onnx.ValueInfoProto(name=value) for value in values],
                block.tensors,
            )
            for key, (block, values) in zip(_BRANCHES, (then, otherwise), strict=True)
        }
        self.nodes.append(helper.make_node("If", [condition], outputs, name=f"if_{number}", **graphs))
        return outputs


def _used(node: onnx.NodeProto) -> set[str]:
    """Values that a node reads, also inside its own branches."""
    found = set(node.input)
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.type == AttributeProto.GRAPH else []), *attribute.graphs):
            found |= {name for inner in graph.node for name in _used(inner)}
            found |= {output.name for output in graph.output}
    return found


def _renamed(node: onnx.NodeProto, prefix: str, inputs: Mapping[str, str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    _rename(copy, prefix, inputs)
    return copy


def _rename(node: onnx.NodeProto, prefix: str, inputs: Mapping[str, str]) -> None:
    for values in (node.input, node.output):
        values[:] = [_name(value, prefix, inputs) for value in values]
    node.name = _name(node.name, prefix, {})
    node.doc_string = ""
    del node.metadata_props[:]
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.type == AttributeProto.GRAPH else []), *attribute.graphs):
            del graph.value_info[:]
            for inner in graph.node:
                _rename(inner, prefix, inputs)
            for value in (*graph.input, *graph.output, *graph.initializer):
                value.name = _name(value.name, prefix, inputs)


def _name(value: str, prefix: str, inputs: Mapping[str, str]) -> str:
    return inputs.get(value, prefix + value) if value else value
