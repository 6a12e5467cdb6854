"""The demo: digits under changing environments, from training to timed answers of the exported bundle."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from training.data.environments import ENVIRONMENTS, under_environments
from training.data.images import LabelledImages
from training.data.sources import digits
from training.data.splits import TRAIN, Splits
from training.networks.family import train_family
from training.outcomes.profile import held_out_images, profile
from training.scenarios.answered_demo import DemoResult, answered_demo
from training.scenarios.reused import DEVICE, Say, fit_of, has_int8, latency_of, timed
from zoo.convert.int8.add_int8 import add_int8
from zoo.files import atomic_path
from zoo.models.zoo import Zoo

TRAIN_SHARE = 0.4
SIZES = ("tiny", "small", "full")
SEVERITY = 1.0  # hard enough that the size of a network matters
CALIBRATION_IMAGES = 200
SHOWN_IMAGES = 100
LATENCY_RUNS = 300


def run_demo(
    folder: str | Path,
    *,
    precision: float = 0.92,
    seed: int = 0,
    fresh: bool = False,
    sizes: Sequence[str] = SIZES,
    epochs: int | None = None,
    rounds: int = 5,
    progress: bool = True,
    say: Say = print,
) -> DemoResult:
    """Train, compress, profile, fit, certify, export, and answer the test split through the bundle.

    What a run before left in `folder` and is still valid is used again.

    Parameters
    ----------
    precision
        The precision to certify and to answer with.
    fresh
        Throw away what is in `folder` first.
    sizes
        Which networks to train; see :func:`training.networks.family.train_family`.
    epochs
        Passes over the training images for every size; by default what suits each size.
    rounds
        How often each test image is answered and timed.
    say
        Where a line about each step goes.
    """
    root = Path(folder)
    if fresh:
        shutil.rmtree(root, ignore_errors=True)
    seconds: dict[str, float] = {}
    clock = partial(timed, say=say, seconds=seconds)

    data = under_environments(digits(), list(ENVIRONMENTS), seed=seed, severity=SEVERITY)
    zoo = Zoo.open_or_create(root / "zoo")
    with clock(f"train {', '.join(sizes)} (the smaller ones distilled)"):
        train_family(
            zoo, data, sizes=sizes, share=TRAIN_SHARE, seed=seed, epochs=epochs, progress=progress, owned=True
        )
    with clock("compress to int8"):
        _compress(zoo, data, seed)
    with clock("profile: every model on every image, once"):
        profile(zoo, data, root / "profile", splits=_splits(seed), progress=progress)
    test = held_out_images(root / "profile", data)
    _pictures(test, root / "images")
    with clock("bench: latency on this machine"):
        path = root / "profile" / "latency" / f"{DEVICE}.json"
        table = latency_of(zoo, test, path, runs=LATENCY_RUNS, progress=progress)
    with clock(f"fit and certify at precision {precision:g}"):
        fitted, _ = fit_of(root, zoo, table, precision=precision, seed=seed, progress=progress)
    return answered_demo(
        root,
        zoo,
        fitted,
        test,
        noun="image",
        title="Zooselect demo: digits under changing environments",
        next_commands=next_commands(root),
        clock=clock,
        seconds=seconds,
        rounds=rounds,
        seed=seed,
        progress=progress,
    )


def next_commands(root: Path) -> list[str]:
    """What to try after the demo."""
    commands: list[list[object]] = [
        ["predict", root / "bundle", root / "images", "--precision", 0.9],
        ["publish", "my-repo", "--zoo", root / "zoo", "--bundle", f"digits={root / 'bundle'}"],
        ["evaluate", "--fit", root / "fit", "--profile", root / "profile", "--precision", 0.85],
        ["bench", root / "bundle"],
        ["zoo", "add", "--help"],
        ["profile", "--help"],
    ]
    return [shlex.join(["zooselect", *map(str, words)]) for words in commands]


def _splits(seed: int) -> Splits:
    # fit and tune see every original under all environments, certify and test under one each
    return Splits(seed=seed, train=TRAIN_SHARE, fit=0.15, tune=0.05, certify=0.42, test=0.38)


def _pictures(test: LabelledImages, folder: Path) -> None:
    """Some of the test images as files, by class, to try commands on."""
    for i in range(0, len(test), max(1, len(test) // SHOWN_IMAGES)):
        path = folder / test.classes[test.labels[i]] / f"{i:04d}-{test.environments[i]}.png"
        if not path.exists():
            with atomic_path(path) as temporary:
                Image.fromarray(test.image(i)).save(temporary, format="PNG")


def _compress(zoo: Zoo, data: LabelledImages, seed: int) -> None:
    names = Splits(seed=seed, train=TRAIN_SHARE).assign(data.groups)
    chosen = [i for i, name in enumerate(names) if name == TRAIN]
    step = max(1, len(chosen) // CALIBRATION_IMAGES)
    images = [data.image(i) for i in chosen[::step][:CALIBRATION_IMAGES]]
    for card in zoo.cards:
        if card.compression != "int8" and not has_int8(zoo, card.name):
            add_int8(zoo, card.name, images, force=True)
