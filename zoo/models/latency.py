"""Latency tables: how long every model takes on this device, measured fairly and described honestly."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType
from numpy.typing import NDArray

from zoo.errors import CardError, LatencyError
from zoo.files import encode_record, read_record, write_atomic
from zoo.inputs.kind import Item
from zoo.models.machine import Machine, machine
from zoo.models.spread import two_peaks
from zoo.models.timing import RUNS_IN_A_ROW, Clock, Times, clock_of, time_interleaved
from zoo.models.zoo import Zoo
from zoo.providers import CPU, Provider
from zoo.types import Name, NonNegative, Positive, Sha256

SCHEMA_VERSION = 2  # tables of version 1 do not know of interruptions, nor single runs
MIN_RUNS = 20
MAX_RUNS = 10_000  # all of them are kept
BUSY_SHARE = 0.1  # of the runs interrupted: then the machine was busy

Milliseconds = Annotated[float, Meta(gt=0, lt=1e7)]


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Wall-clock time of one image, in milliseconds, over the runs that nothing interrupted.

    See :attr:`zoo.models.timing.Times.interrupted`. Tables of schema version 1 have no p99 and no single
    runs, and do not know how many were interrupted.

    Examples
    --------
    >>> latency = table.models["tiny"].latency
    >>> latency.p50_ms, latency.runs
    (0.1, 500)
    """

    p50_ms: Milliseconds
    p50_low_ms: Milliseconds  # 95 % confidence interval of the median
    p50_high_ms: Milliseconds
    p95_ms: Milliseconds
    mean_ms: Milliseconds
    runs: Positive  # that count
    p99_ms: Milliseconds | None = None
    interrupted: NonNegative | None = None  # further runs, which are left out
    times_ms: Annotated[tuple[Milliseconds, ...], Meta(max_length=MAX_RUNS)] = ()  # of all runs, ascending

    @property
    def share_interrupted(self) -> float | None:
        """Share of all runs that were interrupted; None where it is not known."""
        return None if self.interrupted is None else self.interrupted / (self.runs + self.interrupted)

    @property
    def typical_ms(self) -> float:
        """What an answer costs: the mean; the median where interrupted runs may be among them."""
        return self.p50_ms if self.interrupted is None else self.mean_ms

    @property
    def two_peaks_ms(self) -> tuple[float, float] | None:
        """See :func:`zoo.models.spread.two_peaks`."""
        return two_peaks(self.times_ms)


class ModelLatency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Latency of the model file with the digest `sha256`."""

    sha256: Sha256
    latency: Latency
    network: str | UnsetType = UNSET  # of the network table that a mean was computed from; else measured


class PathLatency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Latency of whole answers in which these models run, as an application waits for them."""

    steps: str  # kind of policy that decides on the way, or "alone"; see selector.policies.paths.steps_of
    models: Annotated[tuple[Name, ...], Meta(min_length=1)]  # that run, in order
    latency: Latency
    watched: bool = False  # whether a drift monitor looked at every input


class LatencyTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Latency of every model on one device, single images, fixed number of threads.

    Examples
    --------
    >>> table.device, sorted(table.models)
    ('bench-top', ['full', 'small', 'tiny'])
    """

    schema_version: Positive
    device: Name
    threads: Positive
    # height, width in pixels of the images that were answered; of other kinds of input 1 and their length
    image: tuple[Positive, Positive]
    machine: Machine
    models: dict[str, ModelLatency]
    selector: ModelLatency | None = None  # features and scores, where a bundle was measured
    provider: str | None = None  # of ONNX Runtime, and its options after a colon; None: not known
    clock: Clock | None = None  # of the processor, that tells interruptions; None: none did
    paths: tuple[PathLatency, ...] = ()  # whole answers, where a bundle was measured

    def path(self, steps: str, models: Sequence[str]) -> Latency | None:
        """What whole answers on a path took; None where it was not measured.

        Examples
        --------
        >>> table.path("cascade", ("tiny", "full")) is None  # this way was not measured
        True
        """
        found = [row for row in self.paths if row.steps == steps and row.models == tuple(models)]
        return found[0].latency if found else None

    def share_interrupted(self, models: Collection[str] | None = None) -> float | None:
        """Largest share of interrupted runs of a model (by default of all); None where it is not known.

        Examples
        --------
        >>> 0 <= (table.share_interrupted() or 0.0) <= 1
        True
        """
        rows = [row.latency for name, row in self.models.items() if models is None or name in models]
        rows += [row.latency for row in self.paths if models is None or set(row.models) <= set(models)]
        shares = [one.share_interrupted for one in rows]
        return max((share for share in shares if share is not None), default=None)

    @property
    def busy(self) -> bool:
        """Whether more than a tenth of the runs of some model were interrupted."""
        return (self.share_interrupted() or 0.0) > BUSY_SHARE

    def tail(self, models: Collection[str]) -> float:
        """99th percentile of a model's runs over its mean, the median of `models`; 1 where not known.

        Examples
        --------
        >>> table.tail(["tiny", "full"]) >= 1
        True
        """
        rows = [row.latency for name, row in self.models.items() if name in models]
        known = [one.p99_ms / one.typical_ms for one in rows if one.p99_ms is not None]
        return max(1.0, float(np.median(known))) if known else 1.0

    def costs_ms(self, zoo: Zoo) -> dict[str, float]:
        """Typical milliseconds of every model of `zoo`: see :attr:`Latency.typical_ms`.

        Raises
        ------
        LatencyError
            When a model was not measured, or has been replaced since it was.

        Examples
        --------
        >>> table.costs_ms(zoo)["full"]
        1.0
        """
        costs = {}
        for card in zoo.cards:
            row = self.models.get(card.name)
            if row is None or row.sha256 != card.sha256:
                reason = "is not in" if row is None else "has changed since"
                raise LatencyError(
                    f"model {card.name!r} {reason} the latency table of device {self.device!r}, which holds: "
                    f"{', '.join(self.models) or 'nothing'}. Measure again with 'zooselect bench', "
                    "or name the right table with --latency."
                )
            cost = row.latency.typical_ms
            if not 0 < cost < float("inf"):
                raise LatencyError(
                    f"expected a positive finite time of model {card.name!r} on device {self.device!r}, "
                    f"got {cost!r} ms. Measure again with 'zooselect bench'."
                )
            costs[card.name] = cost
        return costs


def summarise(measured: Times | NDArray[np.float64] | Sequence[float]) -> Latency:
    """Summary of single-run times, or of milliseconds that nothing interrupted.

    The interval of the median is the distribution-free one from order statistics: the ranks
    n/2 ± 0.98·sqrt(n) bound it with 95 % confidence (Conover, Practical Nonparametric Statistics, §3.2).

    Raises
    ------
    LatencyError
        When there is no time, or one is not a positive finite number.
    """
    taken = measured.kept_ms if isinstance(measured, Times) else measured
    times = np.sort(np.asarray(taken, dtype=np.float64))
    if not len(times) or not np.isfinite(times).all() or times[0] <= 0:
        raise LatencyError(
            f"expected positive finite times, got {len(times)} of them with NaN, 0 or none at all."
        )
    half = 0.98 * np.sqrt(len(times))
    low = max(0, int(np.floor(len(times) / 2 - half)))
    high = min(len(times) - 1, int(np.ceil(len(times) / 2 + half)))
    return Latency(
        p50_ms=float(np.median(times)),
        p50_low_ms=float(times[low]),
        p50_high_ms=float(times[high]),
        p95_ms=float(np.quantile(times, 0.95)),
        mean_ms=float(f"{times.mean():.12g}"),  # of equal times, that time
        runs=len(times),
        p99_ms=float(np.quantile(times, 0.99)),
        interrupted=len(measured.wall_ms) - len(times) if isinstance(measured, Times) else 0,
        times_ms=tuple(np.round(times, 6).clip(1e-6).tolist()) if len(times) <= MAX_RUNS else (),
    )


def summarise_on(provider: Provider, measured: Times) -> Latency:
    """:func:`summarise`; with another provider than the CPU's, of all runs.

    It works in threads or on a chip of its own: meanwhile the clock of the calling thread stands still,
    whether it was interrupted or not.
    """
    if provider.is_cpu:
        return summarise(measured)
    every = Times(measured.wall_ms, np.zeros_like(measured.wall_ms))
    return msgspec.structs.replace(summarise(every), interrupted=None)


def measure(
    zoo: Zoo,
    images: Sequence[Item],
    *,
    device: str,
    threads: int = 1,
    runs: int = 200,
    seed: int = 0,
    progress: bool = False,
    provider: Provider = CPU,
) -> LatencyTable:
    """Measure all models of `zoo` on this machine, one image at a time, in interleaved bursts.

    Runs that other programs interrupt are counted and left out.

    Parameters
    ----------
    images
        Inputs of the size that the device will see, such as images uint8 ``[H, W, 3]``; the size of the first
        is recorded.
    device
        A name for this machine and setting, such as ``pixel-8`` or ``this-machine``.
    runs
        Runs per model, at least 20; those that are interrupted are among them.
    provider
        What runs the models; the table names it with its options.

    Raises
    ------
    LatencyError
        When there is no model or no image, `runs` is too small to say anything, or `device` is not a name
        (lower case, digits, ``. _ -``).
    InputError
        When an image is not such an array.
    """
    if not zoo.names or not images:
        raise LatencyError(
            f"expected models and images, got {len(zoo.names)} models and {len(images)} images."
        )
    if runs < MIN_RUNS:
        raise LatencyError(f"expected at least {MIN_RUNS} runs per model for a p95, got {runs}.")
    if runs > MAX_RUNS:
        raise LatencyError(f"expected at most {MAX_RUNS:,} runs per model, got {runs:,}.")
    for what, value, kind in (("device", device, Name), ("threads", threads, Positive)):
        try:  # now, because a table that does not validate could not be read back
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise LatencyError(f"{what}: {error}, got {value!r}. Choose another one.") from error
    batches = [zoo.kind.one(image) for image in images]
    models = {name: zoo.model(name, threads=threads, provider=provider) for name in zoo.names}
    calls = {name: model.logits for name, model in models.items()}
    times = time_interleaved(
        calls, batches, runs=runs, burst=RUNS_IN_A_ROW, seed=seed, threads=threads, progress=progress
    )
    for name, model in models.items():
        if model.remote is not None:  # it waits for a server, as it should: nobody interrupts it
            times[name] = Times(times[name].wall_ms, np.zeros_like(times[name].wall_ms))
    return LatencyTable(
        schema_version=SCHEMA_VERSION,
        device=device,
        threads=threads,
        image=zoo.kind.size(zoo.kind.item(images[0])),
        machine=machine(),
        models={
            card.name: ModelLatency(sha256=card.sha256, latency=summarise_on(provider, times[card.name]))
            for card in zoo.cards
        },
        provider=str(provider),
        clock=clock_of(threads) if provider.is_cpu else None,
    )


def save_table(table: LatencyTable, path: str | Path) -> None:
    """Write a latency table as JSON, atomically."""
    write_atomic(Path(path), encode_record(table))


def load_table(path: str | Path) -> LatencyTable:
    """Read a latency table; raises :class:`CardError` when there is none or it does not validate."""
    if not Path(path).is_file():
        raise CardError(
            f"{path}: expected a LatencyTable record, got no file. "
            "Measure one with 'zooselect bench', or name the right one with --latency."
        )
    return read_record(Path(path), LatencyTable, schema_version=SCHEMA_VERSION)
