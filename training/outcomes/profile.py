"""Profiling: run the zoo over labelled images once, and keep what every model said and what the features are.

The folder holds ``profile.json``, ``samples.parquet`` and, for every model, for the input features and for
the pixels that these read, ``outputs/<name>-<digest>/part-*.parquet``. A part is written whole or not at all,
so a run that was killed goes on where it stopped, and a model that was replaced is the only one to run again.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import UNSET
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.images import LabelledImages
from training.data.seen import names_without_seen
from training.data.splits import TEST, TRAIN, Splits, one_environment_per_group, without_training_images
from training.features.kinds import features_of
from training.outcomes.batches import Values, pixels_per_batch
from training.outcomes.parts import (
    IMAGES_VERSION,
    KINDS_VERSION,
    PART_ROWS,
    PROFILE_FILE,
    SAMPLES_FILE,
    SCHEMA_VERSION,
    UNFINISHED_FILE,
    ProfileRecord,
    SplitRecord,
    embedding_folder,
    part_path,
    parts_folder,
    read_profile_record,
    write_part,
    write_table,
)
from training.outcomes.shards import FEATURES, MAX_EMBEDDING, PIXELS, Profiling, ShardRunner
from training.outcomes.spread import spread_parts
from zoo.cores import allowed_cores
from zoo.errors import CardError, DataError, ProviderError, StaleError
from zoo.files import encode_record, read_record, write_atomic
from zoo.inputs.kinds import IMAGE, Signal
from zoo.models.card import check_same_classes, match_classes
from zoo.models.model import Model
from zoo.models.zoo import Zoo
from zoo.providers import CPU, Provider

MODEL_BYTES = 2**30  # of all models that are open at the same time


def profile(
    zoo: Zoo,
    data: LabelledImages,
    folder: str | Path,
    *,
    splits: Splits | None = None,
    batch_size: int = 64,
    threads: int | None = None,
    restart: bool = False,
    progress: bool = True,
    ray: str | None = None,
    provider: Provider = CPU,
) -> ProfileRecord:
    """Run all models and the input features over `data` and keep the results in `folder`.

    Only what is missing runs: killed half-way, the same call continues; after a model was added or replaced,
    only that one runs.

    Parameters
    ----------
    data
        Labelled images. What models of the zoo were trained on is left out, as part of other data, too: a
        file is recognised by what it holds.
    splits
        Shares of the splits; see :class:`training.data.splits.Splits`.
    batch_size
        Images per inference, at most: large images run a few at a time or alone, so that memory stays small
        whatever their size. Where there is too little memory even so, batches are halved.
    threads
        Threads in all; by default all cores that this process may use. Each answers batches of its own. With
        `ray` threads of one worker, by default one.
    restart
        Throw away a profile of other data or splits instead of refusing.
    ray
        Spread the work over the cluster of Ray whose head is at ``HOST:PORT``, or over one worker a core of
        this machine (``local``). The parts are the same: here, interrupted or on a cluster, each run
        continues the others. Nodes need ``zooselect[ray]`` in the same versions, and no images: those travel.
    provider
        What runs the models, here and not on a cluster: certificates that follow are about its answers.
        Features are computed on the CPU, as on devices.

    Raises
    ------
    StaleError
        When `folder` holds a profile of other data or splits, or of another provider.
    ClassMismatchError
        When a class of the data is unknown to a model.
    DataError, ModelError
        When an image cannot be read or a model fails on one.
    ZooError
        When the disk is full, or workers of a cluster fail; what was finished stays and the same call
        continues.
    MissingExtraError, UnreachableError
        When Ray is not installed, or no cluster answers.

    Examples
    --------
    >>> from training.outcomes.profile import profile
    >>> record = profile(zoo, data, "new-profile", progress=False)
    >>> record.classes
    ('red', 'green', 'blue')
    """
    if ray is not None and not provider.is_cpu:
        raise ProviderError(
            f"expected the CPU's execution provider on a cluster, got {provider}. Leave out --ray or "
            "--provider (in Python: ray, provider)."
        )
    target = Path(folder)
    classes = _class_order(target, check_same_classes(zoo.cards))
    match_classes(data.classes, classes, model=zoo.names[0])
    if data.kind != zoo.kind:
        raise DataError(
            f"expected what the models of the zoo take, {zoo.kind}, got labelled inputs of the kind "
            f"{data.kind}. Name other data, or another zoo."
        )
    chosen_splits = without_training_images(splits or Splits(), zoo.cards, data)
    names = names_without_seen(chosen_splits, zoo, data)
    used = (names != TRAIN) & one_environment_per_group(
        data.groups, data.environments, names, seed=chosen_splits.seed
    )
    rows = np.flatnonzero(used)
    record = ProfileRecord(
        schema_version=_schema_version(zoo, provider),
        data_sha256=data.sha256,
        classes=classes,
        splits=SplitRecord(**vars(chosen_splits)),
        samples=len(rows),
        part_rows=PART_ROWS,
        grid=_grid(data, rows),
        models={card.name: card.sha256 for card in zoo.cards},
        skipped=len(data.skipped),
        input_record=zoo.kind.record or UNSET,
        provider=UNSET if provider.is_cpu else str(provider),
    )
    _prepare(target, record, restart=restart)
    write_samples(target, data, rows, names)
    _run_missing(zoo, data, rows, target, record, batch_size, threads, progress, ray, provider)
    write_atomic(target / PROFILE_FILE, encode_record(record))
    _remove_others(target, record)
    return record


def write_samples(
    folder: Path, data: LabelledImages, rows: NDArray[np.intp], names: NDArray[np.str_]
) -> None:
    """Write ``samples.parquet``: id, label (class name), environment, group and split of every sample."""
    table = pa.table(
        {
            "id": [data.ids[i] for i in rows],
            "label": [data.classes[data.labels[i]] for i in rows],
            "environment": [data.environments[i] for i in rows],
            "group": [data.groups[i] for i in rows],
            "split": names[rows].tolist(),
        }
    )
    write_table(table, folder / SAMPLES_FILE)


def held_out_images(folder: str | Path, data: LabelledImages) -> LabelledImages:
    """The images of a profile's test split, in the order of the profile.

    Raises
    ------
    StaleError
        When `data` is not what the profile was made from.
    """
    record = read_profile_record(folder)
    if record.data_sha256 != data.sha256:
        raise StaleError(
            f"the profile in {folder} was made from other images. "
            "Name the same --data, --environments and --seed."
        )
    samples = pq.read_table(Path(folder) / SAMPLES_FILE, columns=["id", "split"]).to_pydict()
    index = {name: i for i, name in enumerate(data.ids)}
    chosen = [
        index[name] for name, split in zip(samples["id"], samples["split"], strict=True) if split == TEST
    ]
    return data.subset(chosen)


def _class_order(folder: Path, classes: tuple[str, ...]) -> tuple[str, ...]:
    """The order that finished parts have already: replacing a model may change which one comes first."""
    for path in (folder / PROFILE_FILE, folder / UNFINISHED_FILE):
        if path.is_file():
            before = read_record(path, ProfileRecord, schema_version=SCHEMA_VERSION).classes
            if set(before) == set(classes):
                return before
    return classes


def _schema_version(zoo: Zoo, provider: Provider) -> int:
    """The oldest that says all, so that older readers go on reading."""
    if not provider.is_cpu:
        return SCHEMA_VERSION
    return IMAGES_VERSION if zoo.kind.record is None else KINDS_VERSION


def _prepare(folder: Path, record: ProfileRecord, *, restart: bool) -> None:
    path = folder / PROFILE_FILE
    marker = folder / UNFINISHED_FILE
    for known in (path, marker):
        if not known.is_file():
            continue
        try:
            before = read_record(known, ProfileRecord, schema_version=SCHEMA_VERSION)
        except CardError:
            if known.is_file():
                raise
            continue  # another process has finished the same profile meanwhile
        if _basis(before) != _basis(record):
            if not restart:
                what = (
                    f"other {record.kind.noun}s"
                    if before.data_sha256 != record.data_sha256
                    else "other splits"
                )
                if before.provider != record.provider:
                    what = f"answers of {before.provider_name}, not of {record.provider_name}"
                raise StaleError(
                    f"{folder} holds a profile of {what}. Choose another folder, or start over there "
                    "with --restart (in Python: restart=True)."
                )
            shutil.rmtree(folder / "outputs", ignore_errors=True)
            path.unlink(missing_ok=True)
    write_atomic(marker, encode_record(record))


def _basis(record: ProfileRecord) -> ProfileRecord:
    return msgspec.structs.replace(record, models={})


def _run_missing(
    zoo: Zoo,
    data: LabelledImages,
    rows: NDArray[np.intp],
    folder: Path,
    record: ProfileRecord,
    batch_size: int,
    threads: int | None,
    progress: bool,
    ray: str | None,
    provider: Provider,
) -> None:
    parts = -(-len(rows) // PART_ROWS)
    missing = {
        part: [
            name
            for name in (*zoo.names, FEATURES, PIXELS)
            if not part_path(parts_folder(folder, name, record), part).is_file()
        ]
        for part in range(parts)
    }
    wanted = {name for names in missing.values() for name in names}
    if not wanted:
        return
    chosen = [name for name in zoo.names if name in wanted]
    features = features_of(zoo.kind)
    how = Profiling(
        orders={
            name: np.array(match_classes(record.classes, zoo.card(name).classes, model=name), np.intp)
            for name in chosen
        },
        features=features.graph(features.names, grid=record.grid).SerializeToString(),
        kind=zoo.kind,
        grid=record.grid,
        batch_size=batch_size,
        pixels=pixels_per_batch(len(chosen)),
        ends=_ends(zoo, chosen),
    )
    wanted_parts: dict[int, tuple[NDArray[np.intp], list[str]]] = {
        part: (rows[part * PART_ROWS : (part + 1) * PART_ROWS], names)
        for part, names in missing.items()
        if names
    }
    total = sum(len(members) for members, _ in wanted_parts.values())
    unit = "img" if zoo.kind == IMAGE else zoo.kind.noun
    with tqdm(total=total, desc="profiling", unit=unit, disable=not progress or None, delay=1) as bar:
        if ray is None:
            made = _run_here(zoo, data, wanted_parts, how, threads or allowed_cores(), bar.update, provider)
        else:
            made = spread_parts(zoo, data, wanted_parts, how, ray, threads or 1, bar.update)
        for part, outputs in made:
            ids = [data.ids[i] for i in wanted_parts[part][0]]
            for name, values in outputs.items():
                whole: NDArray[Any] = values
                if name in how.orders and whole.shape[1] > len(record.classes):
                    # before the logits: where these are there, nothing is missing
                    logits, embedding = np.split(whole, [len(record.classes)], axis=1)
                    write_part(ids, embedding, embedding_folder(folder, name, record), part)
                    whole = logits
                target = parts_folder(folder, name, record)
                write_part(ids, whole, target, part, as_bytes=name == PIXELS)


def _run_here(
    zoo: Zoo,
    data: LabelledImages,
    parts: Mapping[int, tuple[NDArray[np.intp], list[str]]],
    how: Profiling,
    threads: int,
    step: Callable[[int], object],
    provider: Provider,
) -> Iterator[tuple[int, dict[str, Values]]]:
    lanes = lanes_for(threads, sum(zoo.card(name).size_bytes for name in how.orders))

    def opened(arena: bool) -> dict[str, Model]:
        return {
            name: Model.open(
                zoo.card(name), zoo.folder, threads=threads // lanes, arena=arena, provider=provider
            )
            for name in how.orders
        }

    runner = ShardRunner(how, opened, lanes=lanes)
    for name, width in runner.without_embedding.items():
        tqdm.write(
            f"{name}: its embedding of {width:,} numbers is not kept, as they are {MAX_EMBEDDING} at most; "
            "fit tries no new last layer for it.",
            file=sys.stderr,
        )
    for part, (members, names) in parts.items():
        yield part, runner.run(data, members, names, step)


def _ends(zoo: Zoo, names: Sequence[str]) -> tuple[int, int] | None:
    """How much of the beginning and of the end of a signal the models see; None where one does not say."""
    if not isinstance(zoo.kind, Signal):
        return None
    from zoo.convert.signals.signal_front import ends_seen

    found = [ends_seen(zoo.card(name), zoo.folder) for name in names]
    known = [ends for ends in found if ends is not None]
    if not known or len(known) < len(found):
        return None
    return max(first for first, _ in known), max(last for _, last in known)


def lanes_for(threads: int, size_bytes: int) -> int:
    """How many batches to answer at once: one a thread, as far as the models fit into memory so often.

    One thread each gets more done than all threads on one batch, whose short layers leave most of them idle.

    Parameters
    ----------
    threads
        In all.
    size_bytes
        Of the models.

    Examples
    --------
    >>> lanes_for(2, 50_000_000), lanes_for(1, 50_000_000), lanes_for(8, 2_000_000_000)
    (2, 1, 1)
    """
    return min(threads, max(1, MODEL_BYTES // max(1, size_bytes)))


def _grid(data: LabelledImages, rows: NDArray[np.intp]) -> int:
    sample = rows[:: max(1, len(rows) // 15)][:15]
    return features_of(data.kind).grid_for([data.image(int(i)) for i in sample])


def _remove_others(folder: Path, record: ProfileRecord) -> None:
    kept = {parts_folder(folder, name, record) for name in (*record.models, FEATURES, PIXELS)}
    kept |= {embedding_folder(folder, name, record) for name in record.models}
    for path in (folder / "outputs").iterdir():
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)
    (folder / UNFINISHED_FILE).unlink(missing_ok=True)
