"""The demo: digits under changing environments, from training to timed answers of the exported bundle."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from training.data.environments import ENVIRONMENTS, under_environments
from training.data.images import LabelledImages
from training.data.sources import digits
from training.data.splits import TRAIN, Splits
from training.evaluation.evaluate import evaluate, our_name
from training.evaluation.records import Evaluation
from training.evaluation.wallclock import time_bundle
from training.fitting.export import check_bundle, export_bundle
from training.fitting.fit import fit, fit_inputs_sha256
from training.fitting.fitted import Fitted, load_fit, save_fit
from training.networks.family import train_family
from training.outcomes.profile import held_out_images, profile
from training.reports.page import render
from zoo.convert.add import add_int8
from zoo.errors import ZooError
from zoo.files import atomic_path
from zoo.models.latency import LatencyTable, load_table, measure, save_table
from zoo.models.zoo import Zoo

DEVICE = "this-machine"
TRAIN_SHARE = 0.4
SIZES = ("tiny", "small", "full")
SEVERITY = 1.0  # hard enough that the size of a network matters
CALIBRATION_IMAGES = 200
SHOWN_IMAGES = 100

Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoResult:
    """What the demo made, and how long each step took."""

    evaluation: Evaluation
    report: Path
    bundle: Path
    seconds: dict[str, float]  # step → time


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
    clock = _Clock(say)

    data = under_environments(digits(), list(ENVIRONMENTS), seed=seed, severity=SEVERITY)
    zoo = Zoo.create(root / "zoo")
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
        table = _latency(zoo, test, root / "profile" / "latency" / f"{DEVICE}.json", progress)
    with clock(f"fit and certify at precision {precision:g}"):
        fitted = _fit(root, zoo, table, precision, seed, progress)
    asked = fitted.record.bundle.default
    bundle = root / "bundle"
    with clock("export and check the bundle"):
        export_bundle(fitted, zoo, bundle)
        check_bundle(bundle, fitted, [test.image(i) for i in range(min(len(test), 200))], zoo)
    with clock("answer the test images through the bundle, timed"):
        timed = time_bundle(
            bundle, asked, test, name=our_name(asked), rounds=rounds, seed=seed, progress=progress
        )
    report = root / "report.html"
    with clock("report"):
        evaluation = evaluate(
            fitted,
            root / "profile",
            zoo=zoo,
            timed=timed,
            title="Zooselect demo: digits under changing environments",
            next_commands=next_commands(root),
        )
        render(evaluation, report)
    return DemoResult(evaluation, report, bundle, clock.seconds)


def next_commands(root: Path) -> list[str]:
    """What to try after the demo."""
    return [
        f"zooselect predict {root / 'bundle'} {root / 'images'} --precision 0.9",
        f"zooselect publish my-repo --zoo {root / 'zoo'} --bundle digits={root / 'bundle'}",
        f"zooselect evaluate --fit {root / 'fit'} --profile {root / 'profile'} --precision 0.85",
        f"zooselect bench {root / 'bundle'}",
        "zooselect zoo add --help",
        "zooselect profile --help",
    ]


class _Clock:
    """Times steps and says what happens."""

    def __init__(self, say: Say) -> None:
        self.seconds: dict[str, float] = {}
        self._say = say
        self._step = ""
        self._start = 0.0

    def __call__(self, step: str) -> _Clock:
        self._step = step
        return self

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        elapsed = time.perf_counter() - self._start
        self.seconds[self._step] = elapsed
        if error[0] is None:
            self._say(f"{elapsed:6.1f} s  {self._step}")


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
        name = f"{card.name}-int8"
        if card.compression == "int8":
            continue
        if name in zoo.names and zoo.card(name).source.endswith(card.sha256[:12]):
            continue
        add_int8(zoo, card.name, images, force=True)


def _latency(zoo: Zoo, test: LabelledImages, path: Path, progress: bool) -> LatencyTable:
    try:
        table = load_table(path)
        table.costs_ms(zoo)
        return table
    except ZooError:  # there is none yet, or it is of other models: measure
        images = [test.image(i) for i in range(min(32, len(test)))]
        table = measure(zoo, images, device=DEVICE, runs=300, progress=progress)
        save_table(table, path)
        return table


def _fit(root: Path, zoo: Zoo, table: LatencyTable, precision: float, seed: int, progress: bool) -> Fitted:
    try:
        before = load_fit(root / "fit")
        wanted = fit_inputs_sha256(root / "profile", zoo, table, precision=precision, seed=seed)
        if before.record.inputs_sha256 == wanted:
            return before
    except ZooError:
        pass  # there is none yet, or it is of no use: fit again
    fitted = fit(root / "profile", zoo, table, precision=precision, seed=seed, progress=progress)
    save_fit(fitted, root / "fit", replace=True)
    return fitted
