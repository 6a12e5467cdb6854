"""The drift reference of a bundle: which features are watched, how they are spread, and their graph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from selector.drift.reference import MAX_CONFIDENCES, DriftReference
from training.data.splits import CERTIFY, FIT, TUNE
from training.features.kinds import features_of
from training.features.operators import IR_VERSION
from training.fitting.drift_bins import drift_feature
from training.outcomes.outcomes import Outcomes
from training.search.selector_graph import check_feature_graph
from zoo.files import sha256_bytes
from zoo.inputs.kind import InputKind
from zoo.inputs.kinds import IMAGE

ALPHA = 0.01  # probability that a device ever raises a false alarm


@dataclass(frozen=True)
class DriftFit:
    """A reference and its graph."""

    reference: DriftReference
    graph: bytes  # image → features


def drift_fit(
    outcomes: Outcomes, *, grid: int, alpha: float = ALPHA, kind: InputKind = IMAGE
) -> DriftFit | None:
    """What inputs are held against: edges from the fit and tune samples, counts of the certify samples.

    Returns
    -------
    DriftFit or None
        None where the outcomes have none of the features that are watched, as in old profiles.

    The graph is not checked; see :func:`check_drift_graph`.
    """
    names = _watched(outcomes, kind)
    if not names:
        return None
    known, counted = outcomes.split(FIT, TUNE), outcomes.split(CERTIFY)
    content = drift_graph(names, grid, kind)
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


def check_drift_graph(outcomes: Outcomes, grid: int, kind: InputKind = IMAGE) -> None:
    """Compare the graph that :func:`drift_fit` would make for these outcomes with torch.

    Raises
    ------
    ParityError
        When a feature differs by more than 1e-3 of its scale.
    """
    names = _watched(outcomes, kind)
    if names:
        _check(names, grid, kind)


@lru_cache(maxsize=8)  # suites fit hundreds of times
def _check(names: tuple[str, ...], grid: int, kind: InputKind) -> None:
    check_feature_graph(drift_graph(names, grid, kind), names, grid, kind)


def _watched(outcomes: Outcomes, kind: InputKind) -> tuple[str, ...]:
    return tuple(name for name in features_of(kind).watched if name in outcomes.feature_names)


@lru_cache(maxsize=8)
def drift_graph(names: tuple[str, ...], grid: int, kind: InputKind = IMAGE) -> bytes:
    """The graph ``image`` (or an input of another kind) → ``features`` float32 ``[N, F]``."""
    model = features_of(kind).graph(names, grid=grid)
    model.ir_version = IR_VERSION
    model.producer_name = "zooselect"
    content: bytes = model.SerializeToString(deterministic=True)
    return content
