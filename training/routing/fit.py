"""Fitting a router to outcomes that were measured elsewhere: search, prove, assemble."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from tqdm import tqdm

from selector.drift.reference import MAX_CONFIDENCES
from selector.routing.record import (
    MAX_WATCHED,
    ROUTER_VERSION,
    GraphFile,
    RoutedModel,
    RouterCalibration,
    RouteReference,
    RouterRecord,
)
from training.certificates.aim import Aim, share_of_margin
from training.certificates.choice import ChosenTest, choose_test
from training.data.splits import CERTIFY, FIT, TUNE
from training.fitting.drift_bins import drift_feature
from training.fitting.drift_reference import ALPHA
from training.fitting.fit import SEARCHES_FOLDER
from training.fitting.fitted import FeatureRecord
from training.outcomes.table_outcomes import TableOutcomes
from training.outcomes.table_profile import TableRecord, load_table_outcomes, read_table_record
from training.policies.base import FittedPolicy
from training.policies.frontier import by_cost
from training.routing.fitted import ROUTER_FIT_VERSION, FittedRouter, RouterFitRecord
from training.routing.options import RouteOptions
from training.routing.proofs import Proofs
from training.routing.search import TableSearch, search_table
from training.search.choice import discount_of, failure_ms, worth_keeping
from training.search.comparisons import CandidateComparison, comparisons
from training.search.plans import evenly
from zoo.files import sha256_bytes

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}")  # of what is watched


def fit_table(
    profile_folder: str | Path,
    options: RouteOptions | None = None,
    *,
    progress: bool = False,
    **changed: Any,
) -> FittedRouter:
    """Fit policies to outcomes of a table and certify them. The test split is not read.

    Parameters
    ----------
    profile_folder
        Made by :func:`training.outcomes.table_profile.store_table`.
    options
        What to ask for and to choose among; by default a mean quality of 0.95.
    progress
        Show which step is under way.
    **changed
        Fields of :class:`.RouteOptions` in place of those of `options`.

    Raises
    ------
    DataError
        When there are too few samples, or nothing to decide by.
    PrecisionError
        When the constraint or `delta` is out of range.

    Examples
    --------
    >>> from training.routing.fit import fit_table
    >>> fitted = fit_table("table-profile", precision=0.7)
    >>> fitted.router.reference
    'large'
    """
    chosen = replace(options or RouteOptions(), **changed)
    record = read_table_record(profile_folder)
    outcomes = load_table_outcomes(profile_folder, models=chosen.models)
    searches = Path(profile_folder) / SEARCHES_FOLDER
    return fit_table_outcomes(outcomes, record, chosen, searches=searches, progress=progress)


@dataclass(frozen=True)
class _Found:
    """What the search settled on."""

    search: TableSearch
    by_accuracy: tuple[str, ...]
    policies: tuple[FittedPolicy, ...]
    test: ChosenTest
    comparisons: tuple[CandidateComparison, ...]


def fit_table_outcomes(
    outcomes: TableOutcomes,
    record: TableRecord,
    options: RouteOptions,
    *,
    searches: Path | None = None,
    progress: bool = False,
) -> FittedRouter:
    """:func:`fit_table` on outcomes in memory, as they were stored.

    The search sees fit and tune samples alone, proofs the certify samples, after everything was fixed. It is
    kept in the folder `searches`, and a fit for another constraint only chooses and proves.
    """
    if options.environment is not None:
        outcomes = outcomes.environment(options.environment)
    with tqdm(total=2, unit="step", disable=not progress or None, leave=False) as bar:
        bar.set_description("comparing policies")
        found = _search(outcomes, record, options, searches)
        bar.update()
        bar.set_description("certifying")
        fitted = _assemble(found, record, options, outcomes)
        bar.update()
    return fitted


def _search(
    outcomes: TableOutcomes, record: TableRecord, options: RouteOptions, searches: Path | None = None
) -> _Found:
    development, certify = outcomes.split(FIT, TUNE), len(outcomes.split(CERTIFY))
    accuracy, costs = evenly(development, options.seed).accuracy(), development.mean_costs()
    by_accuracy = tuple(sorted(accuracy, key=lambda name: (-accuracy[name], costs[name], name)))
    search = search_table(
        outcomes,
        record.features,
        policy=options.policy,
        seed=options.seed,
        reference=by_accuracy[0],
        folder=searches,
    )
    test = choose_test(
        options.certificate,
        models=len(outcomes.models),
        development=len(development),
        certify=certify,
        grouped=len(set(outcomes.groups.tolist())) < len(outcomes),
    )
    compared = search.situation.outcomes
    aim = Aim(
        options.constraint.plain,
        certify,
        options.delta,
        compared.right[:, compared.models.index(by_accuracy[0])],
        failure_ms=failure_ms(search.candidates, search.costs),
        share_of_margin=share_of_margin(test.test, development=len(development), certify=certify),
        candidates=len(search.candidates),
        discount=discount_of(search.candidates, compared.groups),
    )
    kept = worth_keeping(search.candidates, aim)
    policies = tuple(candidate.build() for candidate in kept)
    rows = comparisons(search.candidates, kept[0], aim)
    return _Found(search, by_accuracy, policies, test, rows)


def _assemble(
    found: _Found, record: TableRecord, options: RouteOptions, outcomes: TableOutcomes
) -> FittedRouter:
    search, policies = found.search, found.policies
    fit = search.input_fit
    used = fit if fit is not None and any(one.policy.needs_features for one in policies) else None
    scores = None
    if used is not None:
        digest = sha256_bytes(used.scores)
        scores = GraphFile(
            file=f"scores-{digest[:12]}.onnx",
            sha256=digest,
            size_bytes=len(used.scores),
            features=used.features,
            estimator=used.tuned.estimator,
        )
    costs = outcomes.split(FIT, TUNE).mean_costs()
    models = tuple(
        RoutedModel(
            name=name,
            mean_cost=costs[name],
            tells=record.models[name] if search.outcomes.combinable or search.scales[name] else "none",
            scale=search.scales[name],
        )
        for name in by_cost(search.costs, outcomes.models)
    )
    evidence = "logits" if search.outcomes.combinable else "score" if any(search.scales.values()) else "none"
    router = RouterRecord(
        schema_version=ROUTER_VERSION,
        unit=record.unit,
        models=models,
        by_accuracy=found.by_accuracy,
        evidence=evidence,  # type: ignore[arg-type]
        classes=record.classes,
        features=search.given,
        policies=tuple(policy.policy for policy in policies),
        default=options.constraint,
        certificates=(),
        scores=scores,
        drift=_reference(search.outcomes, len(search.columns)),
        calibration=RouterCalibration(
            data_sha256=record.data_sha256,
            fit=len(outcomes.split(FIT)),
            tune=len(outcomes.split(TUNE)),
            certify=len(outcomes.split(CERTIFY)),
            graded=outcomes.graded,
            environment=options.environment,
        ),
    )
    proofs = Proofs(
        search.rounded.split(FIT, TUNE),
        search.situation.everything,  # type: ignore[arg-type]
        search.outcomes.split(CERTIFY),
        found.by_accuracy[0],
        found.test.test,
        options.constraint,
        options.delta,
    )
    certificates = [
        one for i, policy in enumerate(policies) for one in proofs.of(i, policy, router.subject(i))
    ]
    tuned = None if fit is None else fit.tuned
    return FittedRouter(
        RouterFitRecord(
            schema_version=ROUTER_FIT_VERSION,
            router=msgspec.structs.replace(router, certificates=tuple(certificates)),
            comparisons=found.comparisons,
            features=tuple(
                FeatureRecord(name=one.name, kept=one.kept, reason=one.reason, cost_us=0.0)
                for one in (tuned.verdicts if tuned else ())
            ),
            gain=tuned.gain if tuned else None,
            estimators=tuned.quality if tuned else {},
            data_sha256=record.data_sha256,
            test_reason=found.test.reason,
        ),
        policies,
        None if used is None else used.scores,
    )


def _reference(outcomes: TableOutcomes, given: int) -> RouteReference | None:
    """What inputs are held against: edges from fit and tune samples, counts of the certify samples.

    Of the features the first `given` are watched: the others are estimates, which follow from them.
    """
    known, counted = outcomes.split(FIT, TUNE), outcomes.split(CERTIFY)
    columns = range(min(given, MAX_WATCHED))
    varying = [j for j in columns if known.features[:, j].std() > 0]
    models: Mapping[str, int] = {
        name: j for j, name in enumerate(outcomes.models[:MAX_CONFIDENCES]) if known.log_odds[:, j].std() > 0
    }
    if not varying and not models:
        return None
    return RouteReference(
        alpha=ALPHA,
        features=tuple(
            drift_feature(
                _plain(outcomes.feature_names[j], f"feature {j + 1}"),
                known.features[:, j],
                counted.features[:, j],
            )
            for j in varying
        ),
        columns=tuple(varying),
        confidence={
            name: drift_feature(_plain(name, f"model {j + 1}"), known.log_odds[:, j], counted.log_odds[:, j])
            for name, j in models.items()
        },
    )


def _plain(name: str, instead: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else instead
