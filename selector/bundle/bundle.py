"""The bundle on disk: ``bundle.json``, the selector graph and the models, read and checked."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from selector.bundle.calibration import Calibration
from selector.bundle.certificate import Certificate
from selector.drift.reference import DriftReference
from selector.policies.constraint import Constraint
from selector.policies.policy import Policy
from selector.policies.pool import PoolPolicy
from selector.policies.staged import StagedPolicy, State
from zoo.errors import BundleError, ModelNotFoundError
from zoo.files import decode_record, read_json, read_verified, record_schema, sha256_bytes
from zoo.inputs.kind import InputKind
from zoo.models.card import ModelCard, check_same_classes
from zoo.models.latency import Milliseconds
from zoo.releases.bundle_files import BundleFiles
from zoo.releases.input_reference import InputReference
from zoo.types import Name, Positive, Sha256, check_relative

SCHEMA_VERSION = 9  # since 9, models that take other inputs than images may be on servers
PROVIDERS_VERSION = 8  # since 8, certificates may be about another execution provider than the CPU's
KINDS_VERSION = 7  # since 7, models may take other inputs than images
REMOTE_VERSION = 6
LOCAL_VERSION = 5  # the oldest that can hold the bundle is written, so that older readers go on reading
# has no drift reference, as 3 no look-ahead cascades, as 4 no paths, pools or names of tests, as 5 no remote
# models and no budgets of what is sent to them
OLDEST_VERSION = 2
BUNDLE_FILE = "bundle.json"


def version_for(models: Iterable[ModelCard], *, provider: str | UnsetType = UNSET) -> int:
    """The oldest version of the format that can hold a bundle of `models`, certified with a provider.

    Examples
    --------
    >>> from selector.bundle.bundle import version_for
    >>> version_for(zoo.cards)
    5
    """
    cards = tuple(models)
    others = any(card.kind.record is not None for card in cards)
    remote = any(card.remote is not None for card in cards)
    if others and remote:
        return SCHEMA_VERSION
    if provider is not UNSET:
        return PROVIDERS_VERSION
    return KINDS_VERSION if others else REMOTE_VERSION if remote else LOCAL_VERSION


class SelectorGraph(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The graph ``image`` → ``features`` float32 ``[N, F]``, ``scores`` float32 ``[N, M]``."""

    file: str
    sha256: Sha256
    size_bytes: Positive
    features: tuple[str, ...]
    estimator: str  # kind of the classifier, in words

    def __post_init__(self) -> None:
        check_relative(self.file)


class PathCost(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a whole answer costs in which these models run, everything included."""

    steps: str  # kind of policy that decides on the way; see selector.policies.paths.steps_of
    models: Annotated[tuple[Name, ...], Meta(min_length=1)]  # in the order in which they run
    mean_ms: Annotated[float, Meta(ge=0)]
    p95_ms: Annotated[float, Meta(ge=0)]
    runs: Positive
    source: Literal["measured", "estimated"]  # whole answers, or runs of the models added up


class DeviceCosts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Typical wall-clock milliseconds of one image on one device: means of runs that nothing interrupted.

    Medians, where the latency table does not know what was interrupted.
    """

    device: Name
    threads: Positive
    image: tuple[Positive, Positive]  # height, width in pixels; of other kinds of input 1 and their length
    models: dict[str, Milliseconds]
    selector_ms: Annotated[float, Meta(ge=0)] = 0.0  # features and scores; 0 where no policy needs them
    stage_ms: Annotated[float, Meta(ge=0)] = 0.0  # the graph of a state, after a model ran
    confidence_ms: Annotated[float, Meta(ge=0)] = 0.0  # looking at a model's raw confidence instead
    paths: tuple[PathCost, ...] = ()  # of the policies; empty: times of single runs were not known

    def path(self, steps: str, models: tuple[str, ...]) -> PathCost | None:
        """What a whole answer costs on a path, or None where that is not known."""
        return next((one for one in self.paths if one.steps == steps and one.models == models), None)


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything a device needs to choose and answer, except the model files themselves.

    Examples
    --------
    >>> from selector import read_bundle
    >>> bundle = read_bundle("my-bundle")
    >>> bundle.classes, bundle.reference
    (('red', 'green', 'blue'), 'full')
    """

    schema_version: Positive
    task: str
    classes: Annotated[tuple[str, ...], Meta(min_length=2)]
    models: Annotated[tuple[ModelCard, ...], Meta(min_length=1)]
    by_accuracy: tuple[Name, ...]  # most accurate model first (fit and tune data); the reference leads
    policies: Annotated[tuple[Policy, ...], Meta(min_length=1)]  # best first
    default: Constraint
    certificates: tuple[Certificate, ...]
    costs: Annotated[tuple[DeviceCosts, ...], Meta(min_length=1)]
    calibration: Calibration
    selector: SelectorGraph | None = None
    drift: DriftReference | None = None  # what inputs are held against; None: nothing notices a change

    def __post_init__(self) -> None:
        names = [card.name for card in self.models]
        if len(set(names)) != len(names):
            raise ValueError("models: names must be distinct")
        kinds = {str(card.kind) for card in self.models}
        if len(kinds) > 1:
            raise ValueError(f"models: expected one kind of input, got {' and '.join(sorted(kinds))}")
        if sorted(self.by_accuracy) != sorted(names):
            raise ValueError(f"by_accuracy: expected each of {sorted(names)} once")
        for i, policy in enumerate(self.policies):
            unknown = set(policy.models) - set(names)
            if unknown or len(set(policy.models)) != len(policy.models):
                raise ValueError(
                    f"policies[{i}]: expected distinct models of this bundle, got {list(policy.models)}"
                )
            if policy.needs_features and self.selector is None:
                raise ValueError(f"policies[{i}]: expected a selector graph for its features, got none")
            known = ((), () if self.selector is None else self.selector.features)
            if isinstance(policy, StagedPolicy) and policy.features not in known:
                raise ValueError(f"policies[{i}].features: expected those of the selector graph")
            if isinstance(policy, PoolPolicy) and policy.classes not in (None, len(self.classes)):
                raise ValueError(
                    f"policies[{i}]: expected biases and weights of {len(self.classes)} classes, "
                    f"got {policy.classes}"
                )
        for certificate in self.certificates:
            if certificate.policy >= len(self.policies):
                raise ValueError(
                    f"certificates: expected one of {len(self.policies)} policies, got {certificate.policy}"
                )
        for costs in self.costs:
            if set(costs.models) != set(names):
                raise ValueError(f"costs of {costs.device!r}: expected each of {sorted(names)} once")
        if self.drift is not None and not set(self.drift.confidence) <= set(names):
            raise ValueError(
                f"drift.confidence: expected models of this bundle, got {sorted(self.drift.confidence)}"
            )
        if set(check_same_classes(self.models)) != set(self.classes):
            raise ValueError("classes: expected the classes of the models")

    @property
    def reference(self) -> str:
        """The most accurate single model: what answers when nothing is certified."""
        return self.by_accuracy[0]

    @property
    def local(self) -> frozenset[str]:
        """Names of the models that run on the device itself, wherever it is.

        Examples
        --------
        >>> sorted(bundle.local)
        ['full', 'small', 'tiny']
        """
        return frozenset(card.name for card in self.models if card.remote is None)

    def on_servers(self, addresses: Collection[str]) -> frozenset[str]:
        """Names of the models that servers of these addresses hold.

        Examples
        --------
        >>> bundle.on_servers(["https://models.example.org"])
        frozenset()
        """
        remote = {card.name: card.remote for card in self.models if card.remote is not None}
        return frozenset(name for name, one in remote.items() if one.address in addresses)

    def alone(
        self, asked: Constraint, installed: Iterable[str] | None = None, costs_of: str | None = None
    ) -> str:
        """What answers where nothing is certified: the reference model, or the fastest for a budget of time.

        For a budget of what is sent, the most accurate model on the device.

        Parameters
        ----------
        installed
            Models that are there, by default all.

        Examples
        --------
        >>> bundle.alone(bundle.default), bundle.alone(Constraint(kind="mean_ms", level=0.001))
        ('full', 'tiny')
        """
        held = set(self.by_accuracy if installed is None else installed)
        if asked.on_network and held & self.local:
            held &= self.local
        if not asked.on_time:
            return next(name for name in self.by_accuracy if name in held)
        costs = self.costs_ms(costs_of).models
        return min(held, key=lambda name: (costs[name], name))

    def alone_ms(self, name: str, costs_of: str | None = None) -> float:
        """What an answer of one model costs without a certificate: all of it, where that was measured.

        Examples
        --------
        >>> bundle.alone_ms("tiny") > 0
        True
        """
        costs = self.costs_ms(costs_of)
        whole = costs.path("alone", (name,))
        return costs.models[name] if whole is None else whole.mean_ms

    @property
    def kind(self) -> InputKind:
        """The kind of input that is answered."""
        return self.models[0].kind

    @property
    def graphs(self) -> tuple[SelectorGraph | State | DriftReference, ...]:
        """Records of all graphs in the bundle."""
        staged = [policy for policy in self.policies if isinstance(policy, StagedPolicy)]
        states = [state for policy in staged for state in policy.states]
        return (*states, *(one for one in (self.selector, self.drift) if one is not None))

    def card(self, name: str) -> ModelCard:
        """The card of one model; raises :class:`ModelNotFoundError`.

        Examples
        --------
        >>> bundle.card("tiny").parameters > 0
        True
        """
        for card in self.models:
            if card.name == name:
                return card
        raise ModelNotFoundError(
            f"no model {name!r} in this bundle. It names: {', '.join(card.name for card in self.models)}."
        )

    def subject(self, policy: int) -> str:
        """Digest of all that a certificate for the policy with this index depends on.

        A certificate whose ``subject_sha256`` differs was made for something else and does not count.

        Examples
        --------
        >>> all(one.subject_sha256 == bundle.subject(one.policy) for one in bundle.certificates)
        True
        """
        chosen = self.policies[policy]
        return subject(chosen, self.selector, self.classes, [self.card(name) for name in chosen.models])

    def policy_for(self, installed: Iterable[str]) -> int | None:
        """Index of the best policy that needs no other models than the `installed` ones, or None.

        Examples
        --------
        >>> bundle.policy_for(["tiny", "small", "full"])
        0
        """
        held = set(installed)
        return next((i for i, policy in enumerate(self.policies) if set(policy.models) <= held), None)

    def costs_ms(self, costs_of: str | None = None) -> DeviceCosts:
        """Costs on the device `costs_of`, by default the first device that was measured.

        Raises
        ------
        BundleError
            When that device was not measured.

        Examples
        --------
        >>> bundle.costs_ms("bench-top").models["tiny"]
        0.1
        """
        for costs in self.costs:
            if costs_of in (None, costs.device):
                return costs
        raise BundleError(
            f"expected costs of device {costs_of!r}, got only: {', '.join(c.device for c in self.costs)}. "
            "Name one of these, or measure on the device: zooselect bench"
        )


def valid_certificates(bundle: Bundle, policy: int) -> list[Certificate]:
    """Certificates of the policy with this index that were made for exactly what the bundle holds."""
    digest = bundle.subject(policy)
    return [
        certificate
        for certificate in bundle.certificates
        if certificate.policy == policy and certificate.subject_sha256 == digest
    ]


def subject(
    policy: Policy, graph: SelectorGraph | None, classes: tuple[str, ...], models: Iterable[ModelCard]
) -> str:
    """SHA-256 of policy, graphs, classes and model digests, in an order-free canonical form."""
    parts = {
        "policy": policy,
        "selector": graph.sha256 if graph and policy.needs_features else None,
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
        When a newer zooselect wrote it, or an older one with another format.

    Examples
    --------
    >>> from selector import read_bundle
    >>> read_bundle("my-bundle").default.kind
    'precision'
    """
    return decode_bundle(_content(folder), name=str(Path(folder) / BUNDLE_FILE))


def read_bundle_files(folder: str | Path) -> BundleFiles:
    """The bundle in `folder` as a publisher takes it, with all graphs and what it takes to ask servers.

    Raises like :func:`read_bundle`; BundleError also when a graph is a link to a file outside the folder,
    DigestError when one is missing or was changed.
    """
    root, content = Path(folder), _content(folder)
    bundle = decode_bundle(content, name=str(root / BUNDLE_FILE))
    named = (*bundle.graphs, *(card for card in bundle.models if card.remote is not None))
    for one in named:
        if not (root / one.file).resolve().is_relative_to(root.resolve()):
            raise BundleError(
                f"{root / BUNDLE_FILE}: expected graphs inside the bundle, got {one.file!r}, a link. "
                "Export it again."
            )
    drift = bundle.drift
    return BundleFiles(
        record=content,
        files={one.file: read_verified(root / one.file, one.sha256, one.size_bytes) for one in named},
        models={card.name: card.sha256 for card in bundle.models if card.remote is None},
        token_files=tuple(c.name for c in bundle.models if c.remote is not None and c.remote.token_file),
        environment=bundle.calibration.environment,
        drift=None if drift is None else InputReference(alpha=drift.alpha, features=drift.features),
    )


def _content(folder: str | Path) -> bytes:
    path = Path(folder) / BUNDLE_FILE
    if not path.is_file():
        raise BundleError(
            f"expected a bundle in {folder}, got no {BUNDLE_FILE} there. "
            "Make one with 'zooselect export', or check the path."
        )
    return read_json(path, what="the record of a bundle")


def decode_bundle(content: bytes, *, name: str) -> Bundle:
    """The bundle whose record is `content`; raises like :func:`read_bundle`."""
    return decode_record(content, Bundle, name=name, schema_version=SCHEMA_VERSION, oldest=OLDEST_VERSION)


def bundle_json_schema() -> dict[str, Any]:
    """JSON Schema of ``bundle.json``."""
    return record_schema(Bundle)
