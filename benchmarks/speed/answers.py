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
from selector.answering.measuring.bench import views_on_paths
from selector.answering.selector import Selector
from zoo.files import read_verified
from zoo.models.session import open_session
from zoo.models.zoo import Zoo

# Models of a chain, from tens of microseconds to a millisecond.
CHAINS: tuple[tuple[str, ...], ...] = (("tiny", "small"), ("resnet20-int8", "resnet20"))
IMAGES = 64
_STRETCH = 64  # answers in a row


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
            for path, answer in _answers(target, watch=False).items():
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
    the same ones that nobody watches.
    """
    images = made_images(inputs * rounds, seed=seed + 1)  # others than those of the reference, and none twice
    policy, graphs = made_policies(chain, len(zoo.card(chain[0]).classes))["cascade"]
    write_bundle(folder / "watched", zoo, chain, policy, graphs)
    plain, watched = (_answers(folder / "watched", watch=watch) for watch in (False, True))
    rows = []
    for path, answer in plain.items():
        calls = {"plain": answer, "watched": watched[path]}
        taken: dict[str, list[int]] = {name: [] for name in calls}
        for first in range(0, len(images), _STRETCH):
            for name, call in calls.items():
                call(images[first])
                start = time.thread_time_ns()
                for image in images[first : first + _STRETCH]:
                    call(image)
                taken[name].append(time.thread_time_ns() - start)
        # means, as rare long answers count; of the middle half, which other programs disturb less
        times = {name: _middle_mean(values) / _STRETCH / 1e3 for name, values in taken.items()}
        rows.append(
            {
                "path": list(path),
                "predict_us": round(times["plain"], 1),
                "monitor_us": round(times["watched"] - times["plain"], 1),
                "watched_over_predict": round(times["watched"] / times["plain"], 3),
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


def _answers(folder: Path, *, watch: bool) -> Mapping[tuple[str, ...], Callable[[Any], object]]:
    selector = Selector.load(folder, watch=watch)
    views = views_on_paths(selector, watch=watch)
    return {path: Selector(view, folder, threads=1).predict for (_, path), view in views.items()}
