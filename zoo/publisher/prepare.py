"""A model made ready for publishing: checked, taken apart, opened again as a device will, and measured."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from zoo.errors import ModelError, ParityError
from zoo.files import sha256_bytes
from zoo.models.card import ModelCard
from zoo.models.model import Model
from zoo.publisher.external_data import externalise
from zoo.publisher.peak_memory import measure_peak
from zoo.publisher.staging import Staging
from zoo.releases.release import IMAGES_VERSION, SCHEMA_VERSION, ModelRelease, SelfTest, fill

# The first ONNX Runtime that opens weights in a folder of its own, and the newest that it says it supports:
# 1.24.1 refuses opset 26 and IR version 14. (The table in its documentation that was at hand ends with 1.20.)
OLDEST, OLDEST_OPSET, OLDEST_IR = "1.24", 25, 13
MIN_PARTS_FOR_WHOLE = 8  # parts from which on a device that has none gets them faster in one piece
MAX_REFERENCE_SIDE = 1024  # pixels of a side of the test image, or the length of another test input
# Another processor adds in another order. What that does shows when ONNX Runtime leaves its optimisations
# out; ten times as much is allowed, and always 1 % of the largest logit, because processors without dot
# products of bytes saturate. A model that is broken misses by the size of its logits.
ROUNDINGS, LEAST_SHARE = 10.0, 0.01


def offer(card: ModelCard, content: bytes, staged: Staging) -> ModelRelease:
    """Check a model and write its blobs into the staging folder; version 1.

    Raises
    ------
    ModelError
        When it cannot be taken apart, does not follow the model contract or answers with what is no number.
    ParityError
        When it does not answer from there exactly as it does in one file.
    """
    graph, weights = externalise(content, name=card.name)
    parts = {sha256_bytes(part): part for part in (graph, *weights)}
    blobs = [staged.add(part) for part in (graph, *weights)]
    kind = card.kind
    height, width = (min(side, MAX_REFERENCE_SIDE) for side in card.resolution)
    image = kind.one(kind.reference((height, width)))
    expected = Model(card, content).logits(image)
    if not np.isfinite(expected).all():
        raise ModelError(
            f"model {card.name!r}: expected finite logits for the test image, got others. Train it again."
        )
    proto = onnx.load_model_from_string(graph)
    release = ModelRelease(
        schema_version=IMAGES_VERSION if kind.record is None else SCHEMA_VERSION,
        version=1,
        card=card,
        graph=blobs[0],
        weights=tuple(blobs[1:]),
        whole=staged.add(b"".join(parts.values())) if len(parts) >= MIN_PARTS_FOR_WHOLE else None,
        min_onnxruntime=needed_runtime(proto),
        opset=next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")),
        peak_memory_bytes=1,
        selftest=SelfTest(
            image=(height, width),
            logits=tuple(map(float, expected[0])),
            tolerance=_tolerance(content, kind.feeds(image), expected),
        ),
    )
    filled = fill(graph, release)
    Model(card, filled, weights=staged.folder)
    measured = measure_peak(filled, staged.folder, (height, width), kind, name=card.name)
    if measured.logits != release.selftest.logits:
        raise ParityError(
            f"model {card.name!r}: expected the same logits with the weights beside the graph, got others. "
            "It cannot be published; export it again with another opset."
        )
    return msgspec.structs.replace(release, peak_memory_bytes=measured.peak_bytes)


def needed_runtime(proto: onnx.ModelProto) -> str:
    """The oldest ONNX Runtime that is known to read it; the one at hand, where it is newer than we know."""
    newest = max(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    if newest <= OLDEST_OPSET and proto.ir_version <= OLDEST_IR:
        return OLDEST
    return ".".join(ort.__version__.split(".")[:2])


def _tolerance(content: bytes, feeds: dict[str, NDArray[Any]], expected: NDArray[np.float32]) -> float:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    rounding = float(np.abs(plain.run(["logits"], feeds)[0] - expected).max())
    return max(ROUNDINGS * rounding, LEAST_SHARE * float(np.abs(expected).max()), 1e-6)
