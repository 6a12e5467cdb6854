"""The selector graph: features and estimator merged into one ONNX file, checked against the originals."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.compose
from numpy.typing import NDArray

from training.features.features import feature_graph
from training.features.operators import IR_VERSION
from training.features.scout import Scout
from zoo.errors import ParityError
from zoo.models.latency import LatencyTable
from zoo.models.model import open_session
from zoo.models.timing import time_interleaved
from zoo.models.zoo import Zoo

if TYPE_CHECKING:
    from training.features.input_features import InputFeatures
    from training.policies.estimators import CorrectnessEstimator

TOLERANCE = 1e-4


def selector_graph(
    names: Sequence[str], scores: onnx.ModelProto, *, grid: int, scout: Scout | None = None
) -> bytes:
    """The graph ``image`` uint8 ``[N, H, W, 3]`` → ``features`` ``[N, F]``, ``scores`` ``[N, M]``.

    Parameters
    ----------
    names
        The F input features, in the order that `scores` expects.
    scores
        ``features`` float32 ``[N, F]`` → ``scores`` float32 ``[N, M]``.
    grid
        Pixels read per axis; see :class:`training.features.input_features.InputFeatures`.
    scout
        Where features named ``scout_<model>`` come from.

    Raises
    ------
    ParityError
        When the merged graph differs from torch and `scores` by more than 1e-4.
    """
    from training.features.input_features import InputFeatures

    front = feature_graph(names, grid=grid, scout=scout)
    front.ir_version = scores.ir_version = IR_VERSION
    back = onnx.compose.add_prefix(scores, "scores/", rename_inputs=False, rename_outputs=False)
    merged = onnx.compose.merge_models(
        front, back, io_map=[("features", "features")], outputs=["features", "scores"]
    )
    _strip(merged)
    merged.producer_name = "zooselect"
    onnx.checker.check_model(merged)
    content: bytes = merged.SerializeToString(deterministic=True)
    check_selector_graph(content, InputFeatures(names, grid=grid, scout=scout).eval(), scores)
    return content


def check_selector_graph(content: bytes, module: InputFeatures, scores: onnx.ModelProto) -> float:
    """Compare features with torch's, and scores with the score graph's, on synthetic images of several kinds.

    Returns
    -------
    float
        The largest difference of a score.

    Raises
    ------
    ParityError
        When it is above 1e-4, or a feature differs by more than 1e-3 of its scale.
    """
    import torch

    merged = open_session(content, name="selector")
    separate = open_session(scores.SerializeToString(), name="scores")
    worst = 0.0
    for images in _synthetic_images():
        with torch.inference_mode():
            features = module(torch.from_numpy(images)).numpy()
        got_features, got = merged.run(["features", "scores"], {"image": images})
        # of the same features: where torch rounds otherwise, a tree may end in another leaf
        wanted = separate.run(["scores"], {"features": got_features})[0]
        off = float((np.abs(got_features - features) / np.maximum(1.0, np.abs(features))).max())
        worst = max(worst, float(np.abs(got - wanted).max()))
        if not (off <= 1e-3 and worst <= TOLERANCE):
            raise ParityError(
                f"selector graph: expected scores within {TOLERANCE:g} of torch and scikit-learn, got "
                f"{worst:.1e} (features {off:.1e}) on images {list(images.shape)}. "
                "Check the versions in constraints.txt."
            )
    return worst


def check_feature_graph(content: bytes, names: Sequence[str], grid: int) -> None:
    """Compare a graph of features alone with torch, on the same images.

    Raises
    ------
    ParityError
        When a feature differs by more than 1e-3 of its scale.
    """
    import torch

    from training.features.input_features import InputFeatures

    graph = open_session(content, name="features")
    module = InputFeatures(names, grid=grid).eval()
    for images in _synthetic_images():
        with torch.inference_mode():
            wanted = module(torch.from_numpy(images)).numpy()
        got = graph.run(["features"], {"image": images})[0]
        off = float((np.abs(got - wanted) / np.maximum(1.0, np.abs(wanted))).max())
        if not off <= 1e-3:
            raise ParityError(
                f"feature graph: expected what torch computes, got a difference of {off:.1e} on images "
                f"{list(images.shape)}. Check the versions in constraints.txt."
            )


def score_difference(estimator: CorrectnessEstimator, content: bytes, features: NDArray[np.float32]) -> float:
    """Largest difference between scikit-learn's scores and the ONNX graph's on features ``[n, F]``."""
    session = open_session(content, name="scores")
    got = session.run(["scores"], {"features": np.ascontiguousarray(features)})[0]
    return float(np.abs(got - estimator.scores(features)).max())


def selector_cost_ms(
    content: bytes,
    zoo: Zoo,
    table: LatencyTable,
    *,
    runs: int = 300,
) -> float:
    """Milliseconds of the selector graph on the device of a latency table.

    The graph is timed here, interleaved with the cheapest model of the zoo, and scaled by that model's
    time in the table: the ratio carries over to another device far better than the time does.
    """
    rows = {name: row.latency.p50_ms for name, row in table.models.items() if name in zoo.names}
    cheapest = min(rows, key=lambda name: rows[name])
    graph = open_session(content, name="selector")
    model = zoo.model(cheapest, threads=table.threads)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (1, *table.image, 3), dtype=np.uint8) for _ in range(8)]
    times = time_interleaved(
        {
            "selector": lambda image: graph.run(["scores"], {"image": image}),
            "model": model.logits,
        },
        images,
        runs=runs,
    )
    here = {name: float(np.median(values.kept_ms)) for name, values in times.items()}
    return here["selector"] / here["model"] * rows[cheapest]


def time_selector_us(content: bytes, image: tuple[int, int], *, runs: int = 2000) -> NDArray[np.float64]:
    """Microseconds ``[runs]`` of single calls of a selector graph on random images, one thread."""
    graph = open_session(content, name="selector")
    pixels = np.random.default_rng(0).integers(0, 256, (1, *image, 3), dtype=np.uint8)
    times = np.empty(runs)
    for r in range(-100, runs):
        start = time.perf_counter()
        graph.run(["scores"], {"image": pixels})
        if r >= 0:
            times[r] = (time.perf_counter() - start) * 1e6
    return times


def _synthetic_images() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    images: list[NDArray[np.uint8]] = [
        rng.integers(0, 256, (64, 32, 32, 3), dtype=np.uint8),
        np.zeros((1, 1, 1, 3), dtype=np.uint8),
        np.full((2, 5, 300, 3), 255, dtype=np.uint8),
    ]
    for height, width in ((224, 224), (97, 61)):
        slope = np.linspace(0, 255, height)[:, None, None] * np.linspace(0, 1, width)[None, :, None]
        smooth = slope[None] * rng.uniform(0.2, 1.0, (8, 1, 1, 3)) + rng.normal(0, 6, (8, height, width, 3))
        images.append(smooth.clip(0, 255).astype(np.uint8))
    return images


def _strip(model: onnx.ModelProto) -> None:
    """Remove notes of the exporter: they hold paths and stack traces."""
    model.doc_string = ""
    del model.metadata_props[:]
    model.graph.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        value.doc_string = ""
        if hasattr(value, "metadata_props"):
            del value.metadata_props[:]
