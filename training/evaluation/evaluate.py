"""Evaluation on the test split: accuracy and time of the selector, of single models, and of the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selector.policies.constraint import Constraint
from training.data.splits import TEST
from training.evaluation.breakdown import breakdown
from training.evaluation.busy import busy_run, busy_table, measure_again, remedy, table_in
from training.evaluation.findings import certified_alone, facts, notes, only_model, subtitle
from training.evaluation.records import (
    Breakdown,
    Evaluation,
    FeatureShown,
    FrontierCurve,
    MethodRow,
)
from training.evaluation.rows import oracle_row, row_of, shares_of, timed_row, with_sent
from training.evaluation.single_model import single_as_good
from training.evaluation.wallclock import Timed
from training.fitting.fitted import Fitted
from training.outcomes.outcomes import Outcomes, load_outcomes, pixels_of
from training.outcomes.parts import read_profile_record
from training.policies.frontier import Simulated, by_cost
from zoo.errors import StaleError
from zoo.models.latency import LatencyTable
from zoo.models.zoo import Zoo

RELIABILITY_BINS = 10
MAX_OTHER_SETTINGS = 4
MAX_OTHER_MIXES = 11


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
    latency: LatencyTable | None = None,
) -> Evaluation:
    """Judge a fitted selector on the test split of a profile, which nothing was chosen on.

    Parameters
    ----------
    asked
        Constraint to answer with; by default the fitted one.
    timed
        Wall-clock results on the same test images. Where they hold the selector and every single model, all
        times are theirs, the curve's too; otherwise all times are added up from the latency table.
    our_row
        Name of the selector's row, in `timed` and in the result; by default :func:`our_name`.
    latency
        The table that costs are from, which says how busy the machine was; by default the one in the profile.

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
    profiled = read_profile_record(profile_folder).models
    changed = [card.name for card in bundle.models if profiled.get(card.name) != card.sha256]
    if changed:
        raise StaleError(
            f"the selector was fitted for other files of {', '.join(changed)} than the profile in "
            f"{profile_folder} holds. Run 'zooselect fit' again."
        )
    table = table_in(Path(profile_folder), fitted) if latency is None else latency
    where = None if zoo is None else zoo.folder
    again = "" if table is None else measure_again(table, zoo=where, profile=profile_folder)
    return evaluate_outcomes(
        fitted,
        fitted.informed(
            test.with_models([card.name for card in bundle.models]), partial(pixels_of, profile_folder)
        ),
        asked=asked,
        timed=timed,
        our_row=our_row,
        title=title,
        next_commands=next_commands,
        latency=table,
        again=again,
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
    latency: LatencyTable | None = None,
    again: str = "",
) -> Evaluation:
    """:func:`evaluate` on test outcomes in memory, with all features that the policies use.

    `again` is the command that measures the latency table once more, where there is one.
    """
    bundle = fitted.record.bundle
    asked = bundle.default if asked is None else asked
    costs = bundle.costs_ms().models
    our = our_row or our_name(asked)
    measured = {item.name: item for item in timed}
    wall_clock = {our, *test.models} <= set(measured)
    if not wall_clock:  # points of two clocks do not belong in one plot
        measured = {}
    ours = simulate_at(fitted, test, asked)
    rows = [_single_row(test, name, costs, measured.get(name)) for name in by_cost(costs, test.models)]
    rows.append(_our_row(fitted, test, ours, asked, our, measured.get(our)))
    rows.append(oracle_row(test, {row.name: row.mean_ms for row in rows if row.kind == "single"}))
    rows = with_sent(rows, fitted, asked, ours)
    busy = busy_run(timed) if wall_clock else busy_table(latency, test.models) if latency else ""
    as_good = single_as_good(
        (_right(ours.right, measured.get(our)), ours.mean_ms if busy else rows[-2].mean_ms),
        {
            row.name: (
                _right(test.right[:, test.models.index(row.name)], measured.get(row.name)),
                costs[row.name] if busy else row.mean_ms,
            )
            for row in rows[:-2]
        },
        times_known=not busy,
        alone=only_model(fitted, asked),
    )
    if as_good is not None:
        as_good = replace(as_good, certified=certified_alone(fitted, asked, as_good.name))
    if busy:
        busy = f"Times are not compared: {busy}. {remedy(wall_clock=wall_clock, again=again)}"
    return Evaluation(
        title=title,
        subtitle=subtitle(fitted, len(test), asked),
        asked_precision=asked.level if asked.kind == "precision" else None,
        rows=rows,
        curves=[_curve(fitted, test, timed if wall_clock else ())],
        mixes=_mixes(fitted, test, asked, rows[-2].shares),
        mix_kind=asked.kind,
        asked_level=asked.level,
        environments=_environments(fitted, test, ours, asked),
        reliability=_reliability(fitted, test),
        features=[
            FeatureShown(item.name, item.kept, item.reason, item.cost_us or None)
            for item in fitted.record.features
        ],
        facts=facts(fitted, len(test), asked, wall_clock=wall_clock),
        notes=notes(fitted, rows, asked, times_known=not busy),
        next_commands=list(next_commands),
        asked=str(asked),
        reference_model=bundle.reference,
        gain=fitted.record.gain,
        times={
            item.name: item.all_times_ms.tolist() for item in timed if item.name in (our, bundle.reference)
        },
        comparisons=fitted.record.comparisons,
        storage=fitted.record.storage,
        as_good=as_good,
        busy=busy,
        finding=" ".join(filter(None, [as_good.sentence if as_good else "", busy])),
        breakdown=_breakdown(fitted, test, asked, measured.get(our)),
    )


def other_settings(fitted: Fitted, asked: Constraint) -> dict[str, Constraint]:
    """Further certified settings of the same kind to answer with: with them, the curve is timed for real.

    Up to :data:`MAX_OTHER_SETTINGS`, spread over all that differ from `asked` and from each other.
    """
    chosen = fitted.certificate(asked)
    seen = set() if chosen is None else {chosen.threshold}
    found: list[Constraint] = []
    for level in fitted.certified_levels(asked.kind):
        setting = Constraint(kind=asked.kind, level=level)
        certificate = fitted.certificate(setting)
        if certificate is not None and certificate.threshold not in seen:
            seen.add(certificate.threshold)
            found.append(setting)
    places = np.linspace(0, len(found) - 1, min(len(found), MAX_OTHER_SETTINGS)).round().astype(int)
    return {our_name(found[i]): found[i] for i in places.tolist()}


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
    """What the bundle would do under a constraint: the certified threshold, else :meth:`.Bundle.alone`."""
    certificate = fitted.certificate(asked)
    if certificate is not None:
        return fitted.policy.simulate(outcomes, certificate.threshold)
    bundle = fitted.record.bundle
    alone = bundle.alone(asked)
    column = outcomes.models.index(alone)
    models = fitted.policy.models
    answered = models.index(alone) if alone in models else -1
    count, cost = len(outcomes), bundle.alone_ms(alone)
    return Simulated(
        np.inf, np.full(count, answered), outcomes.right[:, column], np.full(count, cost, dtype=np.float64)
    )


def _right(simulated: NDArray[np.bool_], timed: Timed | None) -> NDArray[np.bool_]:
    return simulated if timed is None else timed.right


def _curve(fitted: Fitted, test: Outcomes, timed: Sequence[Timed]) -> FrontierCurve:
    """Settings of the selector: those that were timed for real, or all thresholds from the latency table."""
    real = [(item.latency.mean_ms, item.accuracy) for item in timed if item.certified is not None]
    if real:
        return FrontierCurve(our_name(None), "ours", sorted(set(real)), wall_clock=True)
    frontier = fitted.policy.frontier(test, fitted.policy.thresholds(test))
    return FrontierCurve(our_name(None), "ours", sorted({(p.mean_ms, p.accuracy) for p in frontier}))


def _breakdown(fitted: Fitted, test: Outcomes, asked: Constraint, timed: Timed | None) -> Breakdown:
    certificate = fitted.certificate(asked)
    if timed is not None and timed.labels is not None:
        index = {name: i for i, name in enumerate(test.classes)}
        answered = np.array([index[name] for name in timed.labels.tolist()], dtype=np.intp)
    elif certificate is None:
        answered = test.predicted[:, test.models.index(fitted.record.bundle.alone(asked))]
    else:
        answered = fitted.policy.answers(test, certificate.threshold)
    costs = fitted.record.bundle.costs_ms().models
    best = max(test.accuracy().items(), key=lambda item: (item[1], -costs[item[0]]))[0]
    column = test.models.index(best)
    return breakdown(
        test.classes,
        test.labels,
        test.environments,
        ours=(answered, _right(simulate_at(fitted, test, asked).right, timed)),
        single=(test.predicted[:, column], test.right[:, column]),
        name=best,
    )


def _single_row(outcomes: Outcomes, name: str, costs: Mapping[str, float], timed: Timed | None) -> MethodRow:
    if timed is not None:
        return timed_row(timed, "single", None)
    right = outcomes.right[:, outcomes.models.index(name)]
    return row_of(name, "single", right, np.full(len(right), costs[name]), {name: 1.0})


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
        return timed_row(timed, "ours", precision)
    certified = fitted.certificate(asked) is not None
    models = fitted.policy.models
    shares = (
        shares_of(models, simulated.answered_by) if certified else {fitted.record.bundle.alone(asked): 1.0}
    )
    return row_of(name, "ours", simulated.right, simulated.cost_ms, shares, precision, certified)


def _mixes(
    fitted: Fitted, test: Outcomes, asked: Constraint, at_asked: Mapping[str, float]
) -> list[tuple[float, Mapping[str, float]]]:
    """Who answers at the certified levels of the kind that was asked for, and at the asked level itself."""
    mixes: list[tuple[float, Mapping[str, float]]] = []
    simulator = fitted.policy.simulator(test)
    for level in fitted.certified_levels(asked.kind):
        certificate = fitted.certificate(Constraint(kind=asked.kind, level=level))
        assert certificate is not None
        if level != asked.level:
            picks = simulator(certificate.threshold).answered_by
            mixes.append((level, shares_of(fitted.policy.models, picks)))
    step = max(1, -(-len(mixes) // MAX_OTHER_MIXES))
    return sorted([*mixes[::-1][::step], (asked.level, at_asked)], key=lambda mix: mix[0])


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
