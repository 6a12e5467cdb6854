"""What cutting a model takes: bytes of the image and of every tensor, and times of both parts."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.convert.cut.codes import check_images, find_ranges
from zoo.convert.cut.cuttable import IMAGE, LOGITS, prepare
from zoo.convert.cut.part_times import agreeing
from zoo.convert.cut.places import Place, find_places
from zoo.convert.cut.split import CODES, split
from zoo.errors import LatencyError
from zoo.models.cuts import SCHEMA_VERSION, Cut, CutTable, Encoded
from zoo.models.machine import machine
from zoo.models.model import read_graph
from zoo.models.session import open_session
from zoo.models.timing import RUNS_IN_A_ROW, time_interleaved
from zoo.models.zoo import Zoo

JPEG_QUALITY = 90
PACKING = 1  # level of zlib: on codes, higher ones take several times as long for some per cent
TIMED_IMAGES = 8
MIN_RUNS = 20
# Times of parts differ by a few per cent, and other programs slow stretches of runs down by more, through
# caches and shared cores. So the lower quartile counts: what a run takes where nothing disturbs it.
QUIET_SHARE = 0.25

Pixels = NDArray[np.uint8]
Calls = dict[str, Callable[[int], object]]


def measure_cuts(
    zoo: Zoo,
    name: str,
    images: Sequence[Pixels],
    *,
    every: bool = False,
    runs: int = MIN_RUNS,
    threads: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> CutTable:
    """Measure all places of a model of `zoo`: bytes on all images, times on this machine.

    Times are lower quartiles of interleaved runs; those of parts agree with one another, see
    :func:`zoo.convert.cut.part_times.agreeing`.

    Parameters
    ----------
    images
        uint8 ``[H, W, 3]``, at least 8, of the kind and size that the device will see. Ranges of the 8-bit
        codes are measured on them, for each whole tensor.
    every
        As for :func:`zoo.convert.cut.places.find_places`.
    runs
        Runs of each part, at least 20, interleaved with all others.

    Raises
    ------
    DataError, ImageError
        When there are too few images, or one is none.
    LatencyError
        When `runs` is too small.
    ModelNotFoundError, DigestError, ModelError
        When the model is not there, damaged, or does not run.
    """
    card = zoo.card(name)
    if runs < MIN_RUNS:
        raise LatencyError(f"expected at least {MIN_RUNS} runs of each part, got {runs}.")
    batches = check_images(images)
    content = prepare(read_graph(card, zoo.folder), card.resolution, name=name)
    places = find_places(content, card.resolution, name=name, every=every)
    ranges = find_ranges(content, places, batches, name=name, progress=progress)
    whole = open_session(content, name=name, threads=threads)
    timed = batches[:TIMED_IMAGES]
    calls: Calls = {"whole": lambda i: whole.run([LOGITS], {IMAGE: timed[i]})}
    pictures = {encoding: _pictures(encoding, batches, calls) for encoding in ("raw", "png", "jpeg")}
    sent = [
        _part(content, place, ranges.get(place.tensor), batches, calls, number, name, threads)
        for number, place in enumerate(places)
    ]
    times = time_interleaved(
        calls,
        range(len(timed)),
        runs=runs,
        burst=RUNS_IN_A_ROW,
        seed=seed,
        threads=threads,
        progress=progress,
    )
    ms = {key: float(np.quantile(one.kept_ms, QUIET_SHARE)) for key, one in times.items()}
    heads, tails, whole_ms = agreeing(
        [ms[f"head {number}"] for number in range(len(places))],
        [ms[f"tail {number}"] for number in range(len(places))],
        ms["whole"],
        [place.size for place in places],
    )
    return CutTable(
        schema_version=SCHEMA_VERSION,
        model=name,
        sha256=card.sha256,
        macs=card.macs,
        images=len(batches),
        classes=len(card.classes),
        whole_ms=whole_ms,
        encoded=tuple(
            Encoded(
                encoding=encoding,
                size_bytes=size,
                encode_ms=ms.get(f"encode {encoding}", 0.0),
                decode_ms=ms.get(f"decode {encoding}", 0.0),
            )
            for encoding, size in pictures.items()
        ),
        cuts=tuple(
            Cut(
                tensor=place.tensor,
                shape=place.shape,
                float_bytes=4 * place.size,
                macs_before=place.macs_before,
                head_ms=float(heads[number]),
                tail_ms=float(tails[number]),
                encoded=(
                    Encoded(encoding="8-bit", size_bytes=float(place.size)),
                    Encoded(
                        encoding="packed",
                        size_bytes=packed,
                        encode_ms=ms[f"pack {number}"],
                        decode_ms=ms[f"unpack {number}"],
                    ),
                ),
            )
            for number, (place, packed) in enumerate(zip(places, sent, strict=True))
        ),
        threads=threads,
        machine=machine(),
    )


def encode(pixels: Pixels, encoding: str) -> bytes:
    """An image uint8 ``[H, W, 3]`` as ``raw``, ``png`` or ``jpeg`` (quality 90)."""
    if encoding == "raw":
        return pixels.tobytes()
    stream = io.BytesIO()
    how = {"quality": JPEG_QUALITY} if encoding == "jpeg" else {}
    Image.fromarray(pixels).save(stream, encoding, **how)
    return stream.getvalue()


def decode(content: bytes) -> Pixels:
    """The pixels of a PNG or JPEG file that :func:`encode` made."""
    with Image.open(io.BytesIO(content)) as opened:
        return np.asarray(opened)


def _pictures(encoding: str, batches: list[NDArray[np.uint8]], calls: Calls) -> float:
    """Mean bytes of the images in one encoding; its work is added to what is timed."""
    pixels = [batch[0] for batch in batches]
    files = [encode(one, encoding) for one in pixels]
    if encoding != "raw":
        calls[f"encode {encoding}"] = lambda i: encode(pixels[i], encoding)
        calls[f"decode {encoding}"] = lambda i: decode(files[i])
    return float(np.mean([len(file) for file in files]))


def _part(
    content: bytes,
    place: Place,
    ends: Any,
    batches: list[NDArray[np.uint8]],
    calls: Calls,
    number: int,
    name: str,
    threads: int,
) -> float:
    """Mean packed bytes of the codes at a place; its parts are added to what is timed."""
    parts = split(content, place, steps=None if ends is None else ends.steps(), name=name)
    head, tail = (open_session(part, name=name, threads=threads) for part in parts)
    codes: list[NDArray[np.generic]] = []
    sizes, packed = [], []
    for batch in batches:
        found = head.run([CODES], {IMAGE: batch})[0]
        small = zlib.compress(found.tobytes(), PACKING)
        sizes.append(len(small))
        if len(codes) < TIMED_IMAGES:
            codes.append(found)
            packed.append(small)
    calls[f"head {number}"] = partial(_run, head, CODES, IMAGE, batches)
    calls[f"tail {number}"] = partial(_run, tail, LOGITS, CODES, codes)
    calls[f"pack {number}"] = lambda i: zlib.compress(codes[i].tobytes(), PACKING)
    calls[f"unpack {number}"] = lambda i: zlib.decompress(packed[i])
    return float(np.mean(sizes))


def _run(session: Any, result: str, source: str, inputs: Sequence[NDArray[Any]], index: int) -> object:
    return session.run([result], {source: inputs[index]})
