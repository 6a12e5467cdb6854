"""Parts of a profile from a cluster: images and models travel, results come back, the caller writes.

A part is complete when all its shards are back, in whatever order they come. What a node had that died runs
again on another one. In memory at a time: :data:`training.cluster.pool.QUEUED` shards a worker, each of
:data:`training.outcomes.shards.SHARD_BYTES` and a batch at most, and the results of unfinished parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.cluster.connection import connected
from training.cluster.pool import Usage, spread
from training.data.images import LabelledImages
from training.outcomes.batches import Values
from training.outcomes.shards import PackedShard, Profiling, packed_shards, shard_worker
from zoo.files import read_verified
from zoo.models.zoo import Zoo


class _Key(NamedTuple):
    part: int
    number: int  # of the shard in the part
    first: str  # sample
    images: int

    def __str__(self) -> str:
        return f"{self.images} images from sample {self.first!r} on"


def spread_parts(
    zoo: Zoo,
    data: LabelledImages,
    parts: Mapping[int, tuple[NDArray[np.intp], list[str]]],
    how: Profiling,
    address: str,
    threads: int,
    step: Callable[[int], object],
    usage: Usage | None = None,
    most: int | None = None,
) -> Iterator[tuple[int, dict[str, Values]]]:
    """Outputs of every part, as they are complete; see :func:`training.outcomes.profile.profile`.

    Parameters
    ----------
    parts
        Number → members of `data`, and what is missing of them.
    address
        Of the cluster, or ``local``.
    threads
        Cores of a worker.
    most
        Workers at most; by default as many as there are batches.
    """
    cards = [zoo.card(name) for name in how.orders]
    images = sum(len(members) for members, _ in parts.values())
    found: dict[int, dict[int, dict[str, Values]]] = {part: {} for part in parts}
    shards: dict[int, int] = {}  # part → how many it has, once all were sent

    def tasks() -> Iterator[tuple[_Key, tuple[PackedShard]]]:
        for part, (members, names) in parts.items():
            number = 0
            for number, shard in enumerate(packed_shards(data, members, names, how)):
                yield _Key(part, number, shard.ids[0], len(shard.ids)), (shard,)
            shards[part] = number + 1

    with connected(address):
        models = (read_verified(zoo.folder / card.file, card.sha256, card.size_bytes) for card in cards)
        done = spread(
            shard_worker,
            (how, cards, threads, *models),
            tasks(),
            most=most or -(-images // how.batch_size),
            cores=threads,
            usage=usage,
        )
        for key, outputs in done:
            step(key.images)
            found[key.part][key.number] = outputs
            for part in [part for part, count in shards.items() if len(found.get(part, ())) == count]:
                pieces = found.pop(part)
                yield (
                    part,
                    {
                        name: np.concatenate([pieces[i][name] for i in sorted(pieces)])
                        for name in parts[part][1]
                    },
                )
