"""Fitting a selector: from outcomes and costs to a policy, its graph and its certificates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import onnx
from sklearn.model_selection import GroupKFold
from tqdm import tqdm

from selector.bundle import SCHEMA_VERSION as BUNDLE_VERSION
from selector.bundle import (
    Bundle,
    Calibration,
    Certificate,
    DeviceCosts,
    SelectorGraph,
    subject,
)
from selector.policy import InputPolicy, check_precision
from training.cascade import accuracy_to_certify, fit_cascade, refit
from training.certify import LEVELS, certify_levels
from training.estimators import CorrectnessEstimator
from training.features import POOL_VERSION
from training.fitted import SCHEMA_VERSION, Comparison, FeatureRecord, FitRecord, Fitted
from training.graph import TOLERANCE, score_difference, selector_cost_ms, selector_graph
from training.outcomes import Outcomes, load_outcomes
from training.policies import (
    FittedCascade,
    FittedInputPolicy,
    FittedPolicy,
    Floats,
    Simulated,
    by_cost,
    cheapest_reaching,
    threshold_grid,
)
from training.profile import read_profile_record
from training.splits import CERTIFY, FIT, TUNE
from training.tuning import FOLDS, Tuned, tune
from zoo.directory import Zoo
from zoo.errors import DataError, ParityError, PrecisionError
from zoo.files import sha256_bytes
from zoo.latency import LatencyTable

PolicyKind = Literal["auto", "input", "cascade"]


def fit(
    profile_folder: str | Path,
    zoo: Zoo,
    table: LatencyTable,
    *,
    precision: float = 0.95,
    policy: PolicyKind = "auto",
    delta: float = 0.05,
    seed: int = 0,
    progress: bool = False,
) -> Fitted:
    """Fit a policy to outcomes, certify it, and build its graph. The test split is not read.

    Parameters
    ----------
    profile_folder
        A finished profile of the models of `zoo`.
    table
        Latency of every model on the device that the selector is for.
    precision
        The precision to optimise for; the bundle's default. Others are certified as well.
    policy
        ``input``, ``cascade``, or ``auto``: the one that cross-validation finds cheaper at `precision`.
    delta
        1 - confidence of each certificate.
    progress
        Show which step is under way.

    Raises
    ------
    PrecisionError
        Unless `precision` and `delta` lie strictly between 0 and 1.
    StaleError, LatencyError
        When profile or latency table do not belong to the models of `zoo`.
    DataError
        When there are too few samples.
    """
    check_precision(precision)
    if not 0 < delta < 1:
        raise PrecisionError(f"expected delta strictly between 0 and 1, such as 0.05, got {delta!r}.")
    steps = ("reading outcomes", *(f"fitting {kind}" for kind in _kinds(policy)), "certifying")
    bar = tqdm(total=len(steps), unit="step", disable=not progress, leave=False)
    bar.set_description(steps[0])
    outcomes = load_outcomes(profile_folder, zoo=zoo)
    profile_record = read_profile_record(profile_folder)
    costs = table.costs_ms(zoo)
    development, held = outcomes.split(FIT, TUNE), outcomes.split(CERTIFY)
    target = accuracy_to_certify(precision, len(held), delta=delta)

    candidates: list[_Candidate] = []
    for kind in _kinds(policy):
        bar.update()
        bar.set_description(f"fitting {kind}")
        if kind == "cascade":
            candidates.append(_cascade(development, costs, target))
        else:
            candidates.append(_input(development, costs, target, zoo, table, profile_record.grid, seed))
    bar.update()
    bar.set_description(steps[-1])
    chosen = max(candidates, key=lambda candidate: candidate.rank(target))

    cards = zoo.cards
    accuracy = development.accuracy()
    by_accuracy = tuple(sorted(accuracy, key=lambda name: (-accuracy[name], costs[name], name)))
    graph_record = _graph_record(chosen, "selector", chosen.graph)
    digest = subject(chosen.fitted.policy, graph_record, outcomes.classes, cards)
    certificates = _certificates(
        chosen, development, held, precision, delta, by_cost(costs, zoo.names), digest
    )
    bundle = Bundle(
        schema_version=BUNDLE_VERSION,
        task=cards[0].task,
        classes=outcomes.classes,
        models=cards,
        by_accuracy=by_accuracy,
        policy=chosen.fitted.policy,
        default_precision=precision,
        certificates=certificates,
        costs=(
            DeviceCosts(
                device=table.device,
                threads=table.threads,
                image=table.image,
                models=costs,
                selector_ms=chosen.fitted.overhead_ms,
            ),
        ),
        calibration=Calibration(
            data_sha256=profile_record.data_sha256,
            fit=len(outcomes.split(FIT)),
            tune=len(outcomes.split(TUNE)),
            certify=len(held),
        ),
        selector=graph_record,
    )
    bar.close()
    tuned = next((candidate.tuned for candidate in candidates if candidate.tuned), None)
    record = FitRecord(
        schema_version=SCHEMA_VERSION,
        inputs_sha256=fit_inputs_sha256(
            profile_folder, zoo, table, precision=precision, policy=policy, delta=delta, seed=seed
        ),
        bundle=bundle,
        scores=_graph_record(chosen, "scores", chosen.scores),
        grid=profile_record.grid,
        delta=delta,
        target_accuracy=target,
        comparisons=tuple(candidate.comparison(target, candidate is chosen) for candidate in candidates),
        features=tuple(FeatureRecord(name=v.name, kept=v.kept, reason=v.reason) for v in tuned.verdicts)
        if tuned
        else (),
        estimators=tuned.quality if tuned else {},
    )
    return Fitted(record, chosen.fitted, chosen.graph, chosen.scores)


def fit_inputs_sha256(
    profile_folder: str | Path,
    zoo: Zoo,
    table: LatencyTable,
    *,
    precision: float = 0.95,
    policy: PolicyKind = "auto",
    delta: float = 0.05,
    seed: int = 0,
) -> str:
    """Digest of all that :func:`fit` depends on: where it is equal, fitting again gives the same."""
    options = {"precision": precision, "policy": policy, "delta": delta, "seed": seed}
    models = {card.name: card.sha256 for card in zoo.cards}
    parts = (read_profile_record(profile_folder), table, models, options, POOL_VERSION, SCHEMA_VERSION)
    return sha256_bytes(msgspec.json.encode(parts, order="deterministic"))


@dataclass(frozen=True)
class _Candidate:
    fitted: FittedPolicy
    folded: list[Simulated]  # frontier on out-of-fold probabilities
    graph: bytes | None = None
    scores: bytes | None = None
    tuned: Tuned | None = None

    def _point(self, target: float) -> tuple[bool, Simulated]:
        point = cheapest_reaching(self.folded, target)
        if point is not None:
            return True, point
        return False, max(self.folded, key=lambda item: (item.accuracy, -item.mean_ms))

    def rank(self, target: float) -> tuple[bool, float, float]:
        """Greater is better: cheaper among those that reach the target, else more accurate."""
        reached, point = self._point(target)
        return (True, -point.mean_ms, point.accuracy) if reached else (False, point.accuracy, -point.mean_ms)

    def comparison(self, target: float, chosen: bool) -> Comparison:
        reached, point = self._point(target)
        return Comparison(
            kind=self.fitted.kind,
            models=self.fitted.models,
            reaches_target=reached,
            accuracy=point.accuracy,
            mean_ms=point.mean_ms,
            chosen=chosen,
        )


def _kinds(policy: PolicyKind) -> tuple[Literal["cascade", "input"], ...]:
    return ("cascade", "input") if policy == "auto" else (policy,)


def _cascade(development: Outcomes, costs: Mapping[str, float], target: float) -> _Candidate:
    policy = fit_cascade(development, costs, target)
    fitted = FittedCascade(policy, costs)
    probabilities = np.empty((len(development), len(policy.stages)))
    for rest, held in _folds(development):
        again = FittedCascade(refit(policy, development.rows(rest)), costs)
        probabilities[held] = again.probabilities(development.rows(held))
    return _Candidate(fitted, _folded_frontier(fitted, development, probabilities))


def _input(
    development: Outcomes,
    costs: Mapping[str, float],
    target: float,
    zoo: Zoo,
    table: LatencyTable,
    grid: int,
    seed: int,
) -> _Candidate:
    order = by_cost(costs, development.models)
    ordered = development.with_models(order)
    tuned = tune(
        ordered.features,
        ordered.feature_names,
        ordered.right,
        ordered.groups,
        np.array([costs[name] for name in order]),
        seed=seed,
    )
    columns = [ordered.feature_names.index(name) for name in tuned.features]
    features = ordered.features[:, columns]
    probabilities = np.empty((len(ordered), len(order)))
    for rest, held in _folds(ordered):
        estimator = CorrectnessEstimator(tuned.estimator, seed=seed).fit(features[rest], ordered.right[rest])
        probabilities[held] = estimator.scores(features[held])
    fitting, tuning = ordered.splits == FIT, ordered.splits == TUNE
    estimator = CorrectnessEstimator(tuned.estimator, seed=seed).fit(
        features[fitting], ordered.right[fitting]
    )
    if tuning.any():
        estimator.calibrate(features[tuning], ordered.right[tuning])
    scores: onnx.ModelProto = estimator.to_onnx(len(columns))
    graph = selector_graph(tuned.features, scores, grid=grid)
    content: bytes = scores.SerializeToString(deterministic=True)
    off = score_difference(estimator, content, features)
    if not off <= TOLERANCE:
        raise ParityError(
            f"expected ONNX scores within {TOLERANCE:g} of scikit-learn's {tuned.estimator!r}, "
            f"got {off:.1e}. Check the versions in constraints.txt."
        )
    fitted = FittedInputPolicy(
        InputPolicy(order=order),
        content,
        tuned.features,
        costs,
        overhead_ms=selector_cost_ms(graph, zoo, table),
    )
    return _Candidate(fitted, _folded_frontier(fitted, ordered, probabilities), graph, content, tuned)


def _folds(outcomes: Outcomes) -> list[tuple[np.ndarray, np.ndarray]]:
    folds = min(FOLDS, len(set(outcomes.groups.tolist())))
    if folds < 2:
        raise DataError(f"expected at least two originals to fit on, got {folds}. Give more labelled images.")
    return list(GroupKFold(folds).split(outcomes.labels, groups=outcomes.groups))


def _folded_frontier(fitted: FittedPolicy, outcomes: Outcomes, probabilities: Floats) -> list[Simulated]:
    thresholds = threshold_grid(probabilities)
    narrowed = outcomes.with_models(fitted.models)
    return [
        fitted.simulate(narrowed, float(threshold), probabilities=probabilities) for threshold in thresholds
    ]


def _certificates(
    chosen: _Candidate,
    development: Outcomes,
    held: Outcomes,
    precision: float,
    delta: float,
    installed: tuple[str, ...],
    digest: str,
) -> tuple[Certificate, ...]:
    probabilities = chosen.fitted.probabilities(held)
    narrowed = held.with_models(chosen.fitted.models)
    found = certify_levels(
        lambda threshold: chosen.fitted.simulate(narrowed, threshold, probabilities=probabilities).right,
        chosen.fitted.thresholds(development).tolist(),
        (*LEVELS, precision),
        delta=delta,
    )
    return tuple(
        Certificate(
            precision=item.precision,
            confidence=1 - delta,
            threshold=item.threshold,
            models=installed,
            samples=item.samples,
            right=item.right,
            p_value=item.p_value,
            subject_sha256=digest,
        )
        for item in found
    )


def _graph_record(chosen: _Candidate, name: str, content: bytes | None) -> SelectorGraph | None:
    if content is None or chosen.tuned is None:
        return None
    digest = sha256_bytes(content)
    return SelectorGraph(
        file=f"{name}-{digest[:12]}.onnx",
        sha256=digest,
        size_bytes=len(content),
        features=chosen.tuned.features,
        estimator=chosen.tuned.estimator,
    )
