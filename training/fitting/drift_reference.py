"""The drift reference of a bundle: which features are watched, how they are spread, and their graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from selector.drift.monitor import DriftFeature
from selector.drift.reference import MOST_CONFIDENCES, DriftReference
from training.data.splits import CERTIFY, FIT, TUNE
from training.features.features import feature_graph
from training.features.operators import IR_VERSION
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
_TAIL = (0.0, 0.002, 0.01, 0.03)  # where most changes show
_SHARES = (*_TAIL, *(i / 16 for i in range(1, 16)), *(1 - share for share in reversed(_TAIL)))
_TOLERANCE = 1e-4  # by which two computers may disagree about a feature, relative to 1 or more


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

    Raises
    ------
    ParityError
        When the graph differs from torch.
    """
    names = tuple(name for name in WATCHED if name in outcomes.feature_names)
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
            for j, model in enumerate(outcomes.models[:MOST_CONFIDENCES])
        },
        file=f"drift-{digest[:12]}.onnx",
        sha256=digest,
        size_bytes=len(content),
    )
    return DriftFit(reference, content)


@lru_cache(maxsize=8)  # suites fit hundreds of times
def drift_graph(names: tuple[str, ...], grid: int) -> bytes:
    """The graph ``image`` uint8 ``[N, H, W, 3]`` → ``features`` float32 ``[N, F]``, checked against torch."""
    model = feature_graph(names, grid=grid)
    model.ir_version = IR_VERSION
    model.producer_name = "zooselect"
    content: bytes = model.SerializeToString(deterministic=True)
    check_feature_graph(content, names, grid)
    return content


def drift_feature(name: str, known: NDArray[np.floating], counted: NDArray[np.floating]) -> DriftFeature:
    """How values are spread over bins.

    Parameters
    ----------
    known
        Values ``[n]`` whose quantiles are the edges; other samples than the counted ones, see
        :class:`selector.drift.monitor.DriftFeature`.
    counted
        Values ``[n]`` of the calibration samples.
    """
    edges = bin_edges(known)
    bins = np.searchsorted(np.array(edges, np.float32), counted.astype(np.float32), side="right")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    return DriftFeature(name=name, edges=edges, counts=tuple(counts.tolist()))


def bin_edges(values: NDArray[np.floating]) -> tuple[float, ...]:
    """Ascending edges at quantiles of values ``[n]``, closer together in the tails.

    No edge comes closer to a value that many samples share than computers may disagree: such a value has a
    bin of its own.
    """
    quantiles = np.quantile(values.astype(np.float64), _SHARES, method="lower")
    margins = _TOLERANCE * np.maximum(1, np.abs(quantiles))
    edges = [quantiles[0] - margins[0]]
    shared = False
    for i in range(1, len(quantiles)):
        if quantiles[i] - quantiles[i - 1] <= 2 * margins[i]:
            shared = True
            continue
        if shared:
            edges.append(quantiles[i - 1] + margins[i - 1])
        shared = False
        edges.append(quantiles[i] - margins[i])
    edges.append(quantiles[-1] + margins[-1])
    rounded: Sequence[float] = np.unique(np.array(edges, np.float32)).tolist()
    return tuple(rounded)
