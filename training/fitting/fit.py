"""Fitting a selector: from outcomes and costs to policies, their graphs and their certificates."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Unpack

import msgspec
from tqdm import tqdm

from selector.bundle.bundle import SCHEMA_VERSION as BUNDLE_VERSION
from selector.bundle.bundle import Bundle, Calibration, DeviceCosts, SelectorGraph, subject
from training.certificates.aim import Aim
from training.certificates.certificates import certificates_of
from training.data.splits import CERTIFY, FIT, TUNE
from training.features.features import POOL_VERSION
from training.fitting.drift_reference import drift_fit
from training.fitting.fitted import SCHEMA_VERSION, FeatureRecord, FitRecord, Fitted, ScoutFile
from training.fitting.options import FitOptions, Options, fit_options
from training.outcomes.outcomes import Outcomes, has_pixels, load_outcomes, pixels_of
from training.outcomes.parts import read_profile_record
from training.search.candidates import failure_ms, worth_keeping
from training.search.comparisons import by_storage, comparisons, within_bytes
from training.search.input_fit import InputFit, PixelsOf
from training.search.search import consider
from zoo.files import sha256_bytes
from zoo.models.latency import LatencyTable
from zoo.models.zoo import Zoo


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
    if chosen.environment is not None:
        outcomes = outcomes.environment(chosen.environment)
    plain = outcomes.split(FIT, TUNE)
    costs = table.costs_ms(zoo)
    by_accuracy = tuple(sorted(plain.models, key=lambda name: (-plain.accuracy()[name], costs[name], name)))
    agree_with = by_accuracy[0] if chosen.agree_with_reference else None
    outcomes = outcomes.judged(top_k=chosen.top_k, agree_with=agree_with).split(FIT, TUNE, CERTIFY)
    considered = consider(outcomes, zoo, table, kinds, grid=grid, pixels=pixels, seed=chosen.seed, step=step)
    outcomes, input_fit = considered.outcomes, considered.input_fit
    development, held = considered.situation.everything, outcomes.split(CERTIFY)
    compared = considered.situation.outcomes
    aim = Aim(
        chosen.constraint,
        len(held),
        chosen.delta,
        compared.right[:, compared.models.index(by_accuracy[0])],
        failure_ms=failure_ms(considered.candidates, costs),
    )
    candidates = within_bytes(considered.candidates, zoo, chosen.max_bytes)
    kept = worth_keeping(candidates, aim)
    policies = tuple(candidate.build() for candidate in kept)
    step("certifying")
    graph = None if input_fit is None else _graph_record("selector", input_fit, input_fit.graph)
    scores = None if input_fit is None else _graph_record("scores", input_fit, input_fit.scores)
    if not any(policy.policy.needs_features for policy in policies):
        graph = scores = None
    drift = drift_fit(outcomes, grid=grid)
    cards = zoo.cards
    certificates = [
        certificate
        for i, policy in enumerate(policies)
        for certificate in certificates_of(
            i,
            policy,
            development,
            held,
            by_accuracy[0],
            chosen.constraint,
            chosen.delta,
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
            environment=chosen.environment,
        ),
        selector=graph,
        drift=None if drift is None else drift.reference,
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
        comparisons=comparisons(candidates, kept[0], aim),
        storage=by_storage(candidates, zoo, aim),
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
        None if drift is None else drift.graph,
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
