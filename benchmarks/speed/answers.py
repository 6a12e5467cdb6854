"""Answers beside bare runs: what ``predict`` adds to the models on its path, and what a monitor adds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.speed.made_bundles import made_images, made_policies, write_bundle
from benchmarks.speed.ratios import quiet_times_us
from selector.answering.beside import beside
from selector.answering.measuring.bench import views_on_paths
from selector.answering.selector import Selector
from selector.drift.blocks import Submit
from zoo.files import read_verified
from zoo.models.session import open_session
from zoo.models.zoo import Zoo

# Models of a chain, from tens of microseconds to a millisecond.
CHAINS: tuple[tuple[str, ...], ...] = (("tiny", "small"), ("resnet20-int8", "resnet20"))
IMAGES = 64
_STRETCH = 64  # answers in a row
_ROUNDS_ALONE = 30  # of a model, for the bundle's latency table


def over_bare(
    zoo: Zoo,
    folder: Path,
    *,
    chains: Sequence[Sequence[str]] = CHAINS,
    kinds: Sequence[str] = (),
    rounds: int = 150,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """For every path of a policy of every kind: ``predict`` over the bare runs of the models on it.

    Parameters
    ----------
    kinds
        Of policies, by default all; see :func:`benchmarks.speed.made_bundles.made_policies`.
    rounds
        Turns of each call.
    """
    images = made_images(IMAGES, seed=seed)
    rows: list[dict[str, Any]] = []
    for chain in chains:
        bare = {name: bare_run(zoo, name) for name in chain}
        made = made_policies(chain, len(zoo.card(chain[0]).classes))
        for kind, (policy, graphs) in made.items():
            if kinds and kind not in kinds:
                continue
            target = folder / f"{kind}-{chain[0]}"
            write_bundle(target, zoo, chain, policy, graphs)
            for path, answer in _answers(target).items():
                calls: dict[str, Callable[[Any], object]] = {
                    "bare": _in_turn([bare[name] for name in path]),
                    "predict": answer,
                }
                times = quiet_times_us(calls, images, rounds=rounds, seed=seed)
                ratio = times["predict"] / times["bare"]
                rows.append(
                    {
                        "policy": kind,
                        "path": list(path),
                        "bare_us": round(times["bare"], 1),
                        "predict_over_bare": round(ratio, 3),
                        "beyond_us": round(times["predict"] - times["bare"], 1),
                    }
                )
    return rows


def monitor_share(
    zoo: Zoo,
    folder: Path,
    *,
    chain: Sequence[str] = CHAINS[-1],
    inputs: int = 1024,
    rounds: int = 3,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """What a drift monitor adds to answers on a stream in which nothing changes, by path of a cascade.

    A monitor looks at several inputs together, now and then: stretches of the stream are timed, in turns with
    the same ones that nobody watches. `thread` is what the thread of the answers does beside them where
    another thread looks; `all` is the work of both, as where there is one core; `wall` what an application
    waits for, which only tells on a quiet machine.
    """
    images = made_images(inputs * rounds, seed=seed + 1)  # others than those of the reference, and none twice
    policy, graphs = made_policies(chain, len(zoo.card(chain[0]).classes))["cascade"]
    runs: dict[str, Callable[[Any], object]] = {name: bare_run(zoo, name) for name in chain}
    times_us = quiet_times_us(runs, images[:IMAGES], rounds=_ROUNDS_ALONE, seed=seed)
    costs_ms = {name: taken / 1e3 for name, taken in times_us.items()}
    write_bundle(folder / "watched", zoo, chain, policy, graphs, costs_ms=costs_ms)
    plain = _answers(folder / "watched")
    aside, alone = (_answers(folder / "watched", watch=True, submit=submit) for submit in (beside, None))
    rows = []
    for path, answer in plain.items():
        calls = {"plain": answer, "aside": aside[path], "alone": alone[path]}
        taken: dict[str, list[tuple[int, int]]] = {name: [] for name in calls}
        for first in range(0, len(images), _STRETCH):
            for name, call in calls.items():
                call(images[first])
                start = time.thread_time_ns(), time.perf_counter_ns()
                for image in images[first : first + _STRETCH]:
                    call(image)
                taken[name].append((time.thread_time_ns() - start[0], time.perf_counter_ns() - start[1]))
        # means, as rare long answers count; of the middle half, which other programs disturb less
        times = {
            name: [_middle_mean(one) / _STRETCH / 1e3 for one in zip(*values, strict=True)]
            for name, values in taken.items()
        }
        (thread_us, wall_us), others = times["plain"], (times["aside"], times["alone"])
        rows.append(
            {
                "path": list(path),
                "predict_us": round(thread_us, 1),
                "thread_us": round(others[0][0] - thread_us, 1),
                "all_us": round(others[1][0] - thread_us, 1),
                "thread_share": round(others[0][0] / thread_us - 1, 3),
                "all_share": round(others[1][0] / thread_us - 1, 3),
                "wall_share": round(others[0][1] / wall_us - 1, 3),
            }
        )
    return rows


def _middle_mean(values: Sequence[int]) -> float:
    ordered = np.sort(values)
    quarter = len(ordered) // 4
    return float(ordered[quarter : len(ordered) - quarter].mean())


def bare_run(zoo: Zoo, name: str, *, threads: int = 1) -> Callable[[NDArray[np.uint8]], object]:
    """What runs a model of `zoo` on one image, with nothing of ours around it."""
    card = zoo.card(name)
    content = read_verified(zoo.folder / card.file, card.sha256, card.size_bytes)
    session: ort.InferenceSession = open_session(content, name=name, threads=threads)
    return lambda image: session.run(["logits"], {"image": image[np.newaxis]})


def _in_turn(runs: Sequence[Callable[[Any], object]]) -> Callable[[Any], object]:
    if len(runs) == 1:
        return runs[0]

    def every(image: Any) -> None:
        for run in runs:
            run(image)

    return every


def _answers(
    folder: Path, *, watch: bool = False, submit: Submit | None = None
) -> Mapping[tuple[str, ...], Callable[[Any], object]]:
    selector = Selector.load(folder, watch=watch)
    views = views_on_paths(selector, watch=watch, submit=submit)
    return {path: Selector(view, folder, threads=1).predict for (_, path), view in views.items()}
