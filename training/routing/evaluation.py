"""What a router is worth, on the test samples of its table: rows, curve, findings in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from selector.commands.tables import table
from selector.policies.paths import paths_of
from selector.routing.constraint import RouteConstraint
from selector.routing.record import RouteCertificate
from training.data.splits import TEST
from training.evaluation.records import (
    Evaluation,
    FeatureShown,
    FrontierCurve,
    MethodRow,
)
from training.evaluation.rows import row_of, shares_of
from training.outcomes.table_outcomes import TableOutcomes
from training.outcomes.table_profile import load_table_outcomes, read_table_record
from training.policies.frontier import Simulated, by_cost
from training.routing.fitted import FittedRouter, check_same_data

_MAX_ENVIRONMENTS = 200


def evaluate_router(
    fitted: FittedRouter,
    profile_folder: str | Path,
    *,
    asked: RouteConstraint | None = None,
    title: str = "Zooselect report",
) -> Evaluation:
    """Judge a router on the test split of a profile, which nothing was chosen on.

    Costs are what was paid for the answers; they stand in place of milliseconds.

    Raises
    ------
    StaleError
        When the router was fitted to other outcomes.
    DataError
        When the profile has no test samples.

    Examples
    --------
    >>> from training.routing.evaluation import evaluate_router
    >>> from training.routing.fitted import load_router_fit
    >>> evaluate_router(load_router_fit("router-fit"), "table-profile").unit
    'usd'
    """
    check_same_data(fitted, read_table_record(profile_folder).data_sha256, profile_folder)
    outcomes = load_table_outcomes(profile_folder, splits=(TEST,))
    if fitted.router.calibration.environment is not None:
        outcomes = outcomes.environment(fitted.router.calibration.environment)
    return evaluate_router_outcomes(fitted, fitted.seen(outcomes), asked=asked, title=title)


def evaluate_router_outcomes(
    fitted: FittedRouter,
    test: TableOutcomes,
    *,
    asked: RouteConstraint | None = None,
    title: str = "Zooselect report",
) -> Evaluation:
    """:func:`evaluate_router` on test outcomes in memory, as the router sees them."""
    router = fitted.router
    wanted = asked or router.default
    certificate = fitted.certificate(wanted)
    ours = fitted.simulate(test, wanted)
    singles = [
        row_of(name, "single", test.right[:, j], test.paid[:, j], {name: 1.0})
        for name in by_cost(router.mean_costs, test.models)
        for j in [test.models.index(name)]
    ]
    policy = fitted.policies[0]
    if certificate is None:
        shares = {router.alone(wanted): 1.0}
    else:
        shares = shares_of(policy.models, ours.answered_by)
    row = row_of("zooselect", "ours", ours.right, ours.cost_ms, shares, certified=certificate is not None)
    rows = [*singles, row, oracle(test)]
    return Evaluation(
        title=title,
        subtitle=f"{len(test):,} inputs nobody chose on, {len(test.models)} models, asked: {wanted}",
        asked_precision=wanted.level if wanted.kind == "precision" else None,
        rows=rows,
        curves=[_curve(fitted, test)],
        mixes=(),
        mix_kind=wanted.plain.kind,
        asked_level=wanted.level,
        environments=_environments(test, ours),
        reliability={},
        features=[FeatureShown(one.name, one.kept, one.reason) for one in fitted.record.features],
        facts=_facts(fitted, len(test), wanted),
        notes=_notes(fitted, rows, wanted),
        next_commands=(),
        asked=str(wanted),
        reference_model=router.reference,
        gain=fitted.record.gain,
        comparisons=fitted.record.comparisons,
        unit=router.unit,
    )


def oracle(test: TableOutcomes) -> MethodRow:
    """The cheapest of the best answers to every input."""
    best = test.right >= test.right.max(axis=1, keepdims=True)
    pick = np.where(best, test.paid, np.inf).argmin(axis=1)
    rows = np.arange(len(test))
    return row_of(
        "oracle", "oracle", test.right[rows, pick], test.paid[rows, pick], shares_of(test.models, pick)
    )


def explain_uncertified(fitted: FittedRouter, asked: RouteConstraint) -> str:
    """Why a constraint is not certified, and what is."""
    router = fitted.router
    same = [one for one in router.certificates if one.policy == 0 and one.constraint.kind == asked.kind]
    text = f"Not certified with {router.calibration.certify:,} certify samples: {asked}. "
    if same:
        nearest = min(same, key=lambda one: abs(one.constraint.level - asked.level))
        text += f"The nearest that is: {nearest.constraint}. "
    else:
        text += "Nothing of that kind is. "
    return text + f"{router.alone(asked)} answers alone instead, uncertified."


def certified_levels(fitted: FittedRouter, asked: RouteConstraint) -> str:
    """Every certified level of the kind of a constraint, with what it costs and the threshold, as a table.

    A level stands there once, with the policy that keeps it at the least cost, of equal ones that with the
    fewest models: single models are policies, too.
    """
    router = fitted.router

    def dear(one: RouteCertificate) -> tuple[float, int]:
        return one.mean_cost, len(router.policies[one.policy].models)

    best: dict[float, RouteCertificate] = {}
    for one in router.certificates:
        if one.constraint.kind == asked.kind:
            other = best.get(one.constraint.level)
            if other is None or dear(one) < dear(other):
                best[one.constraint.level] = one
    if not best:
        return explain_uncertified(fitted, asked)
    rows = [
        [
            f"{level:g}",
            f"{one.quality:.1%}",
            f"{one.mean_cost:.4g}",
            f"{one.threshold:.4g}",
            " → ".join(router.policies[one.policy].models),
        ]
        for level, one in sorted(best.items())
    ]
    option = f"--{asked.kind.replace('_', '-')}"
    heads = [f"certified {option}", "quality", f"mean {router.unit}", "threshold", "models"]
    confidence = next(iter(best.values())).confidence
    return (
        table(heads, rows, "rrrrl") + f"\nThese are the policies that suit {asked}, and each model alone. "
        f"A line has confidence {confidence:.0%} for "
        "whoever decided on it before looking; a line that was picked from the table has less."
    )


def _curve(fitted: FittedRouter, test: TableOutcomes) -> FrontierCurve:
    policy = fitted.policies[0]
    points = policy.frontier(test, policy.thresholds(test, count=60))
    return FrontierCurve("zooselect", "ours", [(point.mean_ms, point.accuracy) for point in points])


def _environments(test: TableOutcomes, ours: Simulated) -> dict[str, dict[str, float]]:
    names = sorted(set(test.environments.tolist()))
    if not 1 < len(names) <= _MAX_ENVIRONMENTS:
        return {}
    found = {}
    for name in names:
        mask = test.environments == name
        singles = dict(zip(test.models, test.right[mask].mean(axis=0).tolist(), strict=True))
        found[name] = {"zooselect": float(ours.right[mask].mean()), **singles}
    return found


def _facts(fitted: FittedRouter, samples: int, asked: RouteConstraint) -> list[tuple[str, str]]:
    router, certificate = fitted.router, fitted.certificate(asked)
    calibration, policy = router.calibration, fitted.policies[0]
    counts = f"{samples:,} / {calibration.certify:,} / {calibration.fit + calibration.tune:,}"
    lines = [
        ("Policy", f"{policy.kind}: {' → '.join(policy.models)}, {len(paths_of(policy.policy))} ways to end"),
        ("Reference model", router.reference),
        ("Test / certify / fit + tune samples", counts),
        ("Costs", f"what was paid for every answer, in {router.unit}"),
    ]
    if certificate is None:
        lines.append(("Certificate", f"none for {asked}: {router.alone(asked)} answers"))
    else:
        lines.append(("Certificate", proven(fitted, asked)))
    if calibration.graded:
        lines.append(("A right answer", "has a quality between 0 and 1; accuracy is the mean quality"))
    if calibration.environment is not None:
        lines.append(("Environment", f"{calibration.environment}: no other was fitted or judged"))
    return lines


def proven(fitted: FittedRouter, asked: RouteConstraint) -> str:
    """What is certified, in one line."""
    one, unit = fitted.certificate(asked), fitted.router.unit
    assert one is not None
    text = (
        f"{one.constraint} at {one.confidence:.0%} confidence ({one.samples:,} samples: quality "
        f"{one.quality:.1%}, "
        f"{one.mean_cost:.3g} {unit}; p = {one.p_value:.2g}, {one.test}"
    )
    if one.test in ("binomial", "control-variate") and one.constraint.kind == "precision":
        text += f": {fitted.record.test_reason}"
    text += ")"
    return (
        text
        if one.most_cost is None
        else f"{text}, as long as no answer costs more than {one.most_cost:.3g} {unit}"
    )


def _notes(fitted: FittedRouter, rows: list[MethodRow], asked: RouteConstraint) -> list[str]:
    notes = [] if fitted.certificate(asked) is not None else [explain_uncertified(fitted, asked)]
    unit = fitted.router.unit
    named = {row.name: row for row in rows}
    ours, best = named["zooselect"], named["oracle"]
    reference = named[fitted.router.reference]
    if ours.mean_ms > 0:
        notes.append(
            f"The router pays {ours.mean_ms:.3g} {unit} an answer, {reference.name} alone "
            f"{reference.mean_ms:.3g} "
            f"({reference.mean_ms / ours.mean_ms:.2f}×), at a quality of {ours.accuracy:.1%} and "
            f"{reference.accuracy:.1%}. Whoever knew the answers would have {best.accuracy:.1%} for "
            f"{best.mean_ms:.3g}."
        )
    return notes
