"""Suite drift: how often the monitor is wrong on inputs that do not change, and how soon it sees a change."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.result import finish
from benchmarks.selection.zoos import Given, Prepared, prepare_cifar10_drift, prepare_digits
from selector.commands.tables import table
from selector.drift.blocks import LEAST_EVERY, Blocks
from selector.drift.monitor import BLOCK_INPUTS, Confidence, Monitor
from selector.drift.reference import DriftReference
from training.evaluation.records import wilson_interval
from training.features.image.features import WATCHED
from training.fitting.drift_bins import drift_feature
from training.fitting.drift_reference import ALPHA, drift_graph
from training.outcomes.outcomes import ALL_SPLITS, Outcomes, load_outcomes
from zoo.models.session import open_session

ALPHAS = (ALPHA, 0.1)
MIX = "mix"  # every original in an environment of its own, as certify samples are
MAX_DELAY_INPUTS = 100  # inputs within which a change should show
TIMED_INPUTS = 1500  # inputs of a round
ROUNDS = 7


@dataclass(frozen=True)
class Sizes:
    """How many originals of a suite play which part."""

    known: int  # edges of the bins
    calibration: int
    quiet: int  # of a stream in which nothing changes
    changed: int  # most inputs that a change is waited for


SUITES: dict[str, tuple[Callable[[Given], Prepared], str, Sizes]] = {
    "cifar10": (
        prepare_cifar10_drift,
        "resnet20",
        Sizes(known=1500, calibration=1000, quiet=1000, changed=500),
    ),
    "digits": (prepare_digits, "tiny", Sizes(known=400, calibration=250, quiet=300, changed=300)),
}


@dataclass(frozen=True)
class Pool:
    """What is watched of every original in every environment, the confidence of one model last."""

    names: tuple[str, ...]
    values: Mapping[str, NDArray[np.float32]]  # environment → [originals, F + 1]
    model: str
    every: int = LEAST_EVERY  # one of how many inputs is looked at while nothing speaks for a change

    @classmethod
    def of(cls, outcomes: Outcomes, model: str, *, every: int = LEAST_EVERY) -> Pool:
        """The pool of all outcomes of a profile with every original in every environment."""
        names = tuple(name for name in WATCHED if name in outcomes.feature_names)
        odds = outcomes.log_odds[:, [outcomes.models.index(model)]].astype(np.float32)
        columns = np.concatenate([outcomes.feature_columns(names), odds], axis=1)
        values = {}
        for environment in dict.fromkeys(outcomes.environments.tolist()):
            rows = np.flatnonzero(outcomes.environments == environment)
            values[environment] = columns[rows[np.argsort(outcomes.groups[rows])]]
        return cls(names, values, model, every)

    def drawn(self, environment: str, rng: np.random.Generator) -> NDArray[np.float32]:
        """All originals in random order, in one environment, or each in a random one."""
        if environment != MIX:
            return rng.permutation(self.values[environment])
        every = np.stack(list(self.values.values()))
        order = rng.permutation(every.shape[1])
        mixed: NDArray[np.float32] = every[rng.integers(0, len(every), len(order)), order]
        return mixed

    def monitor(
        self, known: NDArray[np.float32], calibration: NDArray[np.float32], seed: int, alpha: float = ALPHA
    ) -> Monitor:
        """A monitor that was calibrated on these samples."""
        every = [
            drift_feature(name, known[:, i], calibration[:, i])
            for i, name in enumerate([*self.names, self.model])
        ]
        reference = DriftReference(
            alpha=alpha,
            features=tuple(every[:-1]),
            confidence={self.model: every[-1]},
            file="drift.onnx",
            sha256="0" * 64,
            size_bytes=1,
        )
        return Monitor(reference, seed)

    def blocks(self, monitor: Monitor) -> Blocks[NDArray[np.float32]]:
        """What has a monitor look at inputs as a Selector does."""
        return Blocks(monitor, every=self.every)

    def delay(self, blocks: Blocks[NDArray[np.float32]], stream: NDArray[np.float32]) -> int:
        """Inputs until the alarm, as a Selector has them looked at; one more than there are without one."""
        for i, row in enumerate(stream):
            number = blocks.comes()
            if number:
                blocks.note(number, lambda row=row: row, self.looked)  # type: ignore[misc]
            if blocks.alarm:
                return i + 1
        blocks.status(self.looked)
        return len(stream) + (not blocks.alarm)

    def looked(self, waiting: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], list[Confidence]]:
        """What the monitor notes of inputs."""
        rows = np.stack(waiting)
        return rows[:, :-1], [(self.model, float(odds)) for odds in rows[:, -1]]


def stationary(pool: Pool, sizes: Sizes, calibrated: str, streams: int, seed: int) -> dict[str, Any]:
    """False alarms over streams in which nothing changes, each with a calibration set of its own."""
    highest = np.empty(streams)
    for s in range(streams):
        rng = np.random.default_rng([seed, s])
        drawn = pool.drawn(calibrated, rng)
        known, calibration, stream = _parts(drawn, sizes)
        monitor = pool.monitor(known, calibration, s, alpha=min(ALPHAS))
        pool.delay(pool.blocks(monitor), stream[: sizes.quiet])
        highest[s] = monitor.log_evidence
    row: dict[str, Any] = {"calibrated": calibrated, "streams": streams, "inputs": sizes.quiet}
    for alpha in ALPHAS:
        alarms = int((highest >= np.log(1 / alpha)).sum())
        low, high = wilson_interval(alarms, streams)
        row[f"alpha_{alpha:g}"] = {"alarms": alarms, "share": alarms / streams, "low": low, "high": high}
    return row


def change(
    pool: Pool, sizes: Sizes, calibrated: str, environment: str, quiet: int, runs: int, seed: int
) -> dict[str, Any]:
    """How soon a change to another environment shows, after so many inputs without one."""
    delays = np.empty(runs, dtype=np.intp)
    moved: Counter[str] = Counter()
    early = 0
    for r in range(runs):
        rng = np.random.default_rng([seed, r])
        known, calibration, stream = _parts(pool.drawn(calibrated, rng), sizes)
        monitor = pool.monitor(known, calibration, r)
        blocks = pool.blocks(monitor)
        early += pool.delay(blocks, stream[:quiet]) <= quiet
        delays[r] = pool.delay(blocks, pool.drawn(environment, rng)[: sizes.changed])
        moved.update(monitor.moved[:3])
    return {
        "calibrated": calibrated,
        "environment": environment,
        "quiet": quiet,
        "runs": runs,
        "median": float(np.median(delays)),
        "p90": float(np.quantile(delays, 0.9)),
        "within_100": float((delays <= MAX_DELAY_INPUTS).mean()),
        "never": float((delays > sizes.changed).mean()),
        "false_before": early,
        "moved": [name for name, _ in moved.most_common(3)],
    }


def run_drift(
    given: Given,
    *,
    suites: Sequence[str],
    streams: int,
    runs: int,
    every: int = LEAST_EVERY,
    results: Path,
) -> dict[str, Any]:
    """Run the suite, print tables and write the result file.

    Parameters
    ----------
    every
        One of how many inputs is looked at while nothing speaks for a change: by a Selector two to four; see
        :func:`selector.drift.blocks.every_for`.
    """
    figures: dict[str, Any] = {"alpha": ALPHA, "every": every, "suites": {}}
    for name in suites:
        prepare, model, sizes = SUITES[name]
        prepared = prepare(given)
        outcomes = load_outcomes(prepared.profile, zoo=prepared.zoo, splits=ALL_SPLITS)
        pool = Pool.of(outcomes, model, every=every)
        print(f"{prepared.title}; {sizes.calibration} calibration samples, confidence of {model}")
        calibrations = (next(iter(pool.values)), MIX)
        quiet = [stationary(pool, sizes, one, streams, given.seed) for one in calibrations]
        _print_quiet(quiet)
        changes = [
            change(pool, sizes, one, environment, before, runs, given.seed)
            for one in calibrations
            for before in (0, sizes.quiet)
            for environment in pool.values
            if environment != one
        ]
        _print_changes(changes)
        figures["suites"][name] = {"title": prepared.title, "stationary": quiet, "changes": changes}
    figures["us"] = {f"{size}x{size}": time_us(size, given.seed) for size in (32, 224)}
    for size, row in figures["us"].items():
        print(
            f"{size}: features {row['features']:.1f} µs, monitor {row['monitor']:.1f} µs an input alone; "
            f"{row['features_of_block']:.1f} and {row['monitor_of_block']:.1f} µs in blocks; "
            f"{row['stream']:.1f} µs with those that pass (means of the quietest round, one thread)"
        )
    return finish("drift", figures, seed=given.seed, folder=results)


def time_us(size: int, seed: int, *, inputs: int = TIMED_INPUTS) -> dict[str, float]:
    """Mean microseconds of one input: its features, the monitor with one model's confidence, and both.

    Alone, or :data:`BLOCK_INPUTS` at a time. The last is the mean over inputs like those that the monitor was
    calibrated on, as a Selector has them looked at: some pass, the others wait for one another. Of several
    rounds the quietest counts, as other processes may be at work.
    """
    rng = np.random.default_rng(seed)
    graph = open_session(drift_graph(WATCHED, 32), name="drift")
    images = rng.integers(0, 256, (16, size, size, 3), dtype=np.uint8)
    values = rng.normal(size=(inputs, len(WATCHED) + 1)).astype(np.float32)
    pool = Pool(WATCHED, {}, "first")
    monitor = pool.monitor(values, values, seed)
    blocks: Blocks[int] = Blocks(monitor)

    def features(i: int, count: int = 1) -> None:
        graph.run(["features"], {"image": images[np.arange(i, i + count) % len(images)]})

    def watched(i: int) -> None:
        monitor.update(values[i, :-1], ("first", float(values[i, -1])))

    def features_of_block(i: int) -> None:
        if i % BLOCK_INPUTS == 0:
            features(i, BLOCK_INPUTS)

    def watched_block(i: int) -> None:
        if i % BLOCK_INPUTS == 0:
            monitor.update_block(*pool.looked([*values[i : i + BLOCK_INPUTS]]))

    def looked(waiting: Sequence[int]) -> tuple[NDArray[np.float32], list[Confidence]]:
        features(waiting[0], len(waiting))
        return pool.looked([*values[list(waiting)]])

    def stream(i: int) -> None:
        number = blocks.comes()
        if number:
            blocks.note(number, lambda: i, looked)

    calls = {
        "features": features,
        "monitor": watched,
        "features_of_block": features_of_block,
        "monitor_of_block": watched_block,
        "stream": stream,
    }
    found = {}
    for name, call in calls.items():
        means = []
        for _ in range(ROUNDS):
            blocks.reset()
            start = time.perf_counter()
            for i in range(inputs):
                call(i)
            means.append((time.perf_counter() - start) / inputs * 1e6)
        found[name] = round(min(means), 2)
    return found


def _parts(drawn: NDArray[np.float32], sizes: Sizes) -> list[NDArray[np.float32]]:
    """Samples for the edges, for the counts, and the others."""
    return np.split(drawn, [sizes.known, sizes.known + sizes.calibration])


def _print_quiet(rows: Sequence[Mapping[str, Any]]) -> None:
    cells = []
    for row in rows:
        shares = [row[f"alpha_{alpha:g}"] for alpha in ALPHAS]
        shown = [f"{s['share']:.2%} ({s['low']:.2%} .. {s['high']:.2%})" for s in shares]
        cells.append([row["calibrated"], str(row["streams"]), str(row["inputs"]), *shown])
    print(table(["calibrated on", "streams", "inputs", *(f"α = {a:g}" for a in ALPHAS)], cells))


def _print_changes(rows: Sequence[Mapping[str, Any]]) -> None:
    cells = [
        [
            row["calibrated"],
            row["environment"],
            str(row["quiet"]),
            f"{row['median']:.0f}",
            f"{row['p90']:.0f}",
            f"{row['within_100']:.1%}",
            f"{row['never']:.1%}",
            ", ".join(row["moved"]),
        ]
        for row in rows
    ]
    heads = ["calibrated on", "then", "after", "median", "p90", "within 100", "never", "changed"]
    print(table(heads, cells, "llrrrrrl"))
