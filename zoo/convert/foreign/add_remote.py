"""Add a model that a server holds: its metadata is read, one answer checked, its bytes counted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from zoo.errors import ModelError, NotFiniteError, UnreachableError
from zoo.files import encode_record
from zoo.inputs.kind import InputKind, Item, Size
from zoo.inputs.kinds import IMAGE, Tensors
from zoo.models.card import ModelCard
from zoo.models.model import all_finite
from zoo.models.zoo import Zoo
from zoo.remote.arrays import tensors_there
from zoo.remote.client import Client
from zoo.remote.descriptor import Remote
from zoo.remote.discover import INPUT, OTHER_KIND, Wanted, discover, kind_there
from zoo.remote.protocol import BINARY_EXTENSION, BYTES, ModelMetadata
from zoo.remote.runs import RemoteRuns
from zoo.remote.token import Token

DEADLINE_MS = 10_000
WRONG_SCALE = "; a wrong --scale, --mean or --std can be the cause"
_SIDE = 32  # of the image that a server of any size is tried with
Feeds = Mapping[str, NDArray[Any]]


def add_remote(
    zoo: Zoo,
    address: str,
    model: str,
    *,
    version: str = "",
    name: str | None = None,
    wanted: Wanted | None = None,
    token_env: str = "",
    token_file: str = "",
    deadline_ms: int = DEADLINE_MS,
    images: Sequence[Item] = (),
    force: bool = False,
) -> ModelCard:
    """Add the model `model` of a server of the Open Inference Protocol, version 2.

    Parameters
    ----------
    token_env, token_file
        Environment variable or file with a token. Only this name is kept, never the token.
    deadline_ms
        For each request, here and later where an answer gives no deadline of its own.
    wanted
        What the server does not say. Without a kind of input, it is that of the zoo's other models.
    images
        uint8 ``[H, W, 3]``, or other inputs, to count the bytes of one request with; without, one of ours.

    Raises
    ------
    UnreachableError
        When the server is none, or does not speak version 2; see :meth:`zoo.remote.client.Client.infer`.
    ModelError
        When the model is no classifier that can be asked, or answers with NaN.
    CardError
        When the zoo holds a different model of that name, or models that take something else.
    """
    client = Client(address, token=Token.read(token_env, token_file))
    try:
        deadline_s = deadline_ms / 1000
        server = _server(client, deadline_s)
        metadata = client.model(model, version, deadline_s=deadline_s)
        asked = wanted or Wanted()
        if asked.kind is None and INPUT not in (metadata.parameters or {}):
            asked = replace(asked, kind=_kind(zoo, name or model.lower(), metadata, asked))
        kind = kind_there(metadata, asked)
        if asked.tensors and not isinstance(kind, Tensors):
            raise ModelError(
                f"remote model {model!r}: expected one that takes tensors, got {kind}. {OTHER_KIND}"
            )
        remote, classes = discover(
            client.address,
            msgspec.structs.replace(metadata, name=model),
            asked,
            version=version,
            token_env=token_env,
            token_file=token_file,
            deadline_ms=deadline_ms,
        )
        size, one = _shown(remote, kind)
        shown = [kind.feeds(kind.one(item)) for item in (images or [one])]
        may_be_json = BINARY_EXTENSION not in server and remote.input_datatype != BYTES
        remote = _checked(client, remote, len(classes), shown, may_be_json=may_be_json)
    finally:
        client.close()
    return zoo.add(
        name or model.lower(),
        encode_record(remote),
        classes=classes,
        resolution=size,
        parameters=0,
        macs=0,
        source=f"{remote.model} on {remote.address}",
        remote=remote,
        kind=kind,
        force=force,
    )


def _kind(zoo: Zoo, name: str, metadata: ModelMetadata, asked: Wanted) -> InputKind:
    """What a model takes where nobody says it: what the others of the zoo do, or the arrays that it names."""
    if asked.tensors and not [card for card in zoo.cards if card.name != name]:
        return tensors_there(name, metadata.inputs or (), length=asked.length, pad=asked.ends.pad)
    return zoo.kind


def _shown(remote: Remote, kind: InputKind) -> tuple[Size, Item]:
    """What a model sees of an input, and an input of that size."""
    if kind == IMAGE:
        size = remote.pixels.size or (_SIDE, _SIDE)
        return size, _picture(*size)
    ends = [one.first + one.last for one in remote.arrays or ()]
    size = (1, max(ends)) if isinstance(kind.inputs[0].axes[-1], str) and any(ends) else kind.default_size
    return size, kind.random(size, np.random.default_rng(0))


def _server(client: Client, deadline_s: float) -> tuple[str, ...]:
    """Extensions of the server."""
    try:
        return client.server(deadline_s=deadline_s).extensions
    except UnreachableError as error:
        if client.speaks_v1(deadline_s=deadline_s):
            raise UnreachableError(
                f"{client.address}: expected version 2 of the Open Inference Protocol, got a server of "
                "version 1. Update it, or turn version 2 on there."
            ) from error
        raise


def _checked(
    client: Client,
    remote: Remote,
    classes: int,
    shown: Sequence[Feeds],
    *,
    may_be_json: bool,
) -> Remote:
    """The record with the form that the server understands, and the bytes of one image."""
    try:
        return _asked(client, remote, classes, shown)
    except UnreachableError:
        if not may_be_json:
            raise
    return _asked(client, msgspec.structs.replace(remote, binary=False), classes, shown)


def _asked(client: Client, remote: Remote, classes: int, shown: Sequence[Feeds]) -> Remote:
    runs = RemoteRuns(remote, width=classes, client=client)
    counted = []
    for feeds in shown:
        logits = runs.ask(feeds, time.monotonic() + remote.deadline_ms / 1000)
        if not all_finite(logits):
            raise NotFiniteError(
                f"remote model {remote.model!r}: expected finite values, got NaN or infinite ones for an "
                f"input. Repair it on the server{'' if remote.arrays else WRONG_SCALE}."
            )
        counted.append(runs.last_bytes)
    up, down = np.mean(counted, axis=0)
    return msgspec.structs.replace(remote, uplink_bytes=round(up), downlink_bytes=round(down))


def _picture(height: int, width: int) -> NDArray[np.uint8]:
    """A smooth picture with some noise, the same for all."""
    rows, columns = np.mgrid[0:height, 0:width]
    smooth = 128 + 60 * np.sin(rows / 9) + 50 * np.cos(columns / 7)
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    picture: NDArray[np.uint8] = (smooth[..., np.newaxis] + noise).clip(0, 255).astype(np.uint8)
    return picture
