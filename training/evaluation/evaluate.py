"""Evaluation on the test split: accuracy and time of the selector, of single models, and of the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from selector.policies.constraint import Constraint
from training.data.splits import TEST
from training.evaluation.findings import facts, notes, subtitle
from training.evaluation.records import (
    Evaluation,
    FeatureShown,
    FrontierCurve,
    Kind,
    MethodRow,
    wilson_interval,
)
from training.evaluation.wallclock import Timed
from training.fitting.fitted import Fitted
from training.outcomes.outcomes import Outcomes, load_outcomes, pixels_of
from training.outcomes.parts import read_profile_record
from training.policies.frontier import Simulated, by_cost
from zoo.errors import StaleError
from zoo.models.zoo import Zoo

RELIABILITY_BINS = 10


def evaluate(
    fitted: Fitted,
    profile_folder: str | Path,
    *,
    zoo: Zoo | None = None,
    asked: Constraint | None = None,
    timed: Sequence[Timed] = (),
    our_row: str | None = None,
    title: str = "Zooselect evaluation",
    next_commands: Sequence[str] = (),
) -> Evaluation:
    """Judge a fitted selector on the test split of a profile, which nothing was chosen on.

    Parameters
    ----------
    asked
        Constraint to answer with; by default the fitted one.
    timed
        Wall-clock results on the same test images; they replace the rows that were added up from the latency
        table.
    our_row
        Name of the selector's row, in `timed` and in the result; by default :func:`our_name`.

    Raises
    ------
    StaleError
        When profile and fit are of different models.
    DataError
        When the profile has no test samples.

    Examples
    --------
    >>> from training.evaluation.evaluate import evaluate
    >>> evaluation = evaluate(fitted, "my-profile")
    >>> evaluation.ours.accuracy > 0.85
    True
    """
    bundle = fitted.record.bundle
    calibration = bundle.calibration
    test = load_outcomes(profile_folder, zoo=zoo, splits=(TEST,)).judged(
        top_k=calibration.top_k, agree_with=calibration.agree_with
    )
    if calibration.environment is not None:
        test = test.environment(calibration.environment)
    names = [card.name for card in bundle.models]
    profiled = read_profile_record(profile_folder).models
    changed = [card.name for card in bundle.models if profiled.get(card.name) != card.sha256]
    if changed:
        raise StaleError(
            f"the selector was fitted for other files of {', '.join(changed)} than the profile in "
            f"{profile_folder} holds. Run 'zooselect fit' again."
        )
    return evaluate_outcomes(
        fitted,
        fitted.informed(test.with_models(names), partial(pixels_of, profile_folder)),
        asked=asked,
        timed=timed,
        our_row=our_row,
        title=title,
        next_commands=next_commands,
    )


def evaluate_outcomes(
    fitted: Fitted,
    test: Outcomes,
    *,
    asked: Constraint | None = None,
    timed: Sequence[Timed] = (),
    our_row: str | None = None,
    title: str = "Zooselect evaluation",
    next_commands: Sequence[str] = (),
) -> Evaluation:
    """:func:`evaluate` on test outcomes in memory, with all features that the policies use."""
    bundle = fitted.record.bundle
    asked = bundle.default if asked is None else asked
    costs = bundle.costs_ms().models
    measured = {item.name: item for item in timed}
    ours = simulate_at(fitted, test, asked)
    our = our_row or our_name(asked)
    rows = [_single_row(test, name, costs, measured.get(name)) for name in by_cost(costs, test.models)]
    rows.append(_our_row(fitted, test, ours, asked, our, measured.get(our)))
    rows.append(oracle_row(test, {row.name: row.mean_ms for row in rows if row.kind == "single"}))
    frontier = fitted.policy.frontier(test, fitted.policy.thresholds(test))
    return Evaluation(
        title=title,
        subtitle=subtitle(fitted, len(test), asked),
        asked_precision=asked.level if asked.kind == "precision" else None,
        rows=rows,
        curves=[
            FrontierCurve(our_name(None), "ours", sorted({(p.mean_ms, p.accuracy) for p in frontier})),
        ],
        mixes=_mixes(fitted, test),
        environments=_environments(fitted, test, ours, asked),
        reliability=_reliability(fitted, test),
        features=[
            FeatureShown(item.name, item.kept, item.reason, item.cost_us or None)
            for item in fitted.record.features
        ],
        facts=facts(fitted, len(test), asked, wall_clock=bool(timed)),
        notes=notes(fitted, rows, asked),
        next_commands=list(next_commands),
        asked=str(asked),
        reference_model=bundle.reference,
        gain=fitted.record.gain,
        times={
            item.name: item.all_times_ms.tolist() for item in timed if item.name in (our, bundle.reference)
        },
        comparisons=fitted.record.comparisons,
        storage=fitted.record.storage,
    )


def our_name(asked: Constraint | None) -> str:
    """Name of the selector's row under a constraint."""
    if asked is None:
        return "zooselect"
    return (
        f"zooselect {asked.level:g}"
        if asked.kind == "precision"
        else f"zooselect {asked.kind} {asked.level:g}"
    )


def simulate_at(fitted: Fitted, outcomes: Outcomes, asked: Constraint) -> Simulated:
    """What the bundle would do under a constraint: the certified threshold, else the reference model."""
    certificate = fitted.certificate(asked)
    if certificate is not None:
        return fitted.policy.simulate(outcomes, certificate.threshold)
    bundle = fitted.record.bundle
    column = outcomes.models.index(bundle.reference)
    models = fitted.policy.models
    answered = models.index(bundle.reference) if bundle.reference in models else -1
    count = len(outcomes)
    cost = bundle.costs_ms().models[bundle.reference]
    return Simulated(
        np.inf, np.full(count, answered), outcomes.right[:, column], np.full(count, cost, dtype=np.float64)
    )


def oracle_row(outcomes: Outcomes, costs: Mapping[str, float]) -> MethodRow:
    """The cheapest right model for every input, the cheapest of all where none is right."""
    order = by_cost(costs, outcomes.models)
    right = outcomes.with_models(order).right
    pick = np.where(right.any(axis=1), right.argmax(axis=1), 0)
    times = np.array([costs[name] for name in order])[pick]
    return _row("oracle", "oracle", np.asarray(right.any(axis=1)), times, _shares(order, pick))


def _single_row(outcomes: Outcomes, name: str, costs: Mapping[str, float], timed: Timed | None) -> MethodRow:
    if timed is not None:
        return _timed_row(timed, "single", None)
    right = outcomes.right[:, outcomes.models.index(name)]
    return _row(name, "single", right, np.full(len(right), costs[name]), {name: 1.0})


def _our_row(
    fitted: Fitted,
    outcomes: Outcomes,
    simulated: Simulated,
    asked: Constraint,
    name: str,
    timed: Timed | None,
) -> MethodRow:
    precision = asked.level if asked.kind == "precision" else None
    if timed is not None:
        return _timed_row(timed, "ours", precision)
    certified = fitted.certificate(asked) is not None
    models = fitted.policy.models
    shares = _shares(models, simulated.answered_by) if certified else {fitted.record.bundle.reference: 1.0}
    return _row(name, "ours", simulated.right, simulated.cost_ms, shares, precision, certified)


def _timed_row(timed: Timed, kind: Kind, precision: float | None) -> MethodRow:
    low, high = wilson_interval(int(timed.right.sum()), len(timed.right))
    latency = timed.latency
    return MethodRow(
        name=timed.name,
        kind=kind,
        precision=precision,
        accuracy=timed.accuracy,
        accuracy_low=low,
        accuracy_high=high,
        mean_ms=latency.mean_ms,
        p95_ms=latency.p95_ms,
        shares=timed.answered_by,
        certified=timed.certified,
        wall_clock=True,
    )


def _row(
    name: str,
    kind: Kind,
    right: np.ndarray,
    times: np.ndarray,
    shares: Mapping[str, float],
    precision: float | None = None,
    certified: bool | None = None,
) -> MethodRow:
    low, high = wilson_interval(int(right.sum()), len(right))
    return MethodRow(
        name=name,
        kind=kind,
        precision=precision,
        accuracy=float(right.mean()),
        accuracy_low=low,
        accuracy_high=high,
        mean_ms=float(times.mean()),
        p95_ms=float(np.quantile(times, 0.95)),
        shares=shares,
        certified=certified,
        wall_clock=False,
    )


def _shares(models: Sequence[str], picks: np.ndarray) -> dict[str, float]:
    counts = np.bincount(picks, minlength=len(models)) / len(picks)
    return {name: float(share) for name, share in zip(models, counts, strict=True) if share > 0}


def _mixes(fitted: Fitted, test: Outcomes) -> list[tuple[float, Mapping[str, float]]]:
    mixes: list[tuple[float, Mapping[str, float]]] = []
    simulator = fitted.policy.simulator(test)
    for level in fitted.certified_levels("precision"):
        certificate = fitted.certificate(Constraint(kind="precision", level=level))
        assert certificate is not None
        picks = simulator(certificate.threshold).answered_by
        mixes.append((level, _shares(fitted.policy.models, picks)))
    step = max(1, -(-len(mixes) // 12))
    return mixes[::-1][::step][::-1]


def _environments(
    fitted: Fitted, test: Outcomes, ours: Simulated, asked: Constraint
) -> dict[str, dict[str, float]]:
    names = sorted(set(test.environments.tolist()))
    if len(names) < 2:
        return {}
    bundle = fitted.record.bundle
    costs = bundle.costs_ms().models
    shown = list(dict.fromkeys([by_cost(costs, test.models)[0], bundle.reference]))
    table: dict[str, dict[str, float]] = {}
    for name in names:
        mask = test.environments == name
        table[name] = {model: float(test.right[mask, test.models.index(model)].mean()) for model in shown} | {
            our_name(asked): float(ours.right[mask].mean())
        }
    return table


def _reliability(fitted: Fitted, test: Outcomes) -> dict[str, list[tuple[float, float, int]]]:
    curves = {}
    for name, (probability, right) in fitted.policy.estimates(test).items():
        edges = np.unique(np.quantile(probability, np.linspace(0, 1, RELIABILITY_BINS + 1)))
        places = np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, max(0, len(edges) - 2))
        curves[name] = [
            (float(probability[mask].mean()), float(right[mask].mean()), int(mask.sum()))
            for place in np.unique(places)
            for mask in [places == place]
        ]
    return curves
