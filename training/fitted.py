"""A fitted selector: the bundle to be and how it came about, in memory and in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from selector.bundle import Bundle, Certificate, SelectorGraph
from selector.policy import CascadePolicy, check_precision
from training.policies import FittedCascade, FittedInputPolicy, FittedPolicy
from zoo.card import Positive, Sha256
from zoo.errors import DataError
from zoo.files import encode_record, read_record, read_verified, write_atomic

SCHEMA_VERSION = 1
FIT_FILE = "fit.json"


class FeatureRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whether an input feature was kept, and why."""

    name: str
    kept: bool
    reason: str


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What cross-validation on the fit and tune samples says of one kind of policy."""

    kind: str
    models: tuple[str, ...]
    reaches_target: bool
    accuracy: float  # at the cheapest threshold that reaches the target, else the best it has
    mean_ms: float
    chosen: bool


class FitRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fitted selector: the bundle to be, and how it came about."""

    schema_version: Positive
    inputs_sha256: Sha256  # see fit_inputs_sha256
    bundle: Bundle
    scores: SelectorGraph | None  # features → scores, for simulation on stored features
    grid: Positive
    delta: float
    target_accuracy: float  # what the certify samples have to show for the default precision
    comparisons: tuple[Comparison, ...]
    features: tuple[FeatureRecord, ...]
    estimators: dict[str, tuple[float, float]]  # frontier quality: mean, standard error


@dataclass(frozen=True)
class Fitted:
    """A fitted selector in memory, ready to be simulated, written and exported."""

    record: FitRecord
    policy: FittedPolicy
    graph: bytes | None
    scores: bytes | None

    def certificate(self, precision: float | None = None) -> Certificate | None:
        """The certificate that covers `precision` (by default the fitted one), or None."""
        asked = check_precision(self.record.bundle.default_precision if precision is None else precision)
        covering = [c for c in self.record.bundle.certificates if c.precision >= asked - 1e-12]
        return min(covering, key=lambda c: c.precision) if covering else None

    def highest_certified(self) -> float | None:
        """The highest precision that is certified, or None."""
        return max((c.precision for c in self.record.bundle.certificates), default=None)


def save_fit(fitted: Fitted, folder: str | Path) -> None:
    """Write a fitted selector; ``fit.json`` is written last and names the other files by their digests."""
    target = Path(folder)
    record = fitted.record
    for graph, content in ((record.bundle.selector, fitted.graph), (record.scores, fitted.scores)):
        if graph is not None and content is not None:
            write_atomic(target / graph.file, content)
    write_atomic(target / FIT_FILE, encode_record(record))
    named = {graph.file for graph in (record.bundle.selector, record.scores) if graph is not None}
    for pattern in ("selector-*.onnx", "scores-*.onnx"):
        for path in target.glob(pattern):
            if path.name not in named:
                path.unlink(missing_ok=True)


def load_fit(folder: str | Path) -> Fitted:
    """Read a fitted selector.

    Raises
    ------
    DataError
        When there is none.
    CardError, DigestError
        When a file does not validate or is not the recorded one.
    """
    source = Path(folder)
    path = source / FIT_FILE
    if not path.is_file():
        raise DataError(
            f"expected a fitted selector in {folder}, got no {FIT_FILE} there. Run 'zooselect fit'."
        )
    record = read_record(path, FitRecord, schema_version=SCHEMA_VERSION)
    graph, scores = (
        read_verified(source / item.file, item.sha256, item.size_bytes) if item is not None else None
        for item in (record.bundle.selector, record.scores)
    )
    return Fitted(record, _restore(record, scores), graph, scores)


def _restore(record: FitRecord, scores: bytes | None) -> FittedPolicy:
    costs = record.bundle.costs_ms()
    policy = record.bundle.policy
    if isinstance(policy, CascadePolicy):
        return FittedCascade(policy, costs.models)
    if scores is None or record.scores is None:
        raise DataError("fit.json: an input policy needs its score graph. Run 'zooselect fit' again.")
    return FittedInputPolicy(
        policy, scores, record.scores.features, costs.models, overhead_ms=costs.selector_ms
    )
