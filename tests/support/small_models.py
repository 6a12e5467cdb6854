"""Small ONNX models that keep the contract, and images for them. Making a model needs the package onnx."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoo.models.zoo import Zoo

UINT8 = 2  # as ONNX numbers its types

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
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

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
        helper.make_node("Cast", [input_name], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["work0"]),
        *(helper.make_node("MatMul", [f"work{i}", "same"], [f"work{i + 1}"]) for i in range(work)),
        helper.make_node("ReduceMean", [f"work{work}", "axes"], ["colour"], keepdims=0),
    ]
    if only_batch is None:
        nodes.append(helper.make_node("Gemm", ["colour", "weights", "bias"], [output_name]))
    else:  # a shape that depends on the data is one that nothing can infer
        nodes += [
            helper.make_node("Gemm", ["colour", "weights", "bias"], ["scores"]),
            helper.make_node("ReduceMean", ["scores"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
            helper.make_node("Add", ["shape", "nothing"], ["any shape"]),
            helper.make_node("Cast", ["any shape"], ["final shape"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["scores", "final shape"], [output_name]),
        ]
    inputs = [helper.make_tensor_value_info(input_name, input_type, input_shape)]
    if extra_input:
        inputs.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1]))
    graph = helper.make_graph(
        nodes,
        "colours",
        inputs,
        [
            helper.make_tensor_value_info(
                output_name, TensorProto.FLOAT, ["N", "C" if only_batch == 0 else count]
            )
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def add_colours(zoo: Zoo, name: str, content: bytes, classes: tuple[str, ...] = COLOURS) -> None:
    """Add a model made by :func:`build_onnx` to `zoo`."""
    zoo.add(name, content, classes=classes, resolution=(8, 8), parameters=12, macs=9)


def plain_image(colour: str, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    """A uint8 image ``[H, W, 3]`` of one of the three colours."""
    image = np.full((*size, 3), 40, np.uint8)
    image[..., COLOURS.index(colour)] = 220
    return image
