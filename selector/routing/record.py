"""The record of a router, ``router.json``: policies, certificates and graphs, and no model files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from selector.policies.policy import Policy
from selector.policies.pool import PoolPolicy
from selector.policies.staged import StagedPolicy, State
from selector.routing.constraint import RouteConstraint
from zoo.errors import BundleError
from zoo.files import decode_record, read_json, sha256_bytes
from zoo.releases.input_reference import DriftFeature
from zoo.types import ModelName, NonNegative, Positive, Sha256, check_relative

ROUTER_VERSION = 2  # since 2 policies may read estimates
ROUTER_FILE = "router.json"
MAX_MODELS = 128
MAX_FEATURES = 1024
MAX_WATCHED = 32  # features that are held against their spread

Evidence = Literal["none", "score", "logits"]
RouteTest = Literal["binomial", "control-variate", "paired", "betting"]
FeatureName = Annotated[str, Meta(min_length=1, max_length=128)]
Finite = Annotated[float, Meta(ge=-1.7e308, le=1.7e308)]
Cost = Annotated[float, Meta(ge=0, le=1e12)]


class ScoreScale(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a model's score is worth: a line through points, from score to log-odds of a right answer.

    Beyond the first and the last point the log-odds stay as they are there.
    """

    scores: Annotated[tuple[Finite, ...], Meta(min_length=1, max_length=64)]  # ascending
    log_odds: Annotated[tuple[Finite, ...], Meta(min_length=1, max_length=64)]  # not descending

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.log_odds):
            raise ValueError(f"log_odds: expected {len(self.scores)}, one a score, got {len(self.log_odds)}")
        if any(not low < high for low, high in zip(self.scores, self.scores[1:], strict=False)):
            raise ValueError("scores: expected distinct ones in ascending order")
        if any(not low <= high for low, high in zip(self.log_odds, self.log_odds[1:], strict=False)):
            raise ValueError("log_odds: expected none below the one before")


class RoutedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model that the application runs."""

    name: ModelName
    mean_cost: Cost  # of an answer on the fit and tune samples
    tells: Evidence  # what the router has to be told of its answers
    scale: ScoreScale | None = None  # where it tells a score, or log-odds from logits take its place


class GivenFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A number that the application gives with every input."""

    name: FeatureName
    fill: Finite  # taken where there is none
    gaps: bool  # whether it may be missing; a further column says where it is


class GraphFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The graph ``features`` float32 ``[N, F]`` → ``scores`` float32 ``[N, M]``."""

    file: str
    sha256: Sha256
    size_bytes: Positive
    features: tuple[str, ...]  # columns of :attr:`RouterRecord.columns`
    estimator: str

    def __post_init__(self) -> None:
        check_relative(self.file)


class RouteReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How features and scores of the certify samples are spread."""

    alpha: Annotated[float, Meta(ge=1e-12, lt=1)]
    features: Annotated[tuple[DriftFeature, ...], Meta(max_length=MAX_WATCHED)]
    columns: tuple[NonNegative, ...]  # of each feature among :attr:`RouterRecord.columns`
    confidence: dict[ModelName, DriftFeature]  # model → log-odds

    def __post_init__(self) -> None:
        if len(self.columns) != len(self.features):
            raise ValueError(
                f"columns: expected {len(self.features)}, one a feature, got {len(self.columns)}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(feature.name for feature in self.features)


class RouteCertificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was proven: with confidence `confidence`, one policy at `threshold` meets `constraint`."""

    constraint: RouteConstraint
    confidence: Annotated[float, Meta(gt=0, lt=1)]  # 1 - delta
    policy: NonNegative  # index into the router's policies
    threshold: float
    samples: Positive  # certify samples that it was proven on
    quality: Annotated[float, Meta(ge=0, le=1)]  # mean over them
    mean_cost: Cost  # that was paid for them
    p_value: Annotated[float, Meta(ge=0, le=1)]
    test: RouteTest
    subject_sha256: Sha256
    most_cost: Cost | None = None  # no answer may cost more, for it to hold; None: it does not depend on that


class RouterCalibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The samples that policies and certificates come from."""

    data_sha256: Sha256  # of the table
    fit: Positive
    tune: Positive
    certify: Positive
    graded: bool  # whether answers have a quality between 0 and 1, else they are right or wrong
    environment: str | None = None  # samples of this environment only; None: of all


class RouterRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that a router needs to decide.

    Examples
    --------
    >>> from selector.routing.record import read_router
    >>> record = read_router("my-router")
    >>> record.unit, [model.name for model in record.models]
    ('usd', ['small', 'large'])
    """

    schema_version: Positive
    unit: Annotated[str, Meta(min_length=1, max_length=64)]  # of costs
    models: Annotated[tuple[RoutedModel, ...], Meta(min_length=1, max_length=MAX_MODELS)]  # cheapest first
    by_accuracy: tuple[ModelName, ...]  # best model first (fit and tune samples); the reference leads
    evidence: Evidence  # what policies know of models that ran
    classes: NonNegative = 0  # of logits; 0: policies do not see any
    features: Annotated[tuple[GivenFeature, ...], Meta(max_length=MAX_FEATURES)] = ()
    policies: Annotated[tuple[Policy, ...], Meta(min_length=1)]  # best first
    default: RouteConstraint
    certificates: tuple[RouteCertificate, ...]
    scores: GraphFile | None = None  # where a policy needs it
    drift: RouteReference | None = None
    calibration: RouterCalibration

    def __post_init__(self) -> None:
        names = [model.name for model in self.models]
        if len(set(names)) != len(names):
            raise ValueError("models: names must be distinct")
        if sorted(self.by_accuracy) != sorted(names):
            raise ValueError(f"by_accuracy: expected each of {sorted(names)} once")
        if len(set(self.columns)) != len(self.columns):
            raise ValueError("features: names must be distinct")
        for i, policy in enumerate(self.policies):
            if set(policy.models) - set(names) or len(set(policy.models)) != len(policy.models):
                raise ValueError(f"policies[{i}]: expected distinct models of this router")
            if policy.needs_features and self.scores is None:
                raise ValueError(f"policies[{i}]: expected a graph of scores, got none")
            if isinstance(policy, StagedPolicy) and policy.features not in (
                (),
                () if self.scores is None else self.scores.features,
                self.estimates,
            ):
                raise ValueError(
                    f"policies[{i}].features: expected those of the graph of scores, or estimates"
                )
            if isinstance(policy, PoolPolicy) and (
                self.evidence != "logits" or policy.classes not in (None, self.classes)
            ):
                raise ValueError(f"policies[{i}]: expected logits of {policy.classes} classes")
        if self.scores is not None and set(self.scores.features) - set(self.columns):
            raise ValueError("scores.features: expected features of this router")
        if (self.evidence == "logits") != (self.classes >= 2):
            raise ValueError(f"classes: expected the classes of the logits, got {self.classes}")
        for certificate in self.certificates:
            if certificate.policy >= len(self.policies):
                raise ValueError(
                    f"certificates: expected one of {len(self.policies)} policies, got {certificate.policy}"
                )
        if self.drift is not None:
            if any(column >= len(self.columns) for column in self.drift.columns):
                raise ValueError("drift.columns: expected columns of the features")
            if set(self.drift.confidence) - set(names):
                raise ValueError("drift.confidence: expected models of this router")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of what graphs may read: all features, then of those with gaps whether they are missing."""
        return given_columns(self.features)

    @property
    def estimates(self) -> tuple[str, ...]:
        """Names of what graphs of states may read instead: the scores of every model, as log-odds."""
        return estimate_names(model.name for model in self.models)

    @property
    def reference(self) -> str:
        """The best single model: what answers when nothing is certified."""
        return self.by_accuracy[0]

    @property
    def mean_costs(self) -> dict[str, float]:
        """What an answer of each model costs in the mean."""
        return {model.name: model.mean_cost for model in self.models}

    @property
    def graphs(self) -> tuple[GraphFile | State, ...]:
        """Records of all graphs."""
        staged = [policy for policy in self.policies if isinstance(policy, StagedPolicy)]
        states = [state for policy in staged for state in policy.states]
        return (*states, *(() if self.scores is None else (self.scores,)))

    def subject(self, policy: int) -> str:
        """Digest of all that a certificate for the policy with this index depends on."""
        return route_subject(self.policies[policy], self.scores, self.features, self.models)

    def policy_for(self, available: Collection[str]) -> int | None:
        """Index of the best policy that needs no other models than the available ones, or None."""
        held = set(available)
        return next((i for i, policy in enumerate(self.policies) if set(policy.models) <= held), None)

    def covering(self, asked: RouteConstraint, policy: int) -> RouteCertificate | None:
        """The valid certificate of a policy for the laxest constraint that still covers `asked`, or None."""
        digest = self.subject(policy)
        found = [
            one
            for one in self.certificates
            if one.policy == policy and one.subject_sha256 == digest and one.constraint.covers(asked)
        ]
        sign = 1 if asked.kind == "precision" else -1
        return min(found, key=lambda one: sign * one.constraint.level, default=None)

    def alone(self, asked: RouteConstraint, available: Collection[str] | None = None) -> str:
        """What answers where nothing is certified: the best model, or the cheapest for a budget of cost."""
        held = set(self.by_accuracy if available is None else available)
        if asked.plain.on_time:
            costs = self.mean_costs
            return min(held, key=lambda name: (costs[name], name))
        return next(name for name in self.by_accuracy if name in held)


def given_columns(features: Sequence[GivenFeature]) -> tuple[str, ...]:
    """Names of all features, then of those with gaps whether they are missing."""
    gaps = (f"{feature.name} is missing" for feature in features if feature.gaps)
    return (*(feature.name for feature in features), *gaps)


def estimate_names(models: Iterable[str]) -> tuple[str, ...]:
    """What the log-odds are called that the graph of scores gives models, before any of them runs."""
    return tuple(f"log-odds of {name}" for name in models)


def route_subject(
    policy: Policy,
    scores: GraphFile | None,
    features: tuple[GivenFeature, ...],
    models: Iterable[RoutedModel],
) -> str:
    """SHA-256 of policy, graphs, features and what models tell, in a canonical form."""
    used = [model for model in models if model.name in policy.models]
    parts = {
        "policy": policy,
        "scores": scores.sha256 if scores is not None and policy.needs_features else None,
        "features": features if policy.needs_features else (),
        "models": {model.name: (model.tells, model.scale) for model in used},
    }
    return sha256_bytes(msgspec.json.encode(parts, order="deterministic"))


def read_router(folder: str | Path) -> RouterRecord:
    """Read and validate ``router.json`` in `folder`.

    Raises
    ------
    BundleError
        When there is none.
    CardError
        When a field is missing, unknown, of the wrong type or inconsistent.
    SchemaVersionError
        When a newer zooselect wrote it.

    Examples
    --------
    >>> from selector.routing.record import read_router
    >>> read_router("my-router").reference
    'large'
    """
    path = Path(folder) / ROUTER_FILE
    if not path.is_file():
        raise BundleError(
            f"expected a router in {folder}, got no {ROUTER_FILE} there. Make one from a table of outcomes "
            "with 'zooselect outcomes', 'zooselect fit' and 'zooselect export'."
        )
    content = read_json(path, what="a router")
    return decode_record(content, RouterRecord, name=str(path), schema_version=ROUTER_VERSION)
