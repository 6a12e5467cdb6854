"""Latency of everything in a folder, zoo or bundle, measured on this device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from selector.answering.beside import beside, has_room
from selector.answering.engine import Engine
from selector.answering.runners import Outcome
from selector.answering.selector import Selector
from selector.answering.view import View
from selector.answering.watching import Watch
from selector.bundle.bundle import BUNDLE_FILE, Bundle, read_bundle
from selector.bundle.certificate import Certificate
from selector.bundle.one_file import read_one_file
from selector.bundle.source import FolderSource
from selector.drift.blocks import LEAST_EVERY, Submit
from selector.drift.monitor import Confidence, Monitor
from selector.drift.reference import DriftReference
from selector.policies.paths import ALONE, forced, paths_of, steps_of
from selector.policies.policy import Policy
from zoo.errors import LatencyError
from zoo.inputs.kind import Batch, InputKind, Item
from zoo.models.card import Manifest
from zoo.models.latency import LatencyTable, ModelLatency, PathLatency, measure, summarise, summarise_on
from zoo.models.timing import RUNS_IN_A_ROW, time_interleaved
from zoo.models.zoo import Zoo
from zoo.providers import CPU, Provider
from zoo.releases.input_reference import DriftFeature

_NEVER = 1e-300  # probability of an alarm
_FASTER = 2.0  # or as much slower: beyond that, a table is not about the same conditions
_DRAWS = 4096  # inputs that a timed monitor is told of, again and again


def kind_of_folder(path: str | Path) -> InputKind:
    """The kind of input that a zoo, a bundle or a selector in one file takes.

    Raises
    ------
    CardError, BundleError
        When `path` is none of them.

    Examples
    --------
    >>> from selector.answering.measuring.bench import kind_of_folder
    >>> kind_of_folder("my-bundle").noun
    'image'
    """
    folder = Path(path)
    if folder.is_file():
        return read_one_file(folder)[0].bundle.kind
    return read_bundle(folder).kind if (folder / BUNDLE_FILE).is_file() else Zoo.open(folder).kind


def measure_folder(
    path: str | Path,
    images: Sequence[Item],
    *,
    device: str,
    threads: int = 1,
    runs: int = 300,
    seed: int = 0,
    watch: bool = False,
    progress: bool = False,
    provider: Provider = CPU,
) -> LatencyTable:
    """Latency table of a zoo, or of what answers of a bundle are made of, and of whole answers.

    Of a bundle: its installed models, the selector graph, and every path; see :func:`measure_paths`.

    Parameters
    ----------
    images
        Inputs like those that the device will see: images uint8 ``[H, W, 3]``, or others.
    watch
        Whether a drift monitor looks at every input of a whole answer.
    provider
        What runs the models; graphs of the bundle run on the CPU.

    Raises
    ------
    CardError, BundleError
        When `path` is neither a zoo nor a bundle.
    LatencyError
        When there is nothing to measure, or `path` is a selector in one file.

    Examples
    --------
    >>> from selector.answering.measuring.bench import measure_folder
    >>> table = measure_folder("my-zoo", [image], device="this-machine", runs=20)
    >>> sorted(table.models)
    ['full', 'small', 'tiny']
    """
    folder = Path(path)
    if folder.is_file():
        raise LatencyError(
            f"expected a zoo or a bundle, whose models are measured one by one, got the file {folder}. "
            "Measure the bundle that it was made from, or how much the file answers a second (--throughput)."
        )
    if not (folder / BUNDLE_FILE).is_file():
        zoo = Zoo.open(folder)
        return measure(
            zoo,
            images,
            device=device,
            threads=threads,
            runs=runs,
            seed=seed,
            progress=progress,
            provider=provider,
        )
    selector = Selector.load(folder, threads=threads, watch=False, providers=provider)
    installed = tuple(selector.bundle.card(name) for name in selector.models)
    zoo = Zoo(folder, Manifest.of(installed), complete=False)
    table = measure(
        zoo,
        images,
        device=device,
        threads=threads,
        runs=runs,
        seed=seed,
        progress=progress,
        provider=provider,
    )
    record = selector.bundle.selector
    paths = measure_paths(
        selector,
        images,
        models=selector.models,
        runs=runs,
        seed=seed,
        watch=watch,
        table=table,
        progress=progress,
    )
    table = msgspec.structs.replace(table, paths=paths)
    if record is None:
        return table
    batches = [selector.kind.one(image) for image in images]
    times = time_interleaved(
        {"scores": selector.scores},
        batches,
        runs=runs,
        burst=RUNS_IN_A_ROW,
        seed=seed,
        threads=threads,
        progress=progress,
    )
    return msgspec.structs.replace(
        table, selector=ModelLatency(sha256=record.sha256, latency=summarise(times["scores"]))
    )


def measure_paths(
    selector: Selector,
    images: Sequence[Item],
    *,
    models: Sequence[str] = (),
    runs: int = 300,
    seed: int = 0,
    watch: bool = False,
    table: LatencyTable | None = None,
    progress: bool = False,
) -> tuple[PathLatency, ...]:
    """Latency of whole answers on every path of the policy that a selector follows.

    Each is an answer of :meth:`Selector.predict`: checks, features, the models of the path and the decisions
    between them, scores, the label. The policy takes one path on every image, with the same work as when it
    decides by itself.

    Parameters
    ----------
    models
        Also these models, each alone: as where nothing is certified.
    watch
        Whether a drift monitor is at work, which then takes the inputs for ordinary ones. Its alarm is
        switched off. It works in a thread of its own where there is a core for it, as on any machine with as
        many.
    table
        Give times at the speed that the machine had when this was measured: `models` also run by themselves,
        in turns with the answers. The processor of a shared machine is slower by a third for minutes at a
        time, and a path is compared with the models of the table.
    """
    views = views_on_paths(selector, models=models, watch=watch, submit=beside)
    calls = {key: Selector(view, selector.folder, threads=selector.threads) for key, view in views.items()}
    for (_, path), one in calls.items():
        answer = one.predict(images[0])
        if answer.path != path:
            raise LatencyError(f"expected the path {' → '.join(path)}, got {' → '.join(answer.path)}.")
    watch = watch and selector.bundle.drift is not None
    names = {" → ".join((steps, *path)): (steps, path) for steps, path in calls}
    engine, batches = next(iter(views.values())).engine, [selector.kind.one(image) for image in images]
    bare = {
        name: row.latency.typical_ms
        for name, row in ({} if table is None else table.models).items()
        if name in models
        and (card := selector.bundle.card(name)).remote is None
        and card.sha256 == row.sha256
    }
    times = time_interleaved(
        {
            **{name: calls[key].predict for name, key in names.items()},
            **{name: partial(_run_bare, engine, name, cycle(batches)) for name in bare},
        },
        images,
        runs=runs,
        burst=RUNS_IN_A_ROW,
        seed=seed,
        threads=selector.threads + (watch and has_room()),
        progress=progress,
    )
    if any(view.reach.failures for view in views.values()):  # the models on the device answered instead
        raise LatencyError(
            "expected servers that answer while whole answers are timed, got one that did not in time. "
            "Try again when it is there, or measure without its models."
        )
    now = {name: summarise_on(selector.provider, times[name]).typical_ms for name in bare}
    factor = speed_then(bare, now)
    return tuple(
        PathLatency(
            steps=steps,
            models=path,
            latency=summarise_on(selector.provider, times[name].at_speed(factor)),
            watched=watch,
        )
        for name, (steps, path) in names.items()
    )


def _run_bare(engine: Engine, name: str, batches: Iterator[Batch], _: Item) -> NDArray[np.float32]:
    return engine.logits(name, next(batches))


def speed_then(then_ms: Mapping[str, float], now_ms: Mapping[str, float]) -> float:
    """What a time of now is multiplied with, to be one of the speed that models had then.

    1 where there are no models, or the two are so far apart that conditions were others.

    Examples
    --------
    >>> from selector.answering.measuring.bench import speed_then
    >>> speed_then({"small": 1.0, "full": 4.0}, {"small": 2.0, "full": 8.0})
    0.5
    >>> speed_then({"full": 4.0}, {"full": 1.0})
    1.0
    """
    if not then_ms:
        return 1.0
    factor = float(np.exp(np.mean([np.log(then_ms[name] / now_ms[name]) for name in then_ms])))
    return factor if 1 / _FASTER <= factor <= _FASTER else 1.0


def views_on_paths(
    selector: Selector, *, models: Sequence[str] = (), watch: bool = False, submit: Submit | None = None
) -> dict[tuple[str, tuple[str, ...]], View]:
    """Views that take one path each on every image, by kind of steps and path; see :func:`measure_paths`.

    They share what is open.

    Parameters
    ----------
    submit
        Has the monitor's work done in another thread. By default it is done in that of the answers, as where
        there is one core.

    Examples
    --------
    >>> from selector.answering.measuring.bench import views_on_paths
    >>> [" → ".join(path) for _, path in views_on_paths(selector)][:2]
    ['tiny', 'tiny → full']
    """
    bundle, source = selector.bundle, _Timed(selector.folder, selector.provider)
    if bundle.drift is not None:
        bundle = msgspec.structs.replace(bundle, drift=msgspec.structs.replace(bundle.drift, alpha=_NEVER))
    view: View | None = None
    found: dict[tuple[str, tuple[str, ...]], View] = {}
    policy = selector.policy
    ways = [] if policy is None else [(steps_of(policy), path) for path in paths_of(policy)]
    for steps, path in (*ways, *((ALONE, (name,)) for name in models)):
        certain = None if steps == ALONE or policy is None else forced(policy, path)
        if certain is None and steps != ALONE:
            continue
        changed = msgspec.structs.replace(bundle, certificates=())
        if certain is not None:
            changed = as_if_proven(bundle, *certain)
        held = path if steps == ALONE else selector.models
        watched = watch and bundle.drift is not None
        view = View(changed, source, held, threads=selector.threads, watch=watched, before=view)
        view.engine.open(view.needed)
        if view.watch is not None and bundle.drift is not None:
            view.watch = _Ordinary(view, bundle.drift, submit)
        found[steps, path] = view
    return found


def as_usual(selector: Selector) -> None:
    """Have the drift monitor of a selector, where it has one, take all inputs for ordinary ones.

    Examples
    --------
    >>> from selector.answering.measuring.bench import as_usual
    >>> watching = Selector.load("my-bundle", watch=True)
    >>> as_usual(watching)
    >>> watching.predict(image).reason is None
    True
    """
    view, drift = selector._view, selector.bundle.drift
    if view.watch is not None and drift is not None:
        view.watch = _Ordinary(view, msgspec.structs.replace(drift, alpha=_NEVER), beside)


class _Ordinary(Watch):
    """A watch that takes the time of one, and tells its monitor of inputs like those of the calibration.

    Inputs that are made up for timing are unlike any: a monitor would look at them one by one.
    """

    def __init__(self, view: View, reference: DriftReference, submit: Submit | None) -> None:
        every = LEAST_EVERY if view.watch is None else view.watch.every
        super().__init__(view.engine, Monitor(reference), submit=submit, every=every)
        rng = np.random.default_rng(0)
        columns = [_drawn(one, rng) for one in reference.features]
        self._rows = np.stack(columns, axis=1)
        self._sure = {name: _drawn(one, rng).tolist() for name, one in reference.confidence.items()}
        self._told = self._shown = 0

    def confidence(self, outcome: Outcome) -> Confidence | None:
        """As if its first model had been as sure as models are of inputs like those of the calibration."""
        known = super().confidence(outcome)
        if known is None or known[0] not in self._sure:
            return known
        self._told = (self._told + 1) % _DRAWS
        return known[0], self._sure[known[0]][self._told]

    def features(self, waiting: Sequence[Item]) -> NDArray[np.float32]:
        """Features of inputs like those of the calibration, once those of the given ones are there."""
        places = self._shown + np.arange(len(super().features(waiting)))
        self._shown += len(places)
        return self._rows[places % _DRAWS]


def _drawn(spread: DriftFeature, rng: np.random.Generator) -> NDArray[np.float32]:
    """Numbers that are spread so, one of each bin's: the least of it."""
    least = np.nextafter(np.array([spread.edges[0] - 1.0, *spread.edges], np.float32), np.float32(np.inf))
    shares = np.array(spread.counts, np.float64)
    drawn: NDArray[np.float32] = rng.choice(least, _DRAWS, p=shares / shares.sum())
    return drawn


class _Timed(FolderSource):
    """A folder whose policy is followed with any provider: it is timed, and nothing is promised."""

    def counting(self, bundle: Bundle, proofs: Sequence[Certificate]) -> list[Certificate]:
        """All."""
        return [*proofs]


def as_if_proven(bundle: Bundle, policy: Policy, threshold: float) -> Bundle:
    """A bundle that follows a policy at a threshold, as if that were proven for its own constraint."""
    changed = msgspec.structs.replace(bundle, policies=(policy,), certificates=())
    certificate = Certificate(
        constraint=bundle.default,
        confidence=0.5,
        policy=0,
        threshold=threshold,
        samples=1,
        accuracy=1.0,
        mean_ms=0.0,
        p_value=0.0,
        subject_sha256=changed.subject(0),
    )
    return msgspec.structs.replace(changed, certificates=(certificate,))
