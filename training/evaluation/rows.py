"""Rows of an evaluation: a method, how often it is right, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from selector.policies.constraint import Constraint
from training.certificates.sent import Sent
from training.evaluation.records import Kind, MethodRow, wilson_interval
from training.evaluation.wallclock import Timed
from training.fitting.fitted import Fitted
from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Simulated, by_cost


def oracle_row(outcomes: Outcomes, costs: Mapping[str, float]) -> MethodRow:
    """The cheapest right model for every input, the cheapest of all where none is right."""
    order = by_cost(costs, outcomes.models)
    right = outcomes.with_models(order).right
    pick = np.where(right.any(axis=1), right.argmax(axis=1), 0)
    times = np.array([costs[name] for name in order])[pick]
    return row_of("oracle", "oracle", np.asarray(right.any(axis=1)), times, shares_of(order, pick))


def timed_row(timed: Timed, kind: Kind, precision: float | None) -> MethodRow:
    """The row of real answers, with the times of single calls."""
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


def row_of(
    name: str,
    kind: Kind,
    right: np.ndarray,
    times: np.ndarray,
    shares: Mapping[str, float],
    precision: float | None = None,
    certified: bool | None = None,
) -> MethodRow:
    """The row of answers: whether they are right or their qualities, and times or costs, both ``[n]``."""
    low, high = quality_interval(right)
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


def quality_interval(right: np.ndarray) -> tuple[float, float]:
    """95 % confidence interval of a mean quality: Wilson's, or the normal one where answers are graded."""
    if right.dtype == np.bool_:
        return wilson_interval(int(right.sum()), len(right))
    mean, half = float(right.mean()), 1.96 * float(right.std()) / np.sqrt(len(right))
    return max(0.0, mean - half), min(1.0, mean + half)


def with_sent(
    rows: Sequence[MethodRow], fitted: Fitted, asked: Constraint, ours: Simulated
) -> list[MethodRow]:
    """The rows with what they send to servers, where a model is on one.

    Parameters
    ----------
    ours
        The selector on all inputs: its charges tell the paths.
    """
    bundle = fitted.record.bundle
    remote = {card.name: card.remote.uplink_bytes / 1e3 for card in bundle.models if card.remote is not None}
    if not remote:
        return list(rows)
    certified = fitted.certificate(asked) is not None
    sent = Sent.of(fitted.policy.policy, bundle.models, fitted.policy.possible_costs_ms())
    found = []
    for row in rows:
        share = sum(part for name, part in row.shares.items() if name in remote)
        kb = sum(part * remote.get(name, 0.0) for name, part in row.shares.items())
        if row.kind == "ours" and certified and sent is not None:
            share = float(sent.remote_of(ours.cost_ms).mean())
            kb = float(sent.kb_of(ours.cost_ms).mean())
        found.append(replace(row, sent_share=share, sent_kb=kb))
    return found


def shares_of(models: Sequence[str], picks: np.ndarray) -> dict[str, float]:
    """Share of the inputs that each model answers, from columns `picks` ``[n]`` of `models`."""
    counts = np.bincount(picks, minlength=len(models)) / len(picks)
    return {name: float(share) for name, share in zip(models, counts, strict=True) if share > 0}
