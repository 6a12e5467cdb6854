"""Add a model that a server holds: its metadata is read, one answer checked, its bytes counted."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from zoo.errors import NotFiniteError, UnreachableError
from zoo.files import encode_record
from zoo.inputs.image import check_image
from zoo.models.card import ModelCard
from zoo.models.model import all_finite
from zoo.models.zoo import Zoo
from zoo.remote.client import Client
from zoo.remote.descriptor import Remote
from zoo.remote.discover import Wanted, discover
from zoo.remote.protocol import BINARY_EXTENSION, BYTES
from zoo.remote.runs import RemoteRuns
from zoo.remote.token import Token

DEADLINE_MS = 10_000
_SIDE = 32  # of the image that a server of any size is tried with


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
    images: Sequence[NDArray[np.uint8]] = (),
    force: bool = False,
) -> ModelCard:
    """Add the model `model` of a server of the Open Inference Protocol, version 2.

    Parameters
    ----------
    token_env, token_file
        Environment variable or file with a token. Only this name is kept, never the token.
    deadline_ms
        For each request, here and later where an answer gives no deadline of its own.
    images
        uint8 ``[H, W, 3]`` to count the bytes of one request with; without, a picture of ours.

    Raises
    ------
    UnreachableError
        When the server is none, or does not speak version 2; see :meth:`zoo.remote.client.Client.infer`.
    ModelError
        When the model is no classifier of images that can be asked, or answers with NaN.
    CardError
        When the zoo holds a different model of that name.
    """
    client = Client(address, token=Token.read(token_env, token_file))
    try:
        deadline_s = deadline_ms / 1000
        server = _server(client, deadline_s)
        metadata = client.model(model, version, deadline_s=deadline_s)
        remote, classes = discover(
            client.address,
            msgspec.structs.replace(metadata, name=model),
            wanted or Wanted(),
            version=version,
            token_env=token_env,
            token_file=token_file,
            deadline_ms=deadline_ms,
        )
        height, width = remote.pixels.size or (_SIDE, _SIDE)
        shown = [check_image(image) for image in images] or [_picture(height, width)[np.newaxis]]
        may_be_json = BINARY_EXTENSION not in server and remote.input_datatype != BYTES
        remote = _checked(client, remote, len(classes), shown, may_be_json=may_be_json)
    finally:
        client.close()
    return zoo.add(
        name or model.lower(),
        encode_record(remote),
        classes=classes,
        resolution=(height, width),
        parameters=0,
        macs=0,
        source=f"{remote.model} on {remote.address}",
        remote=remote,
        force=force,
    )


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
    shown: Sequence[NDArray[np.uint8]],
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


def _asked(client: Client, remote: Remote, classes: int, shown: Sequence[NDArray[np.uint8]]) -> Remote:
    runs = RemoteRuns(remote, width=classes, client=client)
    counted = []
    for image in shown:
        logits = runs.ask(image, time.monotonic() + remote.deadline_ms / 1000)
        if not all_finite(logits):
            raise NotFiniteError(
                f"remote model {remote.model!r}: expected finite values, got NaN or infinite ones for an "
                "image. Repair it on the server; a wrong --scale, --mean or --std can be the cause."
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
