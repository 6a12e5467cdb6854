"""Places of a graph at which exactly one tensor crosses from what was computed to what is left."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Literal

import onnx

from zoo.convert.count import count_macs
from zoo.convert.cut.cuttable import IMAGE, LOGITS, is_batch, is_fixed, prepare, shown_twice
from zoo.convert.rewriting.import_graph import all_nodes, reads, subgraphs
from zoo.errors import ModelError

NEAR = 5  # places that are named where one was not found
_KINDS = {"float32", "uint8", "int8"}  # that a tensor may have: real numbers, or codes already


@dataclass(frozen=True)
class Place:
    """One tensor that crosses alone."""

    tensor: str  # its name in the graph
    kind: Literal["float32", "uint8", "int8"]
    shape: tuple[int, ...]  # for one image, without the batch axis
    macs_before: int  # multiply-accumulates that are done when it is there

    @property
    def size(self) -> int:
        """Numbers in it, for one image."""
        return math.prod(self.shape)


def find_places(
    content: bytes, resolution: tuple[int, int], *, name: str, every: bool = False
) -> tuple[Place, ...]:
    """The places at which a model can be cut, from the image to the logits; neither of these is one.

    Left out are constants, tensors inside of branches and loops, those beside which another one crosses,
    those whose shape depends on the size of the image, as before the preprocessing resizes it, and those that
    are there as 8-bit codes, too.

    Parameters
    ----------
    content
        ONNX file under the model contract.
    resolution
        Height and width that the graph resizes to, in pixels.
    every
        Also places between which nothing is multiplied, such as those before and after an activation. Else
        one of them is taken: the smallest, and of equal ones that with 8-bit codes, or the last.

    Raises
    ------
    ModelError
        When the graph does not run.

    Examples
    --------
    >>> from zoo.convert.cut.places import find_places
    >>> content = (zoo.folder / zoo.card("full").file).read_bytes()
    >>> [(place.shape, place.macs_before) for place in find_places(content, (8, 8), name="full")]
    [((3,), 0)]
    """
    content = prepare(content, resolution, name=name)
    graph = onnx.load_model_from_string(content).graph
    alone = dict.fromkeys(found[0] for found in crossings(graph) if len(found) == 1)
    names = [tensor for tensor in alone if tensor not in (IMAGE, LOGITS) and not _has_codes(graph, tensor)]
    if not names:
        return ()
    done = _done_before(graph, count_macs(content, resolution, name=name))
    places = [
        Place(tensor, one.dtype.name, one.shape[1:], done[tensor])  # type: ignore[arg-type]
        for tensor, (one, two) in shown_twice(content, names, resolution, name=name).items()
        if one.dtype.name in _KINDS and is_fixed(one, two)
    ]
    return tuple(places) if every else tuple(_best_of_each(places))


def crossings(graph: onnx.GraphProto) -> list[list[str]]:
    """For each step of the graph, in order, the tensors that depend on the image and are needed later.

    A tensor through which every way from the image to the logits leads is alone after the step that makes it,
    whatever the order of the steps is: all others come before it or need it. The number of images does not
    count: see :mod:`zoo.convert.cut.cuttable`.
    """
    steps = _steps(graph)
    last = {value: step for step, (_, read) in enumerate(steps) for value in read}
    last[LOGITS] = len(steps)
    live = [IMAGE]
    found = [list(live)]
    for step, (node, _) in enumerate(steps):
        live = [value for value in live if last.get(value, -1) > step]
        live += [value for value in node.output if last.get(value, -1) > step]
        found.append(list(live))
    return found


def named_place(
    content: bytes, places: tuple[Place, ...], wanted: str, *, resolution: tuple[int, int], name: str
) -> Place:
    """The place of a number (from 1) among `places`, or of a tensor's name.

    Raises
    ------
    ModelError
        When the model cannot be cut there; it says why, and which places are near.
    """
    by_name = {place.tensor: place for place in places}
    if wanted in by_name:
        return by_name[wanted]
    if wanted.isdecimal() and 0 < int(wanted) <= len(places):
        return places[int(wanted) - 1]
    content = prepare(content, resolution, name=name)
    every = {place.tensor: place for place in find_places(content, resolution, name=name, every=True)}
    if wanted in every:
        return every[wanted]
    graph = onnx.load_model_from_string(content).graph
    raise ModelError(
        f"model {name!r}: expected a place where one tensor crosses the graph, got {wanted!r}"
        f"{_reason(graph, wanted)}. {_near(graph, list(by_name), wanted)} "
        f"All of them: zooselect zoo cut {name}"
    )


def _steps(graph: onnx.GraphProto) -> list[tuple[onnx.NodeProto, set[str]]]:
    """Nodes on a way from the image to the logits, in order, and what each reads of what depends on it."""
    computed = {IMAGE}
    dependent = []
    for node in graph.node:
        read = reads(node) & computed
        if read and not is_batch(node):
            computed.update(value for value in node.output if value)
            dependent.append((node, read))
    needed = {LOGITS}
    steps = []
    for node, read in reversed(dependent):
        if needed.intersection(node.output):
            needed |= read
            steps.append((node, read))
    return steps[::-1]


def _done_before(graph: onnx.GraphProto, macs: dict[str, int]) -> dict[str, int]:
    """Multiply-accumulates of all steps up to the one that makes a tensor."""
    done, total = {}, 0
    for node, _ in _steps(graph):
        total += macs.get(node.output[0], 0)
        done.update(dict.fromkeys(node.output, total))
    return done


def _has_codes(graph: onnx.GraphProto, tensor: str) -> bool:
    """Whether codes are beside a tensor: they are the place then.

    ONNX Runtime makes one pair of steps of two in a row, and would answer otherwise than both parts.
    """
    return any(
        (node.op_type == "QuantizeLinear" and node.input[0] == tensor)
        or (node.op_type == "DequantizeLinear" and tensor in node.output)
        for node in graph.node
    )


def _best_of_each(places: list[Place]) -> list[Place]:
    """Of places in a row with the same work before them the smallest, then one of codes, then the last."""
    kept: list[Place] = []
    for place in places:
        if not kept or kept[-1].macs_before != place.macs_before:
            kept.append(place)
        elif (place.size, place.kind == "float32") <= (kept[-1].size, kept[-1].kind == "float32"):
            kept[-1] = place
    return kept


def _reason(graph: onnx.GraphProto, wanted: str) -> str:
    """Why a tensor is no place, where there is such a tensor."""
    if wanted == IMAGE:
        return ", before which nothing is done: that is all of it on the server"
    if wanted == LOGITS:
        return ", behind which nothing is left: that is all of it on the device"
    inside = {
        value
        for node in graph.node
        for part in subgraphs(node)
        for n in all_nodes(part)
        for value in n.output
    }
    if wanted in inside:
        return ", which is inside of a branch or a loop"
    made = {value for node in graph.node for value in node.output}
    if wanted not in made:
        stored = {tensor.name for tensor in graph.initializer}
        return ", which is a constant: the same for every image" if wanted in stored else ""
    steps = _steps(graph)
    makers = [step for step, (node, _) in enumerate(steps) if wanted in node.output]
    if not makers:
        return ", which is a constant: the same for every image, or not needed for the logits"
    beside = [value for value in crossings(graph)[makers[0] + 1] if value != wanted]
    if beside:
        return (
            f", beside which {', '.join(map(repr, beside[:3]))} cross{'es' if len(beside) == 1 else ''}, too"
        )
    if _has_codes(graph, wanted):
        return ", beside which the same is there as 8-bit codes: cut at these"
    return ", whose shape depends on the size of the image or of the batch, or whose type cannot be sent"


def _near(graph: onnx.GraphProto, names: list[str], wanted: str) -> str:
    """The places that come before and after a tensor, or whose names are like it."""
    if not names:
        return "This model has no such place."
    order = {value: step for step, node in enumerate(graph.node) for value in node.output}
    last = len(order) + 1
    order |= {IMAGE: -1, LOGITS: last}
    if wanted.isdecimal():
        near = names[-NEAR:] if int(wanted) else names[:NEAR]
    elif wanted in order:
        near = sorted(names, key=lambda one: abs(order[one] - order[wanted]))[:NEAR]
    else:
        near = difflib.get_close_matches(wanted, names, NEAR, 0.3) or names[:NEAR]
    shown = ", ".join(f"{number} ({one})" for number, one in enumerate(names, 1) if one in near)
    return f"Near: {shown}; there are {len(names)}."
