"""ONNX operators in torch: those that image classifiers are made of, one function each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor

Attributes = Mapping[str, Any]
Values = Sequence[Tensor | None]  # an input that is left out is None
Operator = Callable[[Attributes, Values], Tensor | tuple[Tensor, ...]]

# ONNX's codes of element types. All floats are float32 here: half precision is no good for learning.
_TYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float32,
    11: torch.float32,
    16: torch.float32,
}
_MIN_EPSILON = 1e-12  # graphs may have 0, which torch 2.11 refuses; beside a variance this is nothing
_PADDING = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}

K = TypeVar("K")
V = TypeVar("V")


class UnsupportedError(Exception):
    """A variant of an operator that torch does not compute in the same way."""


def batch_normalization(at: Attributes, x: Values, *, learn: bool) -> Tensor:
    """BatchNormalization; with `learn` by the statistics of the batch, of which the stored ones take a tenth.

    The momentum in the graph is left alone: it was chosen for far more steps than adaptation takes.
    """
    data, scale, offset, mean, variance = _all(x)
    epsilon = max(float(at.get("epsilon", 1e-5)), _MIN_EPSILON)
    return F.batch_norm(data, mean, variance, scale, offset, learn, 0.1, epsilon)


def _conv(at: Attributes, x: Values) -> Tensor:
    data, weight = _all(x[:2])
    axes = weight.ndim - 2
    kernel = list(weight.shape[2:])
    stride, dilation = _ints(at, "strides", [1] * axes), _ints(at, "dilations", [1] * axes)
    data, padding = _padded(at, data, kernel, stride, dilation, 0.0)
    convolve: Any = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    bias = x[2] if len(x) > 2 else None
    result: Tensor = convolve(data, weight, bias, stride, padding, dilation, int(at.get("group", 1)))
    return result


def _max_pool(at: Attributes, x: Values) -> Tensor:
    (data,) = _all(x)
    kernel = _ints(at, "kernel_shape", [])
    stride, dilation = _ints(at, "strides", [1] * len(kernel)), _ints(at, "dilations", [1] * len(kernel))
    data, padding = _padded(at, data, kernel, stride, dilation, -math.inf)
    pool: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    result: Tensor = pool(data, kernel, stride, padding, dilation, bool(at.get("ceil_mode", 0)))
    return result


def _average_pool(at: Attributes, x: Values) -> Tensor:
    (data,) = _all(x)
    kernel = _ints(at, "kernel_shape", [])
    stride, dilation = _ints(at, "strides", [1] * len(kernel)), _ints(at, "dilations", [1] * len(kernel))
    counted = bool(at.get("count_include_pad", 0))
    before = data.shape
    data, padding = _padded(at, data, kernel, stride, dilation, 0.0)
    if set(dilation) != {1} or (data.shape != before and not counted):
        raise UnsupportedError("dilation or uneven padding")
    pool: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    result: Tensor = pool(data, kernel, stride, padding, bool(at.get("ceil_mode", 0)), counted)
    return result


def _padded(
    at: Attributes, data: Tensor, kernel: list[int], stride: list[int], dilation: list[int], fill: float
) -> tuple[Tensor, list[int]]:
    """The data, padded where the padding is not even, and the padding that is left for the operator."""
    axes = len(kernel)
    how = str(at.get("auto_pad", "NOTSET"))
    before, after = [0] * axes, [0] * axes
    if how in ("SAME_UPPER", "SAME_LOWER"):
        for i, size in enumerate(data.shape[2:]):
            reach = (math.ceil(size / stride[i]) - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1
            less, more = max(0, reach - size) // 2, -(-max(0, reach - size) // 2)
            before[i], after[i] = (less, more) if how == "SAME_UPPER" else (more, less)
    elif how == "NOTSET":
        pads = _ints(at, "pads", [0] * (2 * axes))
        before, after = pads[:axes], pads[axes:]
    if before == after and (fill == 0.0 or all(2 * b <= k for b, k in zip(before, kernel, strict=True))):
        return data, before
    sides = [side for pair in reversed(list(zip(before, after, strict=True))) for side in pair]
    return F.pad(data, sides, value=fill), [0] * axes


def _gemm(at: Attributes, x: Values) -> Tensor:
    left, right = _all(x[:2])
    left = left.T if at.get("transA") else left
    right = right.T if at.get("transB") else right
    product = float(at.get("alpha", 1.0)) * (left @ right)
    bias = x[2] if len(x) > 2 else None
    return product if bias is None else product + float(at.get("beta", 1.0)) * bias


def _layer_normalization(at: Attributes, x: Values) -> Tensor:
    data, scale = _all(x[:2])
    axes = list(range(int(at.get("axis", -1)) % data.ndim, data.ndim))
    spread, mean = torch.var_mean(data, axes, correction=0, keepdim=True)
    normal = (data - mean) * torch.rsqrt(spread + float(at.get("epsilon", 1e-5))) * scale
    offset = x[2] if len(x) > 2 else None
    return normal if offset is None else normal + offset


def _attention(at: Attributes, x: Values) -> Tensor:
    if any(value is not None for value in x[4:]) or int(at.get("outputs", 1)) > 1 or at.get("softcap"):
        raise UnsupportedError("a cache, several outputs or a soft cap")
    folded = _all(x[:3])
    heads = [int(at.get(key, 1)) for key in ("q_num_heads", "kv_num_heads", "kv_num_heads")]
    query, key, value = (
        v.reshape(*v.shape[:2], count, -1).transpose(1, 2) if v.ndim == 3 else v
        for v, count in zip(folded, heads, strict=True)
    )
    mask, causal = (x[3] if len(x) > 3 else None), bool(at.get("is_causal", 0))
    if causal and (mask is not None or query.shape[2] != key.shape[2]):
        raise UnsupportedError("a causal mask beside another one, or of unequal sides")
    grouped = query.shape[1] != key.shape[1]
    answer = F.scaled_dot_product_attention(
        query, key, value, mask, is_causal=causal, scale=at.get("scale"), enable_gqa=grouped
    )
    return answer.transpose(1, 2).flatten(2) if folded[0].ndim == 3 else answer


def _constant_of_shape(at: Attributes, x: Values) -> Tensor:
    value = numpy_helper.to_array(at["value"]) if "value" in at else np.zeros(1, np.float32)
    return torch.from_numpy(value.copy()).expand(_all(x)[0].tolist())


def _instance_normalization(at: Attributes, x: Values) -> Tensor:
    data, scale, offset = _all(x)
    return F.instance_norm(data, weight=scale, bias=offset, eps=float(at.get("epsilon", 1e-5)))


def _group_normalization(at: Attributes, x: Values) -> Tensor:
    data, scale, offset = _all(x)
    groups = int(at["num_groups"])
    if len(scale) != data.shape[1]:  # up to opset 20 there is one number a group
        scale, offset = (v.repeat_interleave(data.shape[1] // groups) for v in (scale, offset))
    return F.group_norm(data, groups, scale, offset, float(at.get("epsilon", 1e-5)))


def _resize(at: Attributes, x: Values) -> Tensor:
    data = _all(x[:1])[0]
    axes = [axis % data.ndim for axis in _ints(at, "axes", list(range(data.ndim)))]
    size = list(data.shape)
    scales, sizes = (x[2] if len(x) > 2 else None), (x[3] if len(x) > 3 else None)
    for i, axis in enumerate(axes):
        if sizes is not None:
            size[axis] = int(sizes[i])
        elif scales is not None and scales.numel():
            size[axis] = math.floor(size[axis] * float(scales[i]))
    if size == list(data.shape):
        return data
    where = str(at.get("coordinate_transformation_mode", "half_pixel"))
    mode = str(at.get("mode", "nearest"))
    if size[:2] != list(data.shape[:2]) or data.ndim != 4:
        raise UnsupportedError("other axes than height and width")
    if mode == "nearest":
        exact = "nearest" if where == "asymmetric" else "nearest-exact"
        return F.interpolate(data, size[2:], mode=exact)
    return F.interpolate(
        data,
        size[2:],
        mode=_known({"linear": "bilinear", "cubic": "bicubic"}, mode),
        align_corners=where == "align_corners",
        antialias=bool(at.get("antialias", 0)),
    )


def _pad(at: Attributes, x: Values) -> Tensor:
    data = _all(x[:1])[0]
    pads = _ints(at, "pads", []) if len(x) < 2 or x[1] is None else x[1].tolist()
    chosen = x[3].tolist() if len(x) > 3 and x[3] is not None else range(data.ndim)
    axes = [int(axis) % data.ndim for axis in chosen]
    sides = [0] * (2 * data.ndim)
    for i, axis in enumerate(axes):
        sides[2 * (data.ndim - 1 - axis)] = int(pads[i])
        sides[2 * (data.ndim - 1 - axis) + 1] = int(pads[i + len(axes)])
    mode = _known(_PADDING, str(at.get("mode", "constant")))
    if mode != "constant":
        while sides[-2:] == [0, 0]:  # torch mirrors and repeats the last axes only
            sides = sides[:-2]
        return F.pad(data, sides, mode=mode)
    value = x[2] if len(x) > 2 else None
    return F.pad(data, sides, value=0.0 if value is None else float(value))


def _slice(at: Attributes, x: Values) -> Tensor:
    data, starts, ends = _all(x[:3])
    axes = x[3].tolist() if len(x) > 3 and x[3] is not None else range(len(starts))
    steps = x[4].tolist() if len(x) > 4 and x[4] is not None else [1] * len(starts)
    where = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts.tolist(), ends.tolist(), steps, strict=True):
        if step < 1:
            raise UnsupportedError("a negative step")
        most = data.shape[int(axis)]  # graphs say "to the end" with the largest integer there is
        where[int(axis)] = slice(min(int(start), most), min(int(end), most), int(step))
    return data[tuple(where)]


def _reshape(at: Attributes, x: Values) -> Tensor:
    data, shape = _all(x)
    keep = not at.get("allowzero", 0)
    size = [data.shape[i] if wanted == 0 and keep else wanted for i, wanted in enumerate(shape.tolist())]
    return data.reshape(size)


def _split(at: Attributes, x: Values) -> tuple[Tensor, ...]:
    data, axis = _all(x[:1])[0], int(at.get("axis", 0))
    if len(x) > 1 and x[1] is not None:
        return torch.split(data, x[1].tolist(), axis)
    count = int(at.get("num_outputs", at["outputs"]))
    return torch.split(data, -(-data.shape[axis] // count), axis)


def _reduce(function: Callable[..., Tensor]) -> Operator:
    def run(at: Attributes, x: Values) -> Tensor:
        data = _all(x[:1])[0]
        axes = _ints(at, "axes", []) if len(x) < 2 or x[1] is None else x[1].tolist()
        if not axes and at.get("noop_with_empty_axes"):
            return data
        return function(data, axes or list(range(data.ndim)), keepdim=bool(at.get("keepdims", 1)))

    return run


def _gather(at: Attributes, x: Values) -> Tensor:
    data, indices = _all(x)
    axis = int(at.get("axis", 0)) % data.ndim
    places = indices.to(data.device).long() % data.shape[axis]
    chosen = data.index_select(axis, places.reshape(-1))
    return chosen.reshape(*data.shape[:axis], *places.shape, *data.shape[axis + 1 :])


def _divide(at: Attributes, x: Values) -> Tensor:
    left, right = _all(x)
    return torch.div(left, right, rounding_mode=None if left.is_floating_point() else "trunc")


def _flatten(at: Attributes, x: Values) -> Tensor:
    (data,) = _all(x)
    axis = int(at.get("axis", 1))
    return data.reshape(math.prod(data.shape[: axis + data.ndim if axis < 0 else axis]), -1)


def _squeeze(at: Attributes, x: Values) -> Tensor:
    data = _all(x[:1])[0]
    axes = x[1].tolist() if len(x) > 1 and x[1] is not None else None
    return data.squeeze() if axes is None else data.squeeze(tuple(int(axis) for axis in axes))


def _unsqueeze(at: Attributes, x: Values) -> Tensor:
    data, axes = _all(x)
    for axis in sorted(int(axis) % (data.ndim + len(axes)) for axis in axes.tolist()):
        data = data.unsqueeze(axis)
    return data


def _clip(at: Attributes, x: Values) -> Tensor:
    low, high = (float(v) if v is not None else None for v in (*x[1:3], None, None)[:2])
    return _all(x[:1])[0].clamp(low, high)


def _shape(at: Attributes, x: Values) -> Tensor:
    (data,) = _all(x)
    return torch.tensor(list(data.shape)[int(at.get("start", 0)) : at.get("end")], dtype=torch.int64)


def _gelu(at: Attributes, x: Values) -> Tensor:
    (data,) = _all(x)
    return F.gelu(data, approximate=str(at.get("approximate", "none")))


def _fold(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def run(at: Attributes, x: Values) -> Tensor:
        first, *rest = _all(x)
        for other in rest:
            first = function(first, other)
        return first

    return run


def _plain(function: Callable[..., Tensor]) -> Operator:
    return lambda at, x: function(*_all(x))


OPERATORS: dict[str, Operator] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "And": _plain(torch.logical_and),
    "Attention": _attention,
    "AveragePool": _average_pool,
    "Cast": lambda at, x: _all(x)[0].to(_known(_TYPES, int(at["to"]))),
    "CastLike": lambda at, x: _all(x)[0].to(_all(x)[1].dtype),
    "Clip": _clip,
    "Concat": lambda at, x: torch.cat(_all(x), int(at["axis"])),
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "Div": _divide,
    "Dropout": lambda at, x: _all(x[:1])[0],
    "Einsum": lambda at, x: torch.einsum(str(at["equation"]), *_all(x)),
    "Elu": lambda at, x: F.elu(_all(x)[0], float(at.get("alpha", 1.0))),
    "Equal": _plain(torch.eq),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Expand": lambda at, x: _all(x)[0] * _all(x)[0].new_ones(_all(x)[1].tolist()),
    "Flatten": _flatten,
    "Floor": _plain(torch.floor),
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda at, x: _all(x)[0].mean(list(range(2, _all(x)[0].ndim)), keepdim=True),
    "GlobalMaxPool": lambda at, x: _all(x)[0].amax(list(range(2, _all(x)[0].ndim)), keepdim=True),
    "Greater": _plain(torch.gt),
    "GroupNormalization": _group_normalization,
    "HardSigmoid": lambda at, x: (
        _all(x)[0] * float(at.get("alpha", 0.2)) + float(at.get("beta", 0.5))
    ).clamp(0, 1),
    "HardSwish": _plain(F.hardswish),
    "Identity": lambda at, x: _all(x)[0],
    "InstanceNormalization": _instance_normalization,
    "LayerNormalization": _layer_normalization,
    "LeakyRelu": lambda at, x: F.leaky_relu(_all(x)[0], float(at.get("alpha", 0.01))),
    "Less": _plain(torch.lt),
    "Log": _plain(torch.log),
    "LogSoftmax": lambda at, x: F.log_softmax(_all(x)[0], int(at.get("axis", -1))),
    "MatMul": _plain(torch.matmul),
    "Max": _fold(torch.maximum),
    "MaxPool": _max_pool,
    "Min": _fold(torch.minimum),
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "Not": _plain(torch.logical_not),
    "PRelu": lambda at, x: torch.where(_all(x)[0] < 0, _all(x)[0] * _all(x)[1], _all(x)[0]),
    "Pad": _pad,
    "Pow": _plain(torch.pow),
    "Range": _plain(lambda low, high, step: torch.arange(low.item(), high.item(), step.item())),
    "Reciprocal": _plain(torch.reciprocal),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceMin": _reduce(torch.amin),
    "ReduceSum": _reduce(torch.sum),
    "Relu": _plain(F.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": _plain(torch.sigmoid),
    "Slice": _slice,
    "Softmax": lambda at, x: F.softmax(_all(x)[0], int(at.get("axis", -1))),
    "Softplus": _plain(F.softplus),
    "Split": _split,
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Sum": _fold(torch.add),
    "Tanh": _plain(torch.tanh),
    "Tile": lambda at, x: _all(x)[0].repeat(_all(x)[1].tolist()),
    "Transpose": lambda at, x: _all(x)[0].permute(_ints(at, "perm", list(range(_all(x)[0].ndim))[::-1])),
    "Unsqueeze": _unsqueeze,
    "Where": _plain(torch.where),
}


def _all(values: Values) -> list[Tensor]:
    assert all(value is not None for value in values)
    return list(values)  # type: ignore[arg-type]


def _known(choices: Mapping[K, V], wanted: K) -> V:
    if wanted not in choices:
        raise UnsupportedError(f"{wanted!r}")
    return choices[wanted]


def _ints(at: Attributes, name: str, default: list[int]) -> list[int]:
    return [int(value) for value in at.get(name, default)]
