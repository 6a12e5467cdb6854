"""A family of small one-dimensional networks: the larger ones look at more of a signal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from training.data.images import LabelledImages
from training.data.seen import remember
from training.data.splits import TRAIN, Splits
from training.features.scout_network import one_thread
from zoo.convert.signals.export_signal import add_signal_module
from zoo.convert.signals.signal_front import SignalFront
from zoo.errors import CardError, DataError
from zoo.inputs.signal import Signal
from zoo.models.card import ModelCard, TrainedOn
from zoo.models.session import open_session
from zoo.models.zoo import Zoo

_BYTES = 257  # values of a byte, and the padding


@dataclass(frozen=True)
class Size:
    """How large a network is."""

    width: int  # samples that it looks at
    embedded: int  # numbers that a byte becomes
    channels: int
    layers: int


SIZES = {
    "tiny": Size(width=32, embedded=8, channels=16, layers=1),
    "small": Size(width=96, embedded=12, channels=24, layers=1),
    "full": Size(width=384, embedded=16, channels=64, layers=2),
}
EPOCHS = 10
_BATCH = 64
_DROPPED = 0.3
_RATE, _DECAY = 4e-3, 1e-2


class SignalNet(nn.Module):
    """Samples ``[N, width]`` → logits ``[N, C]``: strided convolutions, then means and maxima over time.

    Parameters
    ----------
    bytes
        Whether samples are bytes, as int64 with 256 for padding; else float32.
    """

    def __init__(self, size: Size, classes: int, *, bytes: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(_BYTES, size.embedded) if bytes else None
        inputs = size.embedded if bytes else 1
        layers: list[nn.Module] = []
        for i in range(size.layers):
            first = nn.Conv1d(inputs, size.channels, 8, 4, 2)
            layers += [first if i == 0 else nn.Conv1d(size.channels, size.channels, 5, 2, 2), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.drop = nn.Dropout(_DROPPED)
        self.last = nn.Linear(2 * size.channels, classes)

    def forward(self, samples: Tensor) -> Tensor:
        """Logits ``[N, C]``."""
        real = samples.unsqueeze(2) if self.embedding is None else self.embedding(samples)
        value = self.layers(real.transpose(1, 2))
        logits: Tensor = self.last(self.drop(torch.cat([value.mean(2), value.amax(2)], 1)))
        return logits


def train_signal_family(
    zoo: Zoo,
    data: LabelledImages,
    *,
    sizes: Sequence[str] = tuple(SIZES),
    share: float = 0.5,
    seed: int = 0,
    epochs: int = EPOCHS,
    progress: bool = True,
) -> tuple[ModelCard, ...]:
    """Train networks of several sizes on a part of `data`, and add them to `zoo`, named by their sizes.

    A model that the zoo holds already, trained in the same way on the same signals, is not trained again.

    Parameters
    ----------
    data
        Labelled signals.
    sizes
        Names out of :data:`SIZES`.
    share
        Share of the originals to train on, above 0 and below 1; these never judge the models.
    epochs
        Passes over the signals.

    Raises
    ------
    DataError
        For unknown sizes, or data that are no signals.
    CardError
        When the zoo holds another model of one of these names.
    """
    kind = data.kind
    if not isinstance(kind, Signal) or not sizes or not set(sizes) <= set(SIZES):
        raise DataError(
            f"expected signals, and sizes out of {', '.join(SIZES)}, got {kind} and "
            f"{', '.join(sizes) or 'none'}. Correct them."
        )
    part = TrainedOn(data_sha256=data.originals_sha256, share=share, seed=seed)
    rows = np.flatnonzero(Splits(seed=seed, train=share).assign(data.groups) == TRAIN)
    if len(rows) < _BATCH:
        raise DataError(f"expected at least {_BATCH} signals to train on, got {len(rows)}. Give more.")
    found = []
    for name in sizes:
        size = SIZES[name]
        source = f"network of signals, {name}, {epochs} epochs"
        held = next((card for card in zoo.cards if card.name == name), None)
        if held is not None and (held.source, held.trained_on, held.classes) == (source, part, data.classes):
            found.append(held)
            continue
        if held is not None:
            raise CardError(f"the zoo holds another model {name!r}. Remove it, or train into another zoo.")
        front = _front(kind, size)
        inputs = _inputs(front, data, rows)
        labels = torch.from_numpy(data.labels[rows])
        module = _trained(size, inputs, labels, len(data.classes), kind, seed, epochs, name, progress)
        remember(zoo, part, data)
        found.append(
            add_signal_module(zoo, name, module, front, data.classes, source=source, trained_on=part)
        )
    return tuple(found)


def _front(kind: Signal, size: Size) -> SignalFront:
    """Of bytes the beginning and the end; of sound the beginning."""
    if kind.is_bytes:
        return SignalFront(kind, first=size.width // 2, last=size.width // 2, pad=256)
    return SignalFront(kind, first=8 * size.width)


def _inputs(front: SignalFront, data: LabelledImages, rows: NDArray[np.intp]) -> Tensor:
    kind = front.kind
    session = open_session(front.model(type=7 if kind.is_bytes else 1).SerializeToString(), name="front")
    parts = [session.run(None, kind.feeds(kind.one(data.image(int(i)))))[0] for i in rows]
    return torch.from_numpy(np.concatenate(parts))


def _trained(
    size: Size,
    inputs: Tensor,
    labels: Tensor,
    classes: int,
    kind: Signal,
    seed: int,
    epochs: int,
    name: str,
    progress: bool,
) -> SignalNet:
    # threads wait for each other longer than layers as small as these take, and far longer on a busy machine
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = SignalNet(size, classes, bytes=kind.is_bytes)
        optimizer = torch.optim.AdamW(module.parameters(), lr=_RATE, weight_decay=_DECAY)
        steps = epochs * -(-len(inputs) // _BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
        for _ in tqdm(range(epochs), f"training {name}", unit="epoch", delay=2, disable=not progress or None):
            for batch in torch.split(torch.randperm(len(inputs)), _BATCH):
                loss = F.cross_entropy(module(inputs[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    return module.eval()
