"""Times of whole answers of a fit: measured where the latency table is of this machine, else estimated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from msgspec import UNSET

from selector.answering.measuring.bench import measure_paths
from selector.answering.selector import Selector
from selector.policies.paths import ALONE, paths_of, steps_of
from training.certificates.path_times import tails_known
from training.fitting.drift_reference import DriftFit
from training.fitting.export import export_bundle
from training.fitting.record import FitInputs, Found, Proven, assemble
from training.policies.base import FittedPolicy
from zoo.errors import LatencyError
from zoo.models.latency import LatencyTable, PathLatency
from zoo.models.machine import machine

RUNS = 200  # of every path
BUDGET_RUNS = 1000  # where the constraint is a budget of time: its bounds ask for more


def with_paths(found: Found, given: FitInputs, drift: DriftFit | None) -> FitInputs:
    """`given`, its table with times of whole answers, which the policies are charged from then on.

    A table that was measured on another machine is taken as it is: it may have paths of an earlier bundle,
    see :func:`selector.answering.measuring.bench.measure_folder`. On this machine, what it lacks of the
    first policy is timed, with the drift monitor of the bundle at work, as on devices with as many cores. A
    path that was not measured is charged for its parts, and for what measured answers of the same kind took
    beside theirs.
    """
    table = given.table
    first = found.policies[0].policy
    known = [table.path(steps_of(first), path) for path in paths_of(first)]
    remote = {card.name for card in given.zoo.cards if card.remote is not None} & set(first.models)
    computed = any(table.models[name].network is not UNSET for name in remote)
    on_time = given.options.constraint.on_time
    # servers are asked while fitting only where nothing else tells what a budget of time is about
    timed = not remote or (on_time and not computed)
    if timed and not all(known) and table.clock is not None and table.machine == machine():
        table = msgspec.structs.replace(table, paths=(*table.paths, *_timed(found, given, drift)))
    if given.options.constraint.kind == "p95_ms" and not tails_known(first, table, given.zoo.cards):
        raise LatencyError(
            f"expected whole answers that were timed for p95_ms over {', '.join(sorted(remote))}, got means: "
            "they say nothing of the slowest answers of a network. Measure on the device with 'zooselect "
            "bench BUNDLE' and give that table with --latency, ask for mean_ms, or leave out models on "
            "servers (--network none)."
        )
    beside = _beside(found.policies, table)
    for policy in found.policies:
        policy.charged_ms = dict(_charged(policy, table, beside))
    return replace(given, table=table)


def _timed(found: Found, given: FitInputs, drift: DriftFit | None) -> tuple[PathLatency, ...]:
    """Whole answers of a bundle of the policies, as a device would give them."""
    rng, kind = np.random.default_rng(given.options.seed), given.zoo.kind
    images = [kind.random(given.table.image, rng) for _ in range(8)]
    with TemporaryDirectory(prefix="zooselect-") as folder:
        export_bundle(assemble(given, found, Proven((), drift)), given.zoo, folder)
        selector = Selector.load(folder, threads=given.table.threads)
        asked = given.options.constraint
        alone = {selector.bundle.alone(asked), selector.reference}  # what answers without a certificate
        return measure_paths(
            selector,
            images,
            models=sorted(alone),
            runs=BUDGET_RUNS if asked.on_time else RUNS,
            seed=given.options.seed,
            watch=drift is not None,
            table=given.table,
        )


def _beside(policies: Sequence[FittedPolicy], table: LatencyTable) -> dict[tuple[str, int], float]:
    """Milliseconds that whole answers take beside their parts, by kind of steps and number of models.

    The parts are models, features and decisions. Checks of the input, the final probabilities and the label
    are what is beside them.
    """
    found: dict[tuple[str, int], list[float]] = {}
    for row in table.paths:
        parts = [table.models[name].latency.typical_ms for name in row.models if name in table.models]
        if row.steps == ALONE and len(parts) == 1:
            found.setdefault((ALONE, 1), []).append(row.latency.typical_ms - parts[0])
    for policy in policies:
        steps = steps_of(policy.policy)
        for path, parts_ms in zip(paths_of(policy.policy), policy.possible_costs_ms(), strict=True):
            latency = table.path(steps, path)
            if latency is not None and steps != ALONE:
                found.setdefault((steps, len(path)), []).append(latency.typical_ms - parts_ms)
    return {kind: max(0.0, float(np.median(rest))) for kind, rest in found.items()}


def _charged(
    policy: FittedPolicy, table: LatencyTable, beside: Mapping[tuple[str, int], float]
) -> Iterator[tuple[tuple[str, ...], float]]:
    steps = steps_of(policy.policy)
    known = {count: rest for (kind, count), rest in beside.items() if kind == steps}
    for path, parts_ms in zip(paths_of(policy.policy), policy.possible_costs_ms(), strict=True):
        latency = table.path(steps, path)
        if latency is not None:
            yield path, latency.typical_ms
        elif known:
            yield path, parts_ms + known[min(known, key=lambda count: (abs(count - len(path)), count))]
        else:
            yield path, parts_ms + beside.get((ALONE, 1), 0.0)
