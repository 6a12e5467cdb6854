"""Expanding a zoo: versions of one model are made, measured, and kept where no other one is better."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.images import LabelledImages, digest_of
from training.data.seen import remember
from training.networks.calibration_images import read_some
from training.networks.distill import distill
from training.networks.expansion_plan import Plan
from training.networks.refit import refit_head
from training.networks.variants import Measured, Variant, dominated
from zoo.convert.count import add_counted
from zoo.convert.int8.add_int8 import add_int8
from zoo.convert.resolution import at_resolution
from zoo.cores import allowed_cores
from zoo.errors import CardError, ZooError
from zoo.files import encode_record, read_record, write_atomic
from zoo.models.card import ModelCard, match_classes
from zoo.models.latency import summarise
from zoo.models.model import read_graph
from zoo.models.timing import RUNS_IN_A_ROW, Times, time_interleaved
from zoo.models.zoo import Zoo, add_again, held_message
from zoo.types import NonNegative, Positive

FOLDER = "expanding"  # in a zoo, while versions are made; what is there continues
RECORD_FILE = "expanding.json"
ENVIRONMENT = "given-images"  # of a model whose last layer was fitted to the images at hand
ENOUGH_AGREEMENT = 0.99  # with the parent, at which no other calibration is tried
TIMED_IMAGES = 32
MAX_BUSY = 0.1  # share of interrupted runs above which times are doubtful
_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Row:
    """One model, what it did, and what became of it."""

    name: str
    how: str  # it was made, in words
    resolution: tuple[int, int]  # height, width in pixels
    measured: Measured | None  # None: it was not made
    verdict: str  # "kept", "in the zoo", "left out"
    reason: str = ""  # why it is left out, or superfluous


@dataclass(frozen=True)
class Expansion:
    """What came of it."""

    rows: tuple[Row, ...]  # the most accurate first, then what was not made
    learned_from: int  # images that set ranges, and that last layers were fitted to
    judged_on: int  # images
    interrupted: float  # share of the timed runs that other programs interrupted

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the models that were added."""
        return tuple(row.name for row in self.rows if row.verdict == "kept")


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far an expansion got."""

    schema_version: Positive
    settings: str  # digest of what decides about every version and figure
    right: dict[str, NonNegative] = {}  # digest of a model → images on which it is right
    failed: dict[str, str] = {}  # name → why there is no such version


def expand(
    plan: Plan,
    *,
    images: int = 256,
    epochs: int | None = None,
    runs: int = 200,
    force: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    progress: bool = True,
) -> Expansion:
    """Make the versions of a plan, measure them beside the models of the zoo, and add those that pay.

    Interrupted, the same call continues: versions are kept in ``expanding/`` of the zoo until all are judged.
    A version pays if no other model is right at least as often in no more time. Models that were in the zoo
    before are compared with, and stay.

    Parameters
    ----------
    images
        Most images that ranges of 8-bit versions are measured on; up to as many others compare.
    epochs
        Passes over the images where a network is taught; by default what suits their number.
    runs
        Timed runs of each model, in turns, one thread.
    force
        Make anew what the zoo holds already, and replace it.
    tell
        Is called with what is done next.

    Raises
    ------
    CardError
        When the zoo holds another model of a version's name, and not `force`.
    ZooError
        What reading images and running models raises. A version that cannot be made ends nothing: its row
        says why.
    """
    work = _Work(plan, images=images, epochs=epochs)
    ranges: list[NDArray[np.uint8]] = []
    held_out: list[NDArray[np.uint8]] = []
    for number, variant in enumerate(plan.variants, start=1):
        if variant.name in work.zoo.names or variant.name in work.record.failed:
            continue
        if variant.parent in work.record.failed:
            work.fail(variant, f"{variant.parent} was not made")
            continue
        if not force and _take_over(plan.zoo, work.zoo, variant):
            continue
        tell(f"{number} of {len(plan.variants)}: {variant.name} ({variant.how})")
        if variant.step == "int8" and not ranges:
            ranges, held_out = read_some(plan.learn, images, seed=plan.part.seed, progress=progress)
        try:
            _make(plan, work.zoo, variant, ranges, held_out, epochs, progress)
        except ZooError as error:
            work.fail(variant, str(error))
    others = [card for card in plan.zoo.cards if card.remote is None and card.name not in work.zoo.names]
    models = {card.name: (card, work.zoo.folder) for card in work.zoo.cards}
    models |= {card.name: (card, plan.zoo.folder) for card in others}
    right = {name: work.right(card, folder, progress) for name, (card, folder) in models.items()}
    tell(f"timing {len(models)} models in turns")
    times = _times(models, plan.judges, runs, progress)
    measured = {name: Measured(right[name], summarise(times[name]).mean_ms) for name in models}
    before = {name for name in plan.zoo.names if name in models and _same(plan.zoo, models[name][0])}
    worse = dominated(measured, sorted(before))
    rows = []
    how = {variant.name: variant.how for variant in plan.variants}
    for name in sorted(measured, key=lambda one: (-measured[one].right, measured[one].mean_ms)):
        verdict = "in the zoo" if name in before else "left out" if name in worse else "kept"
        reason = f"{worse[name]} is no slower and no less often right" if name in worse else ""
        rows.append(Row(name, how.get(name, ""), models[name][0].resolution, measured[name], verdict, reason))
    for variant in plan.variants:
        if variant.name in work.record.failed:
            why = work.record.failed[variant.name]
            rows.append(Row(variant.name, variant.how, variant.resolution, None, "left out", why))
    kept = [row.name for row in rows if row.verdict == "kept"]
    if kept:
        remember(plan.zoo, plan.part, plan.learned)
    for name in kept:
        add_again(plan.zoo, work.zoo.card(name), read_graph(*models[name]), force=force)
    work.remove()
    interrupted = float(np.mean([one.share_interrupted for one in times.values()]))
    return Expansion(tuple(rows), len(plan.learn), len(plan.judges), interrupted)


class _Work:
    """The folder in a zoo where versions are until all are judged."""

    def __init__(self, plan: Plan, *, images: int, epochs: int | None) -> None:
        self._plan = plan
        self._folder = plan.zoo.folder / FOLDER / plan.card.name
        settings = digest_of(
            plan.card.sha256,
            repr(plan.part),
            plan.learned.sha256,
            plan.judges.sha256,
            repr((images, epochs)),
        ).hexdigest()
        path = self._folder / RECORD_FILE
        held: _Record | None = None
        with suppress(ZooError):
            held = read_record(path, _Record, schema_version=_SCHEMA_VERSION)
        if held is None or held.settings != settings:
            self.remove()
            held = _Record(schema_version=_SCHEMA_VERSION, settings=settings)
        self.record = held
        self.zoo = Zoo.open_or_create(self._folder / "zoo")
        self._write()
        if plan.card.name not in self.zoo.names:
            add_again(self.zoo, plan.card, read_graph(plan.card, plan.zoo.folder))

    def fail(self, variant: Variant, why: str) -> None:
        self.record = msgspec.structs.replace(
            self.record, failed={**self.record.failed, variant.name: " ".join(why.split())}
        )
        self._write()

    def right(self, card: ModelCard, folder: Path, progress: bool) -> int:
        """On how many of the images that judge a model is right; known from before where it was asked."""
        held = self.record.right.get(card.sha256)
        if held is not None:
            return held
        found = _count_right(card, folder, self._plan.judges, progress)
        self.record = msgspec.structs.replace(self.record, right={**self.record.right, card.sha256: found})
        self._write()
        return found

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        with suppress(OSError):  # others may be in it
            self._folder.parent.rmdir()

    def _write(self) -> None:
        write_atomic(self._folder / RECORD_FILE, encode_record(self.record))


def _make(
    plan: Plan,
    zoo: Zoo,
    variant: Variant,
    ranges: Sequence[NDArray[np.uint8]],
    held_out: Sequence[NDArray[np.uint8]],
    epochs: int | None,
    progress: bool,
) -> None:
    """Make one version and add it to the working zoo."""
    parent = zoo.card(variant.parent)
    if variant.step == "resolution":
        content = at_resolution(read_graph(parent, zoo.folder), variant.resolution, name=variant.name)
        add_counted(
            zoo,
            variant.name,
            content,
            parent.classes,
            variant.resolution,
            source=f"{variant.how} ({parent.sha256[:12]})",
            parent=parent.name,
            compression=parent.compression,
            trained_on=parent.trained_on,
            adapted=parent.adapted,
        )
    elif variant.step == "head":
        refit_head(
            zoo,
            parent.name,
            plan.learned,
            ENVIRONMENT,
            name=variant.name,
            share=plan.part.share,
            seed=plan.part.seed,
            keep=True,  # it is judged with all others, on more images than are held out here
            progress=progress,
        )
    elif variant.step == "int8":
        add_int8(
            zoo,
            parent.name,
            ranges,
            held_out=held_out,
            calibrated_on=plan.part,
            name=variant.name,
            enough=ENOUGH_AGREEMENT,
            progress=progress,
        )
    else:
        distill(
            zoo,
            parent.name,
            plan.learned,
            student=variant.student,
            name=variant.name,
            share=plan.part.share,
            seed=plan.part.seed,
            epochs=epochs,
            progress=progress,
        )


def _take_over(source: Zoo, work: Zoo, variant: Variant) -> bool:
    """Use a version that the zoo holds already; raise where another model has its name."""
    if variant.name not in source.names:
        return False
    held = source.card(variant.name)
    if held.parent != variant.parent or work.card(variant.parent).sha256[:12] not in held.source:
        raise CardError(held_message(variant.name))
    add_again(work, held, read_graph(held, source.folder))
    return True


def _same(zoo: Zoo, card: ModelCard) -> bool:
    return zoo.card(card.name).sha256 == card.sha256


def _count_right(card: ModelCard, folder: Path, data: LabelledImages, progress: bool) -> int:
    model = Zoo.open(folder).model(card.name, threads=allowed_cores())
    columns = np.array(match_classes(data.classes, card.classes, model=card.name))
    bar = tqdm(
        range(len(data)),
        desc=f"judging {card.name}",
        unit="image",
        delay=2,
        disable=not progress or None,
        leave=False,
    )
    said = [int(model.logits(data.kind.one(data.image(i)))[0].argmax()) for i in bar]
    return int((np.array(said) == columns[data.labels]).sum())


def _times(
    models: dict[str, tuple[ModelCard, Path]], judges: LabelledImages, runs: int, progress: bool
) -> dict[str, Times]:
    opened = {name: Zoo.open(folder).model(name) for name, (_, folder) in models.items()}
    batches = [judges.kind.one(judges.image(i)) for i in range(min(TIMED_IMAGES, len(judges)))]
    return time_interleaved(
        {name: model.logits for name, model in opened.items()},
        batches,
        runs=runs,
        burst=RUNS_IN_A_ROW,
        progress=progress,
    )
