"""Small ONNX models that keep the contract, and images for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.support.onnx_bytes import FLOAT, INT64, UINT8, model, node, value_info
from zoo.models.zoo import Zoo

COLOURS = ("red", "green", "blue")


def build_onnx(
    classes: Sequence[str] = COLOURS,
    *,
    bias: Sequence[float] | None = None,
    channels: Sequence[int] | None = None,
    noise: float = 0.0,
    seed: int = 0,
    work: int = 0,
    input_name: str = "image",
    input_type: int = UINT8,
    input_shape: Sequence[int | str] = ("N", "H", "W", 3),
    output_name: str = "logits",
    extra_input: bool = False,
    only_batch: int | None = None,
    spoiled: str | None = None,
) -> bytes:
    """ONNX bytes of a linear classifier of the mean colour; class k answers to channel k modulo 3.

    Parameters
    ----------
    bias
        Added to the logits: a large one makes a model that always gives the same answer.
    channels
        Which channel each class answers to, where it is not k modulo 3.
    noise, seed
        Standard deviation of a repeatable disturbance of the weights, which are 0 and 1 without it.
    work
        Matrix products over the whole image that change nothing but the running time.
    input_name, input_type, input_shape, output_name, extra_input
        Ways to break the contract that show in the signature.
    only_batch
        Hide the shape of the output, and fail on batches of another size (0: on none).
    spoiled
        An operator, ``Sqrt``, ``Reciprocal`` or ``Log``, that makes a logit NaN, infinite or minus infinite
        where blue is strong; others become a little larger. For three classes.
    """
    count = len(classes)
    weights = np.eye(3, dtype=np.float32)[np.arange(count) % 3 if channels is None else list(channels)]
    weights = weights + np.random.default_rng(seed).normal(0, noise, weights.shape).astype(np.float32)
    constants: dict[str, np.ndarray] = {
        "scale": np.float32(10 / 255).reshape(1),
        "same": np.eye(3, dtype=np.float32),
        "axes": np.array([1, 2], dtype=np.int64),
        "weights": weights.T.copy(),
        "shape": np.array([only_batch or -1, count], dtype=np.float32),
        "zero": np.float32(0).reshape(1),
        "bias": np.zeros(count, np.float32) if bias is None else np.asarray(bias, np.float32),
    }
    nodes = [
        node("Cast", [input_name], ["float"], to=FLOAT),
        node("Mul", ["float", "scale"], ["work0"]),
        *(node("MatMul", [f"work{i}", "same"], [f"work{i + 1}"]) for i in range(work)),
        node("ReduceMean", [f"work{work}", "axes"], ["colour"], keepdims=0),
    ]
    if spoiled is not None:
        constants["limit"] = np.array([99, 99, 5], np.float32)
        constants["small"] = np.full(1, 1e-9, np.float32)
        nodes += [
            node("Gemm", ["colour", "weights", "bias"], ["sound"]),
            node("Sub", ["limit", "colour"], ["room"]),
            node("Relu", ["room"], ["room or none"]),
            node(spoiled, ["room" if spoiled == "Sqrt" else "room or none"], ["spoil"]),
            node("Mul", ["spoil", "small"], ["little"]),
            node("Add", ["sound", "little"], [output_name]),
        ]
    elif only_batch is None:
        nodes.append(node("Gemm", ["colour", "weights", "bias"], [output_name]))
    else:  # a shape that depends on the data is one that nothing can infer
        nodes += [
            node("Gemm", ["colour", "weights", "bias"], ["scores"]),
            node("ReduceMean", ["scores"], ["mean"], keepdims=0),
            node("Mul", ["mean", "zero"], ["nothing"]),
            node("Add", ["shape", "nothing"], ["any shape"]),
            node("Cast", ["any shape"], ["final shape"], to=INT64),
            node("Reshape", ["scores", "final shape"], [output_name]),
        ]
    inputs = [value_info(input_name, input_type, input_shape)]
    if extra_input:
        inputs.append(value_info("extra", FLOAT, [1]))
    outputs = [value_info(output_name, FLOAT, ["N", "C" if only_batch == 0 else count])]
    return model("colours", nodes, inputs, outputs, constants)


def add_colours(zoo: Zoo, name: str, content: bytes, classes: tuple[str, ...] = COLOURS) -> None:
    """Add a model made by :func:`build_onnx` to `zoo`, or replace the one of that name."""
    zoo.add(name, content, classes=classes, resolution=(8, 8), parameters=12, macs=9, force=True)


def plain_image(colour: str, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    """A uint8 image ``[H, W, 3]`` of one of the three colours."""
    image = np.full((*size, 3), 40, np.uint8)
    image[..., COLOURS.index(colour)] = 220
    return image
