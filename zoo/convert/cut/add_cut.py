"""A model that was cut enters a zoo: as one model that answers as its parts do, with the parts beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from msgspec import structs
from numpy.typing import NDArray

from zoo.convert.count import add_counted
from zoo.convert.cut.codes import Judged, choose_steps
from zoo.convert.cut.cuttable import IMAGE, LOGITS, prepare
from zoo.convert.cut.places import Place, find_places, named_place
from zoo.convert.cut.split import CODES, split, with_codes
from zoo.convert.parity import TOLERANCE
from zoo.errors import ModelError, ParityError
from zoo.files import encode_record, sha256_bytes
from zoo.inputs.image import check_image
from zoo.models.card import ModelCard, TrainedOn
from zoo.models.cuts import SCHEMA_VERSION, PartFile, Parts, load_parts, read_part, save_parts
from zoo.models.head_runs import FEATURES, RECORD
from zoo.models.model import read_graph
from zoo.models.session import open_session
from zoo.models.zoo import Zoo
from zoo.remote.client import check_secret
from zoo.remote.descriptor import Remote, checked
from zoo.remote.sizes import expected_bytes

PARITY_IMAGES = 8


def _check_parts(
    whole: bytes, head: bytes, tail: bytes, images: Sequence[NDArray[np.uint8]], name: str
) -> None:
    """Compare both parts with the one model on images; on some of them a code may be rounded otherwise."""
    one, first, second = (open_session(content, name=name) for content in (whole, head, tail))
    apart = []
    for image in images:
        expected = one.run([LOGITS], {IMAGE: image})[0]
        got = second.run([LOGITS], {CODES: first.run([CODES], {IMAGE: image})[0]})[0]
        apart.append(np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-6))
    if not np.median(apart) <= TOLERANCE:
        raise ParityError(
            f"model {name!r}: expected both parts to answer as one model within {TOLERANCE:.0e} of the "
            f"largest logit, got {np.median(apart):.1e}. Cut it at another place."
        )


def find_place(zoo: Zoo, name: str, at: str) -> tuple[bytes, tuple[Place, ...], Place]:
    """A model of `zoo` ready to be cut, its places, and the one that `at` names.

    Raises
    ------
    ModelNotFoundError, DigestError, ModelError
        When there is no such model, its file is damaged, or it cannot be cut there.
    """
    card = zoo.card(name)
    content = prepare(read_graph(card, zoo.folder), card.resolution, name=name)
    places = find_places(content, card.resolution, name=name)
    return content, places, named_place(content, places, at, resolution=card.resolution, name=name)


def add_cut(
    zoo: Zoo,
    parent: str,
    at: str,
    images: Sequence[NDArray[np.uint8]],
    *,
    held_out: Sequence[NDArray[np.uint8]] = (),
    calibrated_on: TrainedOn | None = None,
    name: str | None = None,
    force: bool = False,
    tell: Callable[[Judged], None] = lambda _: None,
    progress: bool = False,
) -> ModelCard:
    """Cut a model of `zoo`, and add what its two parts answer together as ``<parent>-cut<number>``.

    The new model takes images and returns logits like any other, with the tensor as 8-bit codes on its way.
    So what is profiled and certified is what a device with the head and a server with the tail answer. The
    parts lie in ``cuts/<name>/`` beside the zoo; see :class:`zoo.models.cuts.Parts`.

    Parameters
    ----------
    at
        Number of the place in :func:`zoo.convert.cut.places.find_places`, or name of its tensor.
    images
        uint8 ``[H, W, 3]`` each, at least 8, that ranges are measured on.
    held_out
        Others, on which the answers are compared with those of the parent; by default `images`.
    calibrated_on
        The part of the data that holds all these images, so that they do not judge the result. A model that
        was trained on a known part keeps that one.
    force
        Replace a different model of the same name.
    tell
        Is called with what the codes change, before anything is added.

    Raises
    ------
    ModelError
        When the model cannot be cut there.
    ParityError
        When both parts answer otherwise than the one model.
    ZooError
        What :func:`zoo.convert.cut.codes.choose_steps` and :meth:`zoo.Zoo.add` raise.
    """
    card = zoo.card(parent)
    content, places, place = find_place(zoo, parent, at)
    number = next((str(i) for i, one in enumerate(places, 1) if one == place), None)
    name = name or f"{parent}-cut{number or '-' + re.sub('[^a-z0-9._-]+', '-', place.tensor.lower())}"
    if name == parent:
        raise ModelError(f"expected a name of its own for the cut model, got that of its parent {parent!r}.")
    judged = choose_steps(content, place, images, held_out, name=parent, progress=progress)
    tell(judged)
    parts = split(content, place, steps=judged.steps, name=name)
    whole = with_codes(content, place, judged.steps, name=name)
    _check_parts(whole, *parts, [check_image(image) for image in images[:PARITY_IMAGES]], name)
    scales = "no new codes" if judged.steps is None else "8-bit codes, one scale"
    channels = judged.steps is not None and np.ndim(judged.steps.scale) > 0
    made = add_counted(
        zoo,
        name,
        whole,
        card.classes,
        card.resolution,
        source=(
            f"cut at {place.tensor}, {scales}{' for each channel' if channels else ''}; the parent's class "
            f"for {judged.agreement:.1%} of {judged.images} images, of {parent} {card.sha256[:12]}"
        ),
        parent=parent,
        compression=card.compression,
        trained_on=card.trained_on or calibrated_on,
        force=force,
    )
    files = [
        PartFile(file=f"{end}.onnx", sha256=sha256_bytes(part), size_bytes=len(part))
        for end, part in zip(("head", "tail"), parts, strict=True)
    ]
    record = Parts(
        schema_version=SCHEMA_VERSION,
        model=name,
        sha256=made.sha256,
        parent=parent,
        parent_sha256=card.sha256,
        tensor=place.tensor,
        shape=place.shape,
        datatype="INT8" if place.kind == "int8" else "UINT8",
        classes=card.classes,
        head=files[0],
        tail=files[1],
    )
    save_parts(record, *parts, zoo.folder)
    return made


def check_server(address: str, token_env: str) -> None:
    """Raise :class:`ZooError` where no tail can be asked at `address`, or not with a token."""
    checked(address)
    if token_env:
        check_secret(address)


def add_remote_cut(
    zoo: Zoo,
    cut: str,
    address: str,
    *,
    served_as: str = "",
    name: str | None = None,
    token_env: str = "",
    force: bool = False,
) -> ModelCard:
    """Add a model that :func:`add_cut` made once more: with its head here, and its tail on a server.

    Its file is the head, which also says where the tail is asked, and how many bytes that takes. Nothing is
    asked of the server.

    Parameters
    ----------
    cut
        The model of `zoo`, such as ``resnet56-cut21``.
    address, token_env
        As for :class:`zoo.remote.descriptor.Remote`.
    served_as
        What the server calls the tail; by default ``<cut>-tail``.
    name
        By default ``<cut>-remote``.

    Raises
    ------
    CardError, StaleError, DigestError
        When the parts of the model are not there, or not its own.
    TokenError
        When a token would go over plain HTTP to another machine.
    ZooError
        When the address is none, and what :meth:`zoo.Zoo.add` raises.
    """
    check_server(address, token_env)
    card = zoo.card(cut)
    parts = load_parts(zoo.folder, card)
    head = onnx.load_model_from_string(read_part(zoo.folder, parts, "head"))
    remote = Remote(
        address=checked(address),
        model=served_as or f"{cut}-tail",
        input_name=CODES,
        input_datatype=parts.datatype,
        input_layout=FEATURES,
        input_rank=len(parts.shape) + 1,
        output_name=LOGITS,
        token_env=token_env,
    )
    up, down = expected_bytes(remote, parts.shape, len(card.classes))
    remote = structs.replace(remote, uplink_bytes=up, downlink_bytes=down)
    head.metadata_props.append(onnx.StringStringEntryProto(key=RECORD, value=encode_record(remote).decode()))
    return add_counted(
        zoo,
        name or f"{cut}-remote",
        head.SerializeToString(deterministic=True),
        card.classes,
        card.resolution,
        source=f"the head of {cut}; its tail on {remote.address}",
        parent=cut,
        compression=card.compression,
        trained_on=card.trained_on,
        remote=remote,
        force=force,
    )
