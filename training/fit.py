"""Fitting a selector: from outcomes and costs to policies, their graphs and their certificates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import msgspec
from tqdm import tqdm

from selector.bundle import SCHEMA_VERSION as BUNDLE_VERSION
from selector.bundle import (
    Bundle,
    Calibration,
    Certificate,
    DeviceCosts,
    SelectorGraph,
    needs_graph,
    subject,
)
from selector.constraint import Constraint, constraint
from training.aims import Aim
from training.candidates import Candidate, standing, worth_keeping
from training.certify import Tests, usual_constraints
from training.consider import consider
from training.features import POOL_VERSION
from training.fitted import (
    SCHEMA_VERSION,
    Comparison,
    FeatureRecord,
    FitRecord,
    Fitted,
    ScoutFile,
    StorageRow,
)
from training.input import InputFit, PixelsOf
from training.outcomes import Outcomes, has_pixels, load_outcomes, pixels_of
from training.policies import FittedPolicy
from training.profile import read_profile_record
from training.splits import CERTIFY, FIT, TUNE
from zoo.directory import Zoo
from zoo.errors import DataError, PrecisionError
from zoo.files import sha256_bytes
from zoo.latency import LatencyTable

PolicyKind = Literal["auto", "input", "cascade", "probe"]
ENVIRONMENT_POLICIES = 2  # so many of the best policies get certificates for single environments


class Options(TypedDict, total=False):
    """How to fit; at most one of the four constraints, by default precision 0.95."""

    precision: float  # required probability of a right answer
    max_drop: float  # or: by how much accuracy may lie below the reference model's
    mean_ms: float  # or: the most accurate answers within this mean time
    p95_ms: float  # or: with 95 of 100 answers within this time
    policy: PolicyKind  # auto: what cross-validation finds best
    delta: float  # 1 - confidence of each certificate; 0.05
    max_bytes: int | None  # use models of at most so many bytes in all
    top_k: int  # an answer is right when the label is among its k most probable classes
    agree_with_reference: bool  # without labels: right is what the most accurate model says
    seed: int


class FitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """:class:`Options`, complete and checked."""

    constraint: Constraint
    policy: PolicyKind
    delta: float
    max_bytes: int | None
    top_k: int
    agree_with_reference: bool
    seed: int


def fit(
    profile_folder: str | Path,
    zoo: Zoo,
    table: LatencyTable,
    *,
    progress: bool = False,
    **options: Unpack[Options],
) -> Fitted:
    """Fit policies to outcomes, certify them, and build their graphs. The test split is not read.

    The first policy of the result is the best for the constraint with all models there; the others are the
    best for devices that hold only some of the models.

    Parameters
    ----------
    profile_folder
        A finished profile of the models of `zoo`.
    table
        Latency of every model on the device that the selector is for.
    progress
        Show which step is under way.
    **options
        See :class:`Options`.

    Raises
    ------
    PrecisionError
        When the constraint or `delta` is out of range, or more than one constraint is given.
    StaleError, LatencyError
        When profile or latency table do not belong to the models of `zoo`.
    DataError
        When there are too few samples, or no model fits into `max_bytes`.
    """
    checked = fit_options(options)
    record = read_profile_record(profile_folder)
    return fit_outcomes(
        load_outcomes(profile_folder, zoo=zoo),
        zoo,
        table,
        checked,
        grid=record.grid,
        data_sha256=record.data_sha256,
        inputs_sha256=fit_inputs_sha256(profile_folder, zoo, table, **options),
        pixels=partial(pixels_of, profile_folder) if has_pixels(profile_folder) else None,
        progress=progress,
    )


def fit_outcomes(
    outcomes: Outcomes,
    zoo: Zoo,
    table: LatencyTable,
    chosen: FitOptions,
    *,
    grid: int,
    data_sha256: str,
    inputs_sha256: str,
    pixels: PixelsOf | None = None,
    progress: bool = False,
) -> Fitted:
    """:func:`fit` on outcomes in memory; only their splits fit, tune and certify are used."""
    kinds = ("cascade", "probe", "input") if chosen.policy == "auto" else (chosen.policy,)
    bar = tqdm(total=4, unit="step", disable=not progress, leave=False)

    def step(name: str) -> None:
        bar.set_description(name)
        bar.update()

    for name in (FIT, TUNE, CERTIFY):
        outcomes.split(name).check_finite()
    plain = outcomes.split(FIT, TUNE)
    costs = table.costs_ms(zoo)
    by_accuracy = tuple(sorted(plain.models, key=lambda name: (-plain.accuracy()[name], costs[name], name)))
    agree_with = by_accuracy[0] if chosen.agree_with_reference else None
    outcomes = outcomes.judged(top_k=chosen.top_k, agree_with=agree_with).split(FIT, TUNE, CERTIFY)
    considered = consider(outcomes, zoo, table, kinds, grid=grid, pixels=pixels, seed=chosen.seed, step=step)
    outcomes, input_fit = considered.outcomes, considered.input_fit
    development, held = outcomes.split(FIT, TUNE), outcomes.split(CERTIFY)
    compared = considered.situation.outcomes
    aim = Aim(
        chosen.constraint,
        len(held),
        chosen.delta,
        compared.right[:, compared.models.index(by_accuracy[0])],
    )
    candidates = _within(considered.candidates, zoo, chosen.max_bytes)
    kept = worth_keeping(candidates, aim)
    policies = tuple(candidate.build() for candidate in kept)
    step("certifying")
    graph = None if input_fit is None else _graph_record("selector", input_fit, input_fit.graph)
    scores = None if input_fit is None else _graph_record("scores", input_fit, input_fit.scores)
    if not any(needs_graph(policy.policy) for policy in policies):
        graph = scores = None
    cards = zoo.cards
    certificates = [
        certificate
        for i, policy in enumerate(policies)
        for certificate in _certificates(
            i,
            policy,
            development,
            held,
            by_accuracy[0],
            chosen,
            subject(
                policy.policy,
                graph,
                outcomes.classes,
                [card for card in cards if card.name in policy.models],
            ),
        )
    ]
    bundle = Bundle(
        schema_version=BUNDLE_VERSION,
        task=cards[0].task,
        classes=outcomes.classes,
        models=cards,
        by_accuracy=by_accuracy,
        policies=tuple(policy.policy for policy in policies),
        default=chosen.constraint,
        certificates=tuple(certificates),
        costs=(
            DeviceCosts(
                device=table.device,
                threads=table.threads,
                image=table.image,
                models=costs,
                selector_ms=0.0 if graph is None or input_fit is None else input_fit.cost_ms,
                stage_ms=considered.situation.stage_ms,
                confidence_ms=considered.situation.confidence_ms,
            ),
        ),
        calibration=Calibration(
            data_sha256=data_sha256,
            fit=len(outcomes.split(FIT)),
            tune=len(outcomes.split(TUNE)),
            certify=len(held),
            top_k=chosen.top_k,
            agree_with=agree_with,
        ),
        selector=graph,
    )
    bar.close()
    tuned = input_fit.tuned if input_fit else None
    scout_graph = input_fit.scout.to_onnx() if graph and input_fit and input_fit.scout else None
    fit_record = FitRecord(
        schema_version=SCHEMA_VERSION,
        inputs_sha256=inputs_sha256,
        bundle=bundle,
        scores=scores,
        grid=grid,
        delta=chosen.delta,
        comparisons=_comparisons(candidates, kept[0], aim),
        storage=_storage(candidates, zoo, aim),
        features=tuple(
            FeatureRecord(name=v.name, kept=v.kept, reason=v.reason, cost_us=v.cost_us)
            for v in (tuned.verdicts if tuned else ())
        ),
        gain=tuned.gain if tuned else None,
        estimators=tuned.quality if tuned else {},
        scout=None if scout_graph is None else _scout_record(scout_graph),
    )
    return Fitted(
        fit_record,
        policies,
        input_fit.graph if graph and input_fit else None,
        input_fit.scores if scores and input_fit else None,
        scout_graph,
    )


def fit_inputs_sha256(
    profile_folder: str | Path, zoo: Zoo, table: LatencyTable, **options: Unpack[Options]
) -> str:
    """Digest of all that :func:`fit` depends on: where it is equal, fitting again gives the same."""
    models = {card.name: card.sha256 for card in zoo.cards}
    parts = (
        has_pixels(profile_folder),
        read_profile_record(profile_folder),
        table,
        models,
        fit_options(options),
        POOL_VERSION,
        SCHEMA_VERSION,
    )
    return sha256_bytes(msgspec.json.encode(parts, order="deterministic"))


def fit_options(options: Options) -> FitOptions:
    """Checked options with their defaults."""
    given = {
        kind: options[kind]
        for kind in ("precision", "max_drop", "mean_ms", "p95_ms")
        if options.get(kind) is not None
    }
    asked = constraint(**given) or Constraint(kind="precision", level=0.95)
    delta = options.get("delta", 0.05)
    if not 0 < delta < 1:
        raise PrecisionError(f"expected delta strictly between 0 and 1, such as 0.05, got {delta!r}.")
    return FitOptions(
        constraint=asked,
        policy=options.get("policy", "auto"),
        delta=delta,
        max_bytes=options.get("max_bytes"),
        top_k=options.get("top_k", 1),
        agree_with_reference=options.get("agree_with_reference", False),
        seed=options.get("seed", 0),
    )


def _within(candidates: list[Candidate], zoo: Zoo, max_bytes: int | None) -> list[Candidate]:
    if max_bytes is None:
        return candidates
    sizes = {card.name: card.size_bytes for card in zoo.cards}
    small = [c for c in candidates if sum(sizes[name] for name in c.models) <= max_bytes]
    if not small:
        raise DataError(
            f"expected a budget that some model fits into, got {max_bytes:,} bytes; "
            f"the smallest needs {min(sizes.values()):,}."
        )
    return small


def _certificates(
    index: int,
    policy: FittedPolicy,
    development: Outcomes,
    held: Outcomes,
    reference: str,
    options: FitOptions,
    digest: str,
) -> list[Certificate]:
    thresholds = policy.sequence(development)
    column = held.models.index(reference)
    environments: list[str | None] = [None]
    if index < ENVIRONMENT_POLICIES and len(set(held.environments.tolist())) > 1:
        environments += sorted(set(held.environments.tolist()))
    certificates = []
    for environment in environments:
        samples = held if environment is None else held.rows(held.environments == environment)
        wanted = usual_constraints(policy.possible_costs_ms(), options.constraint)
        if environment is not None:
            wanted = [item for item in wanted if not item.on_time]
        tests = Tests(
            policy.frontier(samples, thresholds),
            reference=samples.right[:, column],
            top_ms=max(policy.possible_costs_ms()),
        )
        found = tests.certify_all(wanted, delta=options.delta)
        certificates += [
            Certificate(
                constraint=item.constraint,
                confidence=1 - options.delta,
                policy=index,
                threshold=item.threshold,
                samples=item.samples,
                accuracy=item.accuracy,
                mean_ms=item.mean_ms,
                p_value=item.p_value,
                subject_sha256=digest,
                environment=environment,
            )
            for item in found
        ]
    return certificates


def _comparisons(candidates: Sequence[Candidate], chosen: Candidate, aim: Aim) -> tuple[Comparison, ...]:
    best: dict[str, Candidate] = {}
    for candidate in sorted(candidates, key=lambda item: standing(item, aim), reverse=True):
        best.setdefault(candidate.label, candidate)
    best[chosen.label] = chosen
    rows = []
    for candidate in best.values():
        point = aim.nearest(candidate.frontier)
        rows.append(
            Comparison(
                kind=candidate.kind,
                label=candidate.label,
                models=candidate.models,
                reaches=aim.slack(point) >= 0,
                accuracy=point.accuracy,
                mean_ms=point.mean_ms,
                chosen=candidate is chosen,
            )
        )
    return tuple(rows)


def _storage(candidates: Sequence[Candidate], zoo: Zoo, aim: Aim) -> tuple[StorageRow, ...]:
    """The best policy for growing byte budgets: only where more bytes buy something."""
    sizes = {card.name: card.size_bytes for card in zoo.cards}
    sized = sorted(
        ((sum(sizes[name] for name in c.models), c) for c in candidates),
        key=lambda pair: (pair[0], pair[1].label),
    )
    rows: list[StorageRow] = []
    best: tuple[float, ...] | None = None
    for size, candidate in sized:
        rank = standing(candidate, aim)
        if best is None or rank > best:
            if rows and rows[-1].size_bytes == size:
                rows.pop()
            best = rank
            point = aim.nearest(candidate.frontier)
            rows.append(
                StorageRow(
                    size_bytes=size,
                    models=candidate.models,
                    reaches=aim.slack(point) >= 0,
                    accuracy=point.accuracy,
                    mean_ms=point.mean_ms,
                )
            )
    return tuple(rows)


def _scout_record(content: bytes) -> ScoutFile:
    digest = sha256_bytes(content)
    return ScoutFile(file=f"scout-{digest[:12]}.onnx", sha256=digest, size_bytes=len(content))


def _graph_record(name: str, input_fit: InputFit, content: bytes) -> SelectorGraph:
    digest = sha256_bytes(content)
    return SelectorGraph(
        file=f"{name}-{digest[:12]}.onnx",
        sha256=digest,
        size_bytes=len(content),
        features=input_fit.features,
        estimator=input_fit.tuned.estimator,
    )
