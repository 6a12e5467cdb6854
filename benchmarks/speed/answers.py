"""Answers beside bare runs: what ``predict`` adds to the models on its path, and what a drift monitor adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.speed.made_bundles import made_images, made_policies, write_bundle
from benchmarks.speed.ratios import quiet_times_us
from selector.answering.bench import views_on_paths
from selector.answering.selector import Selector
from zoo.files import read_verified
from zoo.models.model import open_session
from zoo.models.zoo import Zoo

# Models of a chain, from tens of microseconds to a millisecond.
CHAINS: tuple[tuple[str, ...], ...] = (("tiny", "small"), ("resnet20-int8", "resnet20"))
IMAGES = 64


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
            plain, watched = (_answers(target, watch=watch) for watch in (False, True))
            for path, answer in plain.items():
                calls: dict[str, Callable[[Any], object]] = {
                    "bare": _in_turn([bare[name] for name in path]),
                    "predict": answer,
                    "watched": watched[path],
                }
                times = quiet_times_us(calls, images, rounds=rounds, seed=seed)
                rows.append(
                    {
                        "policy": kind,
                        "path": list(path),
                        "bare_us": round(times["bare"], 1),
                        "predict_over_bare": round(times["predict"] / times["bare"], 3),
                        "monitor_us": round(times["watched"] - times["predict"], 1),
                        "watched_over_predict": round(times["watched"] / times["predict"], 3),
                    }
                )
    return rows


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
