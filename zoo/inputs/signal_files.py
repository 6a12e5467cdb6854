"""Samples of signals from files: bytes of any file, ``.wav`` and ``.npy``."""

from __future__ import annotations

import os
import wave
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError
from zoo.files import open_file
from zoo.inputs.numpy_files import read_npy

Samples: TypeAlias = NDArray[Any]  # uint8, int16 or float32 [L]

MAX_SAMPLES = 2**26  # of a signal
_WAVE_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("u1"),
    2: np.dtype("<i2"),
    4: np.dtype("<i4"),
}  # bytes a sample → type


def read_bytes(path: str | Path) -> Samples:
    """The content of a file, uint8 ``[L]``; raises :class:`InputError` where it is too large."""
    with open_file(path) as stream:
        size = os.fstat(stream.fileno()).st_size  # memory for all that may come would take longer
        if size > MAX_SAMPLES:
            raise InputError(f"expected at most {MAX_SAMPLES:,} bytes, got more. Give the part that matters.")
        content = stream.read(size)
    return np.frombuffer(content, np.uint8)


def read_samples(path: str | Path, kind: str, rate: int | None) -> Samples:
    """The samples of a ``.wav`` or ``.npy`` file, of the type `kind`; several channels are averaged.

    Parameters
    ----------
    rate
        Samples a second that a ``.wav`` file has to have; None: any. ``.npy`` files do not say theirs.

    Raises
    ------
    InputError
        When it is another file, of another rate, or too large.
    OSError
        When it cannot be read.
    """
    if Path(path).suffix.lower() == ".npy":
        return _read_npy(path, kind)
    with open_file(path) as stream:
        try:
            with wave.open(stream, "rb") as opened:
                found = opened.getparams()
                if rate is not None and found.framerate != rate:
                    raise InputError(
                        f"expected {rate:,} samples a second, got {found.framerate:,}. Resample the file."
                    )
                if found.sampwidth not in (1, 2, 3, 4) or not 1 <= found.nchannels <= 64:
                    raise InputError("expected a .wav file with samples of 8 to 32 bits, got another one.")
                content = opened.readframes(min(found.nframes, MAX_SAMPLES // found.nchannels + 1))
        except (wave.Error, EOFError) as error:
            raise InputError(
                f"expected a .wav file with whole numbers (PCM), got: {str(error) or 'its end too early'}."
            ) from error
    held = len(content) // (found.sampwidth * found.nchannels)
    if held * found.nchannels > MAX_SAMPLES:
        raise InputError(
            f"expected at most {MAX_SAMPLES:,} samples, got {found.nframes:,}. Give a part of them."
        )
    if held < found.nframes:
        raise InputError(
            f"expected {found.nframes:,} samples, as the head of the file says, got {held:,}: it was cut "
            "off, or written to a pipe. Write it again."
        )
    return _as_type(_from_wave(content, found.sampwidth).reshape(-1, found.nchannels).mean(axis=1), kind)


def _from_wave(content: bytes, width: int) -> NDArray[np.float64]:
    """Samples of PCM between -1 and 1."""
    if width == 3:
        parts = np.frombuffer(content[: len(content) // 3 * 3], np.uint8).reshape(-1, 3).astype(np.int32)
        whole = (parts[:, 0] << 8 | parts[:, 1] << 16 | parts[:, 2] << 24) >> 8
        return whole / float(2**23)
    numbers = np.frombuffer(content[: len(content) // width * width], _WAVE_TYPES[width]).astype(np.float64)
    real: NDArray[np.float64] = (numbers - 128) / 128 if width == 1 else numbers / 2.0 ** (8 * width - 1)
    return real


def _as_type(real: NDArray[np.float64], kind: str) -> Samples:
    if kind == "int16":
        return np.rint(real * 32768).clip(-32768, 32767).astype(np.int16)
    return real.astype(np.float32)


def _read_npy(path: str | Path, kind: str) -> Samples:
    most = 8 * MAX_SAMPLES
    with open_file(path) as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise InputError(f"expected at most {MAX_SAMPLES:,} samples, got a larger file. Give a part of it.")
    found = read_npy(content)
    if found.dtype != kind or found.ndim != 1:
        raise InputError(f"expected an array {kind} [L], got {found.dtype} {list(found.shape)}. Convert it.")
    return found
