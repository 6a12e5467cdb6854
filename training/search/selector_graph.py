"""The selector graph: features and estimator merged into one ONNX file, checked against the originals."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.compose
from numpy.typing import NDArray

from training.features.feature_kind import ScoutLike
from training.features.kinds import features_of
from training.features.operators import IR_VERSION
from zoo.errors import ParityError
from zoo.inputs.kind import InputKind
from zoo.inputs.kinds import IMAGE
from zoo.models.latency import LatencyTable
from zoo.models.session import open_session
from zoo.models.timing import time_interleaved
from zoo.models.zoo import Zoo

if TYPE_CHECKING:
    from training.features.input_features import InputFeatures
    from training.policies.estimators import CorrectnessEstimator

TOLERANCE = 1e-4


def selector_graph(
    names: Sequence[str],
    scores: onnx.ModelProto,
    *,
    grid: int,
    scout: ScoutLike | None = None,
    kind: InputKind = IMAGE,
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
    kind
        The kind of input, if it is no image.

    Raises
    ------
    ParityError
        When the merged graph differs from torch and `scores` by more than 1e-4.
    """
    from training.features.input_features import InputFeatures

    front = features_of(kind).graph(names, grid=grid, scout=scout)
    front.ir_version = scores.ir_version = IR_VERSION
    back = onnx.compose.add_prefix(scores, "scores/", rename_inputs=False, rename_outputs=False)
    merged = onnx.compose.merge_models(
        front, back, io_map=[("features", "features")], outputs=["features", "scores"]
    )
    _strip(merged)
    merged.producer_name = "zooselect"
    onnx.checker.check_model(merged)
    content: bytes = merged.SerializeToString(deterministic=True)
    check_selector_graph(content, InputFeatures(names, grid=grid, scout=scout, kind=kind).eval(), scores)
    return content


def check_selector_graph(content: bytes, module: InputFeatures, scores: onnx.ModelProto) -> float:
    """Compare features with torch's, and scores with the score graph's, on synthetic inputs of several forms.

    Returns
    -------
    float
        The largest difference of a score.

    Raises
    ------
    ParityError
        When it is above 1e-4, or a feature differs by more than 1e-3 of its scale.
    """
    merged = open_session(content, name="selector")
    separate = open_session(scores.SerializeToString(), name="scores")
    worst = 0.0
    for images in features_of(module.kind).synthetic():
        features = module.of(images)
        got_features, got = merged.run(["features", "scores"], module.kind.feeds(images))
        # of the same features: where torch rounds otherwise, a tree may end in another leaf
        wanted = separate.run(["scores"], {"features": got_features})[0]
        off = float((np.abs(got_features - features) / np.maximum(1.0, np.abs(features))).max())
        worst = max(worst, float(np.abs(got - wanted).max()))
        if not (off <= 1e-3 and worst <= TOLERANCE):
            raise ParityError(
                f"selector graph: expected scores within {TOLERANCE:g} of torch and scikit-learn, got "
                f"{worst:.1e} (features {off:.1e}) on {module.kind.noun}s {list(images.shape)}. "
                "Check the versions in constraints.txt."
            )
    return worst


def check_feature_graph(content: bytes, names: Sequence[str], grid: int, kind: InputKind = IMAGE) -> None:
    """Compare a graph of features alone with torch, on the same inputs.

    Raises
    ------
    ParityError
        When a feature differs by more than 1e-3 of its scale.
    """
    from training.features.input_features import InputFeatures

    graph = open_session(content, name="features")
    module = InputFeatures(names, grid=grid, kind=kind).eval()
    for images in features_of(kind).synthetic():
        wanted = module.of(images)
        got = graph.run(["features"], kind.feeds(images))[0]
        off = float((np.abs(got - wanted) / np.maximum(1.0, np.abs(wanted))).max())
        if not off <= 1e-3:
            raise ParityError(
                f"feature graph: expected what torch computes, got a difference of {off:.1e} on "
                f"{kind.noun}s {list(images.shape)}. Check the versions in constraints.txt."
            )


def score_difference(estimator: CorrectnessEstimator, content: bytes, features: NDArray[np.float32]) -> float:
    """Largest difference between scikit-learn's scores and the ONNX graph's on features ``[n, F]``."""
    session = open_session(content, name="scores")
    got = session.run(["scores"], {"features": np.ascontiguousarray(features)})[0]
    return float(np.abs(got - estimator.scores(features)).max())


def checked_scores(estimator: CorrectnessEstimator, features: NDArray[np.float32]) -> onnx.ModelProto:
    """The graph of a fitted estimator, held against it on features ``[n, F]``.

    Raises
    ------
    ParityError
        When scores differ by more than 1e-4.
    """
    scores = estimator.to_onnx(features.shape[1])
    off = score_difference(estimator, scores.SerializeToString(deterministic=True), features)
    if not off <= TOLERANCE:
        raise ParityError(
            f"expected ONNX scores within {TOLERANCE:g} of scikit-learn's {estimator.kind!r}, "
            f"got {off:.1e}. Check the versions in constraints.txt."
        )
    return scores


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
    images = [zoo.kind.one(zoo.kind.random(table.image, rng)) for _ in range(8)]
    times = time_interleaved(
        {
            "selector": lambda image: graph.run(["scores"], zoo.kind.feeds(image)),
            "model": model.logits,
        },
        images,
        runs=runs,
    )
    here = {name: float(np.median(values.kept_ms)) for name, values in times.items()}
    return here["selector"] / here["model"] * rows[cheapest]


def time_selector_us(
    content: bytes, image: tuple[int, int], *, runs: int = 2000, kind: InputKind = IMAGE
) -> NDArray[np.float64]:
    """Microseconds ``[runs]`` of single calls of a selector graph on a random input, one thread."""
    graph = open_session(content, name="selector")
    feeds = kind.feeds(kind.one(kind.random(image, np.random.default_rng(0))))
    times = np.empty(runs)
    for r in range(-100, runs):
        start = time.perf_counter()
        graph.run(["scores"], feeds)
        if r >= 0:
            times[r] = (time.perf_counter() - start) * 1e6
    return times


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
