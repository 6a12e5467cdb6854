"""The drift reference of a bundle: which features are watched, how they are spread, and their graph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from selector.drift.reference import MAX_CONFIDENCES, DriftReference
from training.data.splits import CERTIFY, FIT, TUNE
from training.features.features import feature_graph
from training.features.operators import IR_VERSION
from training.fitting.drift_bins import drift_feature
from training.outcomes.outcomes import Outcomes
from training.search.selector_graph import check_feature_graph
from zoo.files import sha256_bytes

# Light, contrast, colour, and detail of every kind, at little cost beyond that of reading the pixels.
WATCHED = (
    "log_brightness",
    "luma_std",
    "saturation",
    "hue_blue",
    "hue_red",
    "fine_diagonal_energy",
    "fine_vertical_energy",
    "fine_horizontal_energy",
    "noise_floor",
    "edge_peakedness",
)
ALPHA = 0.01  # probability that a device ever raises a false alarm


@dataclass(frozen=True)
class DriftFit:
    """A reference and its graph."""

    reference: DriftReference
    graph: bytes  # image → features


def drift_fit(outcomes: Outcomes, *, grid: int, alpha: float = ALPHA) -> DriftFit | None:
    """What inputs are held against: edges from the fit and tune samples, counts of the certify samples.

    Returns
    -------
    DriftFit or None
        None where the outcomes have none of the features that are watched, as in old profiles.

    The graph is not checked; see :func:`check_drift_graph`.
    """
    names = _watched(outcomes)
    if not names:
        return None
    known, counted = outcomes.split(FIT, TUNE), outcomes.split(CERTIFY)
    content = drift_graph(names, grid)
    digest = sha256_bytes(content)
    pairs = [(one.feature_columns(names), one.log_odds) for one in (known, counted)]
    (features, odds), (features_counted, odds_counted) = pairs
    reference = DriftReference(
        alpha=alpha,
        features=tuple(
            drift_feature(name, features[:, i], features_counted[:, i]) for i, name in enumerate(names)
        ),
        confidence={
            model: drift_feature(model, odds[:, j], odds_counted[:, j])
            for j, model in enumerate(outcomes.models[:MAX_CONFIDENCES])
        },
        file=f"drift-{digest[:12]}.onnx",
        sha256=digest,
        size_bytes=len(content),
    )
    return DriftFit(reference, content)


def check_drift_graph(outcomes: Outcomes, grid: int) -> None:
    """Compare the graph that :func:`drift_fit` would make for these outcomes with torch.

    Raises
    ------
    ParityError
        When a feature differs by more than 1e-3 of its scale.
    """
    names = _watched(outcomes)
    if names:
        _check(names, grid)


@lru_cache(maxsize=8)  # suites fit hundreds of times
def _check(names: tuple[str, ...], grid: int) -> None:
    check_feature_graph(drift_graph(names, grid), names, grid)


def _watched(outcomes: Outcomes) -> tuple[str, ...]:
    return tuple(name for name in WATCHED if name in outcomes.feature_names)


@lru_cache(maxsize=8)
def drift_graph(names: tuple[str, ...], grid: int) -> bytes:
    """The graph ``image`` uint8 ``[N, H, W, 3]`` → ``features`` float32 ``[N, F]``."""
    model = feature_graph(names, grid=grid)
    model.ir_version = IR_VERSION
    model.producer_name = "zooselect"
    content: bytes = model.SerializeToString(deterministic=True)
    return content
