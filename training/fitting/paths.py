"""Times of whole answers of a fit: measured here where the latency table is of this machine, and recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from msgspec import UNSET

from selector.answering.bench import measure_paths
from selector.answering.selector import Selector
from selector.policies.paths import paths_of, steps_of
from training.certificates.path_times import tails_known
from training.fitting.export import export_bundle
from training.fitting.record import FitInputs, Found, Proven, assemble
from training.policies.base import FittedPolicy
from zoo.errors import LatencyError
from zoo.models.latency import LatencyTable, PathLatency, machine

RUNS = 200  # of every path
BUDGET_RUNS = 1000  # where the constraint is a budget of time: its bounds ask for more


def with_paths(found: Found, given: FitInputs) -> FitInputs:
    """`given`, its table with times of whole answers, which the policies are charged from then on.

    A table that was measured on another machine is taken as it is: it may have paths of an earlier bundle,
    see :func:`selector.answering.bench.measure_folder`. On this machine, what it lacks of the first policy
    is timed.
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
        table = msgspec.structs.replace(table, paths=(*table.paths, *_timed(found, given)))
    if given.options.constraint.kind == "p95_ms" and not tails_known(first, table, given.zoo.cards):
        raise LatencyError(
            f"expected whole answers that were timed for p95_ms over {', '.join(sorted(remote))}, got means: "
            "they say nothing of the slowest answers of a network. Measure on the device with 'zooselect "
            "bench BUNDLE' and give that table with --latency, ask for mean_ms, or leave out models on "
            "servers (--network none)."
        )
    for policy in found.policies:
        policy.measured_ms = dict(_measured(policy, table))
    return replace(given, table=table)


def _timed(found: Found, given: FitInputs) -> tuple[PathLatency, ...]:
    """Whole answers of a bundle of the policies, as a device would give them."""
    height, width = given.table.image
    rng = np.random.default_rng(given.options.seed)
    images = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(8)]
    with TemporaryDirectory(prefix="zooselect-") as folder:
        export_bundle(assemble(given, found, Proven((), None)), given.zoo, folder)
        selector = Selector.load(folder, threads=given.table.threads)
        asked = given.options.constraint
        alone = {selector.bundle.alone(asked), selector.reference}  # what answers without a certificate
        return measure_paths(
            selector,
            images,
            models=sorted(alone),
            runs=BUDGET_RUNS if asked.on_time else RUNS,
            seed=given.options.seed,
        )


def _measured(policy: FittedPolicy, table: LatencyTable) -> Iterator[tuple[tuple[str, ...], float]]:
    for path in paths_of(policy.policy):
        latency = table.path(steps_of(policy.policy), path)
        if latency is not None:
            yield path, latency.typical_ms
