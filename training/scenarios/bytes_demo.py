"""The demo of bytes: which type is a fragment of a file, from training to timed answers of the bundle."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from training.data.environments import under_environments
from training.data.fragments import fragments
from training.data.images import LabelledImages
from training.data.splits import Splits
from training.networks.signal_family import EPOCHS, SIZES, train_signal_family
from training.outcomes.profile import held_out_images, profile
from training.scenarios.answered_demo import DemoResult, answered_demo
from training.scenarios.reused import DEVICE, Say, fit_of, latency_of, timed
from zoo.files import atomic_path
from zoo.models.zoo import Zoo

TRAIN_SHARE = 0.4
ENVIRONMENTS = ("clear", "truncation")
SEVERITY = 0.6
SHOWN_FILES = 100
LATENCY_RUNS = 300


def run_bytes_demo(
    folder: str | Path,
    *,
    precision: float = 0.85,
    seed: int = 0,
    fresh: bool = False,
    sizes: Sequence[str] = tuple(SIZES),
    count: int = 4000,
    epochs: int = EPOCHS,
    rounds: int = 3,
    progress: bool = True,
    say: Say = print,
) -> DemoResult:
    """Train networks of bytes, profile, fit, certify, export, and answer the test files.

    What a run before left in `folder` and is still valid is used again.

    Parameters
    ----------
    precision
        The precision to certify and to answer with.
    fresh
        Throw away what is in `folder` first.
    sizes
        Which networks to train; see :data:`training.networks.signal_family.SIZES`.
    count
        Fragments; see :func:`training.data.fragments.fragments`.
    epochs
        Passes over the training fragments.
    rounds
        How often each test fragment is answered and timed.
    say
        Where a line about each step goes.
    """
    root = Path(folder)
    if fresh:
        shutil.rmtree(root, ignore_errors=True)
    seconds: dict[str, float] = {}
    clock = partial(timed, say=say, seconds=seconds)
    with clock("cut fragments out of files of the standard library"):
        data = under_environments(
            fragments(count, seed=seed), list(ENVIRONMENTS), seed=seed, severity=SEVERITY
        )
    zoo = Zoo.open_or_create(root / "zoo")
    with clock(f"train {', '.join(sizes)}"):
        train_signal_family(
            zoo, data, sizes=sizes, share=TRAIN_SHARE, seed=seed, epochs=epochs, progress=progress
        )
    splits = Splits(seed=seed, train=TRAIN_SHARE, fit=0.25, tune=0.05, certify=0.4, test=0.3)
    with clock("profile: every model on every fragment, once"):
        profile(zoo, data, root / "profile", splits=splits, progress=progress)
    test = held_out_images(root / "profile", data)
    _files(test, root / "files")
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
        noun="fragment",
        title="Zooselect demo: types of file fragments",
        next_commands=next_commands(root, precision),
        clock=clock,
        seconds=seconds,
        rounds=rounds,
        seed=seed,
        progress=progress,
    )


def next_commands(root: Path, precision: float) -> list[str]:
    """What to try after the demo."""
    commands: list[list[object]] = [
        ["predict", root / "bundle", root / "files", "--precision", precision],
        ["evaluate", "--fit", root / "fit", "--profile", root / "profile", "--precision", precision],
        ["bench", root / "bundle"],
        ["zoo", "add", "--help"],
    ]
    return [shlex.join(["zooselect", *map(str, words)]) for words in commands]


def _files(test: LabelledImages, folder: Path) -> None:
    """Some of the test fragments as files, by class, to try commands on."""
    for i in range(0, len(test), max(1, len(test) // SHOWN_FILES)):
        path = folder / test.classes[test.labels[i]] / f"{i:04d}-{test.environments[i]}.bin"
        if not path.exists():
            with atomic_path(path) as temporary:
                temporary.write_bytes(test.image(i).tobytes())
