"""A shard of a profile: some images, and what models and features make of them, here or on another machine.

Little is imported, so that a worker of a cluster starts quickly and needs the packages of a device alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.images import LabelledImages, PackedImage
from training.features.kinds import features_of
from training.outcomes.batches import (
    Batch,
    Batches,
    Call,
    Stacks,
    Values,
    in_order,
    is_out_of_memory,
    stacked,
)
from zoo.errors import DigestError, ModelError
from zoo.files import sha256_bytes
from zoo.inputs.kind import Batch as Inputs
from zoo.inputs.kind import InputKind, Item
from zoo.inputs.kinds import IMAGE
from zoo.models.card import ModelCard
from zoo.models.model import Model
from zoo.models.session import open_session

FEATURES = "input-features"
PIXELS = "input-pixels"  # what the features read: a scout learns from them, and fitting needs no images
MAX_EMBEDDING = 2048  # numbers a sample, 8 kB; wider embeddings are not kept
PIXELS_AT_A_TIME = 2**25  # of images that are answered in several lanes: two of 12 megapixels
SHARD_BYTES = 2**24  # of images that travel together; a batch more where the last one crosses it

OpenModels = Callable[[bool], dict[str, Model]]  # whether they keep memory between runs → models


@dataclass(frozen=True)
class Profiling:
    """How the images of a profile are answered; equal settings give equal bits."""

    orders: Mapping[str, NDArray[np.intp]]  # model → its classes in the order of the profile
    features: bytes  # the graph of the input features
    grid: int
    batch_size: int
    pixels: int  # of a batch
    kind: InputKind = IMAGE
    ends: tuple[int, int] | None = None  # how much of the first and last of an input all models see, if known


class _Lane:
    """Models that answer one batch at a time."""

    def __init__(self, open_models: OpenModels) -> None:
        self._open, self._arena = open_models, True
        self.models = open_models(True)

    def models_for(self, *, arena: bool) -> dict[str, Model]:
        """The models; opened again where they shall keep no memory from now on."""
        if self._arena and not arena:
            self._arena = False
            self.models = self._open(False)
        return self.models


class ShardRunner:
    """Runs models, features and what features read over shards.

    Parameters
    ----------
    open_models
        Called at once, and again where a single image is larger than a batch may be: each model would keep
        memory for the largest image.
    lanes
        Batches that are answered at the same time, each by models of its own. Equal batches get equal bits,
        whichever lane answers them.
    """

    def __init__(self, how: Profiling, open_models: OpenModels, *, lanes: int = 1) -> None:
        self._how, self._arena = how, True
        with ThreadPoolExecutor(lanes) as pool:  # opening takes a while, and as many cores as there are lanes
            self._lanes = list(pool.map(_Lane, [open_models] * lanes))
        self._batch_size = how.batch_size
        self._orders = {
            name: np.concatenate([how.orders[name], len(how.orders[name]) + np.arange(_kept_width(model))])
            for name, model in self._lanes[0].models.items()
        }
        # models whose embedding is too wide to be kept, with its width
        self.without_embedding = {
            name: model.embedding_width
            for name, model in self._lanes[0].models.items()
            if model.embedding_width and not _kept_width(model)
        }
        features = open_session(how.features, name=FEATURES)

        def measure(images: Inputs) -> NDArray[np.float32]:
            values: NDArray[np.float32] = features.run(["features"], how.kind.feeds(images))[0]
            return values

        def read(images: Inputs) -> NDArray[Any]:
            return features_of(how.kind).read(images, how.grid).reshape(len(images), -1)

        self._of_images: dict[str, Call] = {FEATURES: measure, PIXELS: read}

    def run(
        self,
        data: LabelledImages,
        members: NDArray[np.intp],
        names: Sequence[str],
        step: Callable[[int], object] = lambda images: None,
    ) -> dict[str, Values]:
        """Outputs of `names` for some members of `data`; `step` is told how many images each batch had.

        Raises
        ------
        ModelError
            When a model fails, or returns NaN or infinite values; the sample is named.
        DataError
            When an image cannot be read, or there is no memory for a single one.
        """
        outputs: dict[str, list[Values]] = {name: [] for name in names}
        done = 0
        with ThreadPoolExecutor(len(self._lanes)) as pool:
            while done < len(members):  # once, but for batches that there was no memory for
                done = self._run(pool, data, members, done, outputs, step)
        whole: dict[str, Any] = {name: np.concatenate(values) for name, values in outputs.items()}
        return whole

    def _run(
        self,
        pool: ThreadPoolExecutor,
        data: LabelledImages,
        members: NDArray[np.intp],
        done: int,
        outputs: dict[str, list[Values]],
        step: Callable[[int], object],
    ) -> int:
        """Answer batches from member `done` on; how far it came before memory was missing, if it was."""
        how, names = self._how, list(outputs)
        batches = Batches(data, members[done:], size=self._batch_size, pixels=how.pixels, of_images={})
        free: SimpleQueue[_Lane] = SimpleQueue()
        for lane in self._lanes:
            free.put(lane)
        running: deque[tuple[Batch, Future[dict[str, Values]]]] = deque()

        def finish() -> bool:
            nonlocal done
            batch, future = running.popleft()
            try:
                found = future.result()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                wait([future for _, future in running])
                batches.refuse(batch, error)
                return False
            for name, values in found.items():
                bad = ~np.isfinite(values).all(axis=1)
                if bad.any():
                    sample = data.ids[members[done + int(bad.argmax())]]
                    raise ModelError(
                        f"{name!r} returned NaN or infinite values for sample {sample!r}. "
                        "Repair or remove the model."
                    )
                outputs[name].append(values)
            done += batch.size
            step(batch.size)
            return True

        try:
            for batch in batches:
                self._arena = self._arena and batch.pixels <= how.pixels
                # large images are large in every lane: few at a time
                while running and (
                    len(running) == len(self._lanes)
                    or batch.pixels + sum(one.pixels for one, _ in running)
                    > max(len(self._lanes) * how.pixels, PIXELS_AT_A_TIME)
                ):
                    if not finish():
                        return done
                running.append((batch, pool.submit(self._answer, batch, names, free)))
                if 2 * batch.pixels > PIXELS_AT_A_TIME:  # and no other is read meanwhile
                    del batch
                    while running:
                        if not finish():
                            return done
            while running:
                if not finish():
                    return done
        finally:
            self._batch_size = batches.size
            for _, future in running:
                future.cancel()
        return done

    def _answer(self, batch: Batch, names: Sequence[str], free: SimpleQueue[_Lane]) -> dict[str, Values]:
        lane = free.get()
        try:
            models = lane.models_for(arena=self._arena)
            seen = self._seen(batch)
            return {
                name: in_order(batch.stacks, self._of_images[name])
                if name in self._of_images
                else in_order(seen, models[name].run_wide)[:, self._orders[name]]
                for name in names
            }
        finally:
            free.put(lane)

    def _seen(self, batch: Batch) -> Stacks:
        """The inputs as models see them: cut to their ends, many are of one length and run together."""
        kind, ends = self._how.kind, self._how.ends
        if ends is None or len(batch.stacks) == 1:
            return batch.stacks
        items = {
            place: kind.shortened(item, ends)
            for places, stack in batch.stacks
            for place, item in zip(places, kind.rows(stack), strict=True)
        }
        return stacked([items[place] for place in sorted(items)], kind)


@dataclass(frozen=True)
class PackedShard:
    """Images that travel together, and what is to be made of them."""

    ids: list[str]
    images: list[PackedImage]
    names: list[str]  # of models, FEATURES, PIXELS

    @property
    def size_bytes(self) -> int:
        """Bytes of the images."""
        return sum(image.size_bytes for image in self.images)


def packed_shards(
    data: LabelledImages, members: NDArray[np.intp], names: Sequence[str], how: Profiling
) -> Iterator[PackedShard]:
    """Members of `data` in shards that end where a batch ends: all are answered in the batches of one run."""
    batch: list[int] = []
    shard: list[tuple[str, PackedImage]] = []
    pixels, weight = 0, 0
    for member in members.tolist():
        image = data.packed(member)
        if batch and (len(batch) == how.batch_size or pixels + image.pixels > how.pixels):
            batch, pixels = [], 0
            if weight >= SHARD_BYTES or len(shard) >= 4 * how.batch_size:
                yield _packed(shard, names)
                shard, weight = [], 0
        batch.append(member)
        shard.append((data.ids[member], image))
        pixels, weight = pixels + image.pixels, weight + image.size_bytes
    yield _packed(shard, names)


def shard_worker(
    how: Profiling, cards: Sequence[ModelCard], threads: int, *contents: bytes
) -> Callable[[PackedShard], dict[str, Values]]:
    """What a worker of a cluster does with a shard; the models are those of `cards`, or nothing is opened.

    Raises
    ------
    DigestError
        When a model did not arrive as its card says.
    """
    for card, content in zip(cards, contents, strict=True):
        digest = sha256_bytes(content)
        if digest != card.sha256:
            raise DigestError(
                f"model {card.name!r}: expected SHA-256 {card.sha256[:16]}… on a node, got {digest[:16]}…. "
                "It was damaged on the way; run the same command again, it continues."
            )

    def opened(arena: bool) -> dict[str, Model]:
        return {
            card.name: Model(card, content, threads=threads, arena=arena)
            for card, content in zip(cards, contents, strict=True)
        }

    runner = ShardRunner(how, opened)

    def answer(shard: PackedShard) -> dict[str, Values]:
        return runner.run(_Unpacked(shard, how.kind), np.arange(len(shard.ids)), shard.names)

    return answer


class _Unpacked(LabelledImages):
    def __init__(self, shard: PackedShard, kind: InputKind = IMAGE) -> None:
        super().__init__(["unknown"], shard.ids, [0] * len(shard.ids), kind=kind)
        self._images = shard.images

    def image(self, index: int) -> Item:
        return self._images[index].image()

    def _digest(self) -> str:
        raise NotImplementedError("a shard is a part of data that has a digest")


def _packed(shard: Iterable[tuple[str, PackedImage]], names: Sequence[str]) -> PackedShard:
    ids, images = zip(*shard, strict=True)
    return PackedShard(list(ids), list(images), list(names))


def _kept_width(model: Model) -> int:
    """How many numbers of a model's embedding are kept; parts with logits have those of embeddings, too."""
    width = model.embedding_width or 0
    return width if width <= MAX_EMBEDDING else 0
