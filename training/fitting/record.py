"""The record of a fit: what was searched with, what was found and what was proven, put together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from msgspec import UNSET, UnsetType

from selector.bundle.bundle import (
    Bundle,
    DeviceCosts,
    PathCost,
    SelectorGraph,
    version_for,
)
from selector.bundle.calibration import Calibration
from selector.bundle.certificate import Certificate
from selector.policies.paths import ALONE, paths_of, steps_of
from training.certificates.choice import ChosenTest
from training.certificates.path_times import path_times
from training.data.splits import CERTIFY, FIT, TUNE
from training.fitting.drift_reference import DriftFit
from training.fitting.fitted import SCHEMA_VERSION, FeatureRecord, FitRecord, Fitted, ScoutFile
from training.fitting.options import FitOptions
from training.outcomes.outcomes import Outcomes
from training.policies.base import FittedPolicy
from training.search.candidates import Situation
from training.search.comparisons import CandidateComparison, StorageRow
from training.search.input_fit import InputFit
from zoo.files import sha256_bytes
from zoo.models.latency import LatencyTable
from zoo.models.zoo import Zoo


@dataclass(frozen=True)
class FitInputs:
    """What a fit starts from, beside the outcomes."""

    zoo: Zoo
    table: LatencyTable
    options: FitOptions
    grid: int  # cells a side that features read
    data_sha256: str
    inputs_sha256: str  # see fit_inputs_sha256
    provider: str | UnsetType = UNSET  # that answered the samples; left out: the CPU's


@dataclass(frozen=True)
class Found:
    """What the search on the fit and tune samples settled on."""

    outcomes: Outcomes  # fit, tune and certify samples, with a scout's log-odds where one was trained
    by_accuracy: tuple[str, ...]  # models, the reference model first
    agree_with: str | None  # the model that says what is right, without labels
    situation: Situation
    policies: tuple[FittedPolicy, ...]  # best first
    comparisons: tuple[CandidateComparison, ...]
    storage: tuple[StorageRow, ...]
    input_fit: InputFit | None  # features and estimator, whether a policy uses them or not
    test: ChosenTest  # of precisions

    @cached_property
    def used(self) -> InputFit | None:
        """Features and estimator where a policy needs them on the device."""
        return self.input_fit if any(policy.policy.needs_features for policy in self.policies) else None

    @cached_property
    def selector(self) -> SelectorGraph | None:
        """The graph image → features, scores."""
        return None if self.used is None else _graph_file("selector", self.used, self.used.graph)

    @cached_property
    def scores(self) -> SelectorGraph | None:
        """The graph features → scores."""
        return None if self.used is None else _graph_file("scores", self.used, self.used.scores)


@dataclass(frozen=True)
class Proven:
    """What the certify samples prove, and how their inputs are spread."""

    certificates: tuple[Certificate, ...]
    drift: DriftFit | None


def assemble(given: FitInputs, found: Found, proven: Proven) -> Fitted:
    """Policies, bundle and record in one; of samples only their numbers go in."""
    used, drift = found.used, proven.drift
    scout = used.scout.to_onnx() if used is not None and used.scout is not None else None
    tuned = None if found.input_fit is None else found.input_fit.tuned
    first = found.policies[0]
    times = path_times(first.policy, given.table, first.possible_costs_ms(), given.options.delta)
    record = FitRecord(
        schema_version=SCHEMA_VERSION,
        inputs_sha256=given.inputs_sha256,
        bundle=_bundle(given, found, proven),
        scores=found.scores,
        grid=given.grid,
        delta=given.options.delta,
        comparisons=found.comparisons,
        storage=found.storage,
        features=tuple(
            FeatureRecord(name=v.name, kept=v.kept, reason=v.reason, cost_us=v.cost_us)
            for v in (tuned.verdicts if tuned else ())
        ),
        gain=tuned.gain if tuned else None,
        estimators=tuned.quality if tuned else {},
        scout=None if scout is None else _scout_file(scout),
        interrupted=None if times is None else times.interrupted,
    )
    return Fitted(
        record,
        found.policies,
        None if used is None else used.graph,
        None if used is None else used.scores,
        scout,
        None if drift is None else drift.graph,
    )


def _bundle(given: FitInputs, found: Found, proven: Proven) -> Bundle:
    table, options, cards = given.table, given.options, given.zoo.cards
    return Bundle(
        schema_version=version_for(cards, provider=given.provider),
        task=cards[0].task,
        classes=found.outcomes.classes,
        models=cards,
        by_accuracy=found.by_accuracy,
        policies=tuple(policy.policy for policy in found.policies),
        default=options.constraint,
        certificates=proven.certificates,
        costs=(
            DeviceCosts(
                device=table.device,
                threads=table.threads,
                image=table.image,
                models=table.costs_ms(given.zoo),
                selector_ms=0.0 if found.used is None else found.used.cost_ms,
                stage_ms=found.situation.stage_ms,
                confidence_ms=found.situation.confidence_ms,
                paths=_path_costs(found.policies, table, options.delta),
            ),
        ),
        calibration=Calibration(
            data_sha256=given.data_sha256,
            fit=len(found.outcomes.split(FIT)),
            tune=len(found.outcomes.split(TUNE)),
            certify=len(found.outcomes.split(CERTIFY)),
            top_k=options.top_k,
            agree_with=found.agree_with,
            environment=options.environment,
            test=found.test.test,
            test_reason=found.test.reason,
            provider=given.provider,
        ),
        selector=found.selector,
        drift=None if proven.drift is None else proven.drift.reference,
    )


def _path_costs(
    policies: tuple[FittedPolicy, ...], table: LatencyTable, delta: float
) -> tuple[PathCost, ...]:
    """Of every path of the policies, and of models alone, as far as the table has times of single runs."""
    found = {
        (row.steps, row.models): PathCost(
            steps=row.steps,
            models=row.models,
            mean_ms=row.latency.typical_ms,
            p95_ms=row.latency.p95_ms,
            runs=row.latency.runs,
            source="measured",
        )
        for row in table.paths
        if row.steps == ALONE and row.models[0] in {name for one in policies for name in one.costs}
    }
    for fitted in policies:
        steps, costs = steps_of(fitted.policy), fitted.possible_costs_ms()
        times = path_times(fitted.policy, table, costs, delta)
        if times is None:
            continue
        for path, cost, runs in zip(paths_of(fitted.policy), costs, times.runs_ms, strict=True):
            found[steps, path] = PathCost(
                steps=steps,
                models=path,
                mean_ms=cost,
                p95_ms=float(np.quantile(runs, 0.95)),
                runs=len(runs),
                source="estimated" if table.path(steps, path) is None else "measured",
            )
    return tuple(found.values())


def _graph_file(name: str, fit: InputFit, content: bytes) -> SelectorGraph:
    digest = sha256_bytes(content)
    return SelectorGraph(
        file=f"{name}-{digest[:12]}.onnx",
        sha256=digest,
        size_bytes=len(content),
        features=fit.features,
        estimator=fit.tuned.estimator,
    )


def _scout_file(content: bytes) -> ScoutFile:
    digest = sha256_bytes(content)
    return ScoutFile(file=f"scout-{digest[:12]}.onnx", sha256=digest, size_bytes=len(content))
