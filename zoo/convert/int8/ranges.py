"""Ranges of activations, measured on images: what an 8-bit model maps to its 256 steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from zoo.convert.preprocessing_graph import PREFIX
from zoo.cores import allowed_cores
from zoo.models.session import open_session

BINS = 2048  # of a histogram of absolute values, however far away the largest one is
STEPS = 128  # that an 8-bit number has for them
HISTOGRAM_CUT = (
    1e-4  # share of the values beyond a histogram, so that a few do not leave one bin for the rest
)

Feeds = dict[str, NDArray[Any]]  # what a graph is given for one input
Floats = NDArray[np.float32]
Ranges = dict[str, tuple[Floats, Floats]]  # activation → lowest and highest value, of shape []


def cut_ranges(model: onnx.ModelProto, batches: Iterable[Feeds], count: int, cut: float, name: str) -> Ranges:
    """Ranges of all activations without a share of their largest and of their smallest values.

    Only the values beyond a range are kept, so memory does not grow with the number of images, and a range is
    exact however far away the outliers are.
    """
    ends: dict[str, tuple[Floats, Floats]] = {}
    for value, found in _activations(model, batches, name):
        most = 1 + int(cut * count * found.size)
        low, high = ends.get(value, (found[:0], found[:0]))
        ends[value] = (-_largest(-low, -found, most), _largest(high, found, most))
    return {value: (low.max(), high.min()) for value, (low, high) in ends.items()}


def least_error_ranges(model: onnx.ModelProto, batches: Iterable[Feeds], count: int, name: str) -> Ranges:
    """Ranges that change the values least, by the mean squared error of cutting off and rounding.

    After Sung et al. 2015, "Resiliency of deep neural networks under quantization", arXiv:1511.06488.

    Histograms have :data:`BINS` bins within ranges that leave :data:`HISTOGRAM_CUT` out, so time and memory
    do not depend on how far away the largest value is. `batches` are gone through twice.
    """
    batches = list(batches)
    ranges = cut_ranges(model, batches, count, HISTOGRAM_CUT, name)
    counts: dict[str, NDArray[np.int64]] = {}
    for value, found in _activations(model, batches, name):
        most = float(max(np.abs(ranges[value][0]), np.abs(ranges[value][1])))
        held = np.histogram(np.minimum(np.abs(found), most), BINS, (0, most or 1))[0]
        counts[value] = counts.get(value, 0) + held
    return {value: _within(ranges[value], _share(counts[value])) for value in counts}


def _within(ends: tuple[Floats, Floats], share: float) -> tuple[Floats, Floats]:
    low, high = ends
    most = np.float32(share * max(np.abs(low), np.abs(high)))
    return np.maximum(low, -most), np.minimum(high, most)


def _share(counts: NDArray[np.int64]) -> float:
    """The share of a histogram's width at which what is cut off and what is rounded cost the least.

    Values at zero count as many as those beside them: every range holds zero exactly, and the many zeros
    after an activation function would hide all that is cut off.
    """
    held = np.concatenate([counts[1:2], counts[1:]]).astype(np.float64)
    middle = np.arange(BINS) + 0.5
    edges = np.arange(STEPS, BINS + 1, STEPS // 16)
    sums = [np.append(np.cumsum((held * middle**power)[::-1])[::-1], 0.0)[edges] for power in range(3)]
    cut_off = sums[2] - 2 * edges * sums[1] + edges**2 * sums[0]
    rounded = (held.sum() - sums[0]) * (edges / STEPS) ** 2 / 12
    return float(edges[np.argmin(cut_off + rounded)] / BINS)


def _activations(model: onnx.ModelProto, batches: Iterable[Feeds], name: str) -> Iterator[tuple[str, Floats]]:
    """Every activation of every image, by name and flat, without those of the preprocessing."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {value.name: value for value in model.graph.value_info}
    written = [value for node in model.graph.node for value in node.output if not value.startswith(PREFIX)]
    seen = [value for value in written if value in known and _is_float(known[value])]
    shown.graph.output.extend(known[value] for value in seen)
    session = open_session(shown.SerializeToString(), name=name, threads=allowed_cores())
    names = [*seen, "logits"]
    for batch in batches:
        for value, found in zip(names, session.run(names, batch), strict=True):
            yield value, found.ravel()


def _largest(kept: Floats, more: Floats, most: int) -> Floats:
    both = np.concatenate([kept, more])
    return both if len(both) <= most else np.partition(both, -most)[-most:].copy()


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT)
