"""The bundle on disk: ``bundle.json``, the selector graph and the models, read and checked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from selector.policy import CascadePolicy, InputPolicy
from zoo.card import ModelCard, Name, Positive, Sha256, check_same_classes
from zoo.errors import BundleError, ModelNotFoundError
from zoo.files import read_record, sha256_bytes
from zoo.latency import Milliseconds

SCHEMA_VERSION = 1
BUNDLE_FILE = "bundle.json"

Probability = Annotated[float, Meta(gt=0, lt=1)]


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was proven: with confidence `confidence`, answers at `threshold` are right at least with
    probability `precision`, on inputs like those of the calibration data, with exactly `models` installed."""

    precision: Probability
    confidence: Probability  # 1 - delta
    threshold: float
    models: tuple[Name, ...]  # the installed models, cheapest first
    samples: Positive  # size of the certify split
    right: int  # how many of them were answered right
    p_value: Annotated[float, Meta(ge=0, le=1)]  # exact binomial
    subject_sha256: Sha256  # digest of policy, selector graph and models; see Bundle.subject


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The data that policy and certificates come from."""

    data_sha256: Sha256
    fit: Positive  # samples per split
    tune: Positive
    certify: Positive


class SelectorGraph(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The graph ``image`` → ``features`` float32 ``[N, F]``, ``scores`` float32 ``[N, M]``."""

    file: str
    sha256: Sha256
    size_bytes: Positive
    features: tuple[str, ...]
    estimator: str  # kind of the classifier, in words

    def __post_init__(self) -> None:
        path = PurePosixPath(self.file)
        if path.is_absolute() or ".." in path.parts or "\\" in self.file or ":" in self.file:
            raise ValueError(f"file must be a relative path inside the bundle, got {self.file!r}")


class DeviceCosts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Typical (median) wall-clock milliseconds of one image on one device."""

    device: Name
    threads: Positive
    image: tuple[Positive, Positive]  # height, width in pixels
    models: dict[str, Milliseconds]
    selector_ms: Annotated[float, Meta(ge=0)] = 0.0  # features and scores; 0 where the policy needs none


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything a device needs to choose and answer, except the model files themselves."""

    schema_version: Positive
    task: str
    classes: Annotated[tuple[str, ...], Meta(min_length=2)]
    models: Annotated[tuple[ModelCard, ...], Meta(min_length=1)]
    by_accuracy: tuple[Name, ...]  # most accurate model first (fit and tune data); the reference leads
    policy: InputPolicy | CascadePolicy
    default_precision: Probability
    certificates: tuple[Certificate, ...]
    costs: Annotated[tuple[DeviceCosts, ...], Meta(min_length=1)]
    calibration: Calibration
    selector: SelectorGraph | None = None

    def __post_init__(self) -> None:
        names = [card.name for card in self.models]
        if len(set(names)) != len(names):
            raise ValueError("models: names must be distinct")
        if sorted(self.by_accuracy) != sorted(names):
            raise ValueError(f"by_accuracy: expected each of {sorted(names)} once")
        unknown = set(self.policy.models) - set(names)
        if unknown or len(set(self.policy.models)) != len(self.policy.models):
            raise ValueError(
                f"policy: expected distinct models of this bundle, got {list(self.policy.models)}"
            )
        for certificate in self.certificates:
            if not set(certificate.models) <= set(names) or not set(certificate.models) & set(
                self.policy.models
            ):
                raise ValueError(
                    f"certificates: expected models of the policy, got {list(certificate.models)}"
                )
        for costs in self.costs:
            if set(costs.models) != set(names):
                raise ValueError(f"costs of {costs.device!r}: expected each of {sorted(names)} once")
        if isinstance(self.policy, InputPolicy) and self.selector is None:
            raise ValueError("selector: an input policy needs a selector graph")
        if set(check_same_classes(self.models)) != set(self.classes):
            raise ValueError("classes: expected the classes of the models")

    @property
    def reference(self) -> str:
        """The most accurate single model: what answers when nothing is certified."""
        return self.by_accuracy[0]

    def card(self, name: str) -> ModelCard:
        """The card of one model; raises :class:`ModelNotFoundError`."""
        for card in self.models:
            if card.name == name:
                return card
        raise ModelNotFoundError(
            f"no model {name!r} in this bundle. It names: {', '.join(card.name for card in self.models)}."
        )

    def subject(self, models: Iterable[str]) -> str:
        """Digest of all that a certificate for the installed `models` depends on.

        A certificate whose ``subject_sha256`` differs was made for something else and does not count.
        """
        return subject(self.policy, self.selector, self.classes, [self.card(name) for name in models])

    def costs_ms(self, device: str | None = None) -> DeviceCosts:
        """Costs on `device`, by default the first device that was measured.

        Raises
        ------
        BundleError
            When that device was not measured.
        """
        for costs in self.costs:
            if device in (None, costs.device):
                return costs
        raise BundleError(
            f"expected costs of device {device!r}, got only: {', '.join(c.device for c in self.costs)}. "
            "Name one of these, or measure on the device: zooselect bench"
        )


def subject(
    policy: InputPolicy | CascadePolicy,
    graph: SelectorGraph | None,
    classes: tuple[str, ...],
    models: Iterable[ModelCard],
) -> str:
    """SHA-256 of policy, selector graph, classes and model digests, in an order-free canonical form."""
    parts = {
        "policy": policy,
        "selector": graph.sha256 if graph else None,
        "classes": classes,
        "models": {card.name: card.sha256 for card in models},
    }
    return sha256_bytes(msgspec.json.encode(parts, order="deterministic"))


def read_bundle(folder: str | Path) -> Bundle:
    """Read and validate ``bundle.json`` in `folder`.

    Raises
    ------
    BundleError
        When there is none.
    CardError
        When a field is missing, unknown, of the wrong type or inconsistent; the message has its path.
    SchemaVersionError
        When a newer zooselect wrote it.
    """
    path = Path(folder) / BUNDLE_FILE
    if not path.is_file():
        raise BundleError(
            f"expected a bundle in {folder}, got no {BUNDLE_FILE} there. "
            "Make one with 'zooselect export', or check the path."
        )
    return read_record(path, Bundle, schema_version=SCHEMA_VERSION)


def bundle_json_schema() -> dict[str, Any]:
    """JSON Schema of ``bundle.json``."""
    return msgspec.json.schema(Bundle)
