"""Signals as a kind of input: one-dimensional, of any length; bytes of files, sound, readings of sensors."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError
from zoo.inputs.image_files import ending, is_hidden
from zoo.inputs.kind import GraphInput, InputKind, Size, register, type_name
from zoo.inputs.signal_files import MAX_SAMPLES, Samples, read_bytes, read_samples

SampleType = Literal["uint8", "int16", "float32"]
MAX_RATE = 10_000_000
_SUFFIXES = (".npy", ".wav")
_MADE_LENGTHS = (1, 97, 65_536)


@register
@dataclass(frozen=True)
class Signal(InputKind):
    """Signals: ``signal`` ``[N, L]``, any L from 1 to 64 Mi samples.

    Parameters
    ----------
    type
        ``uint8`` for bytes, where any file is an input; ``int16`` or ``float32`` for sound and sensors, from
        ``.wav`` and ``.npy`` files. Samples of ``float32`` sound lie between -1 and 1.
    rate
        Samples a second; None where it does not matter or is not known. Files of another rate are refused.

    Examples
    --------
    >>> from zoo.inputs.signal import Signal
    >>> Signal().one(b"#!/bin/sh").shape
    (1, 9)
    """

    name: ClassVar[str] = "signal"
    noun: ClassVar[str] = "signal"
    default_size: ClassVar[Size] = (1, 4096)

    type: SampleType = "uint8"
    rate: int | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and not 1 <= self.rate <= MAX_RATE:
            raise ValueError(f"rate: expected 1 to {MAX_RATE:,} samples a second, got {self.rate}")

    @property
    def formats(self) -> str:  # type: ignore[override]
        """Of files, in words."""
        return "any file" if self.is_bytes else ", ".join(_SUFFIXES)

    @property
    def is_bytes(self) -> bool:
        """Whether any file is an input."""
        return self.type == "uint8"

    @property
    def inputs(self) -> tuple[GraphInput, ...]:
        """``signal`` ``[N, L]``."""
        return (GraphInput("signal", self.type, ("N", "L")),)

    def feeds(self, batch: Samples) -> dict[str, NDArray[Any]]:
        """The batch under its name."""
        return {"signal": batch}

    def item(self, given: Any) -> Samples:
        """One signal ``[L]``: an array of this type, bytes, or the path of a file."""
        if isinstance(given, np.ndarray) and given.dtype == self.type and given.ndim == 1:
            return self._checked(given)
        if isinstance(given, bytes | bytearray | memoryview):
            if not self.is_bytes:
                raise InputError(
                    f"expected a signal {self.type} [L], got {len(given)} bytes. "
                    f"Say what they hold: numpy.frombuffer(content, '{self.type}')."
                )
            if isinstance(given, memoryview) and not given.c_contiguous:
                given = given.tobytes()
            return self._checked(np.frombuffer(given, np.uint8))
        if isinstance(given, str | os.PathLike):
            return self.load(os.fspath(given))
        raise self._none(given, "[L]")

    def batch(self, given: Any) -> Samples:
        """Signals of one length ``[N, L]``."""
        if isinstance(given, np.ndarray) and given.dtype == self.type and given.ndim == 2 and len(given):
            self._checked(given[0])
            if self.type == "float32" and not np.isfinite(given).all():
                raise _not_finite()
            return given
        raise self._none(given, "[N, L]")

    def is_file_name(self, name: str) -> bool:
        """Any file for bytes; else ``.wav`` and ``.npy``."""
        return not is_hidden(name) and (self.is_bytes or ending(name) in _SUFFIXES)

    def load(self, path: str | Path) -> Samples:
        """The samples of a file."""
        try:
            found = read_bytes(path) if self.is_bytes else read_samples(path, self.type, self.rate)
            return self._checked(found)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be read as a signal: {error.strerror or error}.") from error

    def size(self, item: Samples) -> Size:
        """1 and the length."""
        return 1, len(item)

    def shortened(self, item: Samples, ends: tuple[int, int]) -> Samples:
        """The first and the last samples of a signal that is longer."""
        first, last = ends
        if len(item) <= first + last:
            return item
        return np.concatenate([item[:first], item[len(item) - last :]])

    def random(self, size: Size, rng: np.random.Generator) -> Samples:
        """Noise; for bytes, all values alike often."""
        length = size[0] * size[1]
        if self.is_bytes:
            return rng.integers(0, 256, length, dtype=np.uint8)
        noise = rng.normal(0, 0.2, length).clip(-1, 1)
        return (noise * 32767).astype(np.int16) if self.type == "int16" else noise.astype(np.float32)

    def reference(self, size: Size) -> Samples:
        """A slow triangle under a fine, repeatable texture."""
        x = np.arange(size[0] * size[1], dtype=np.uint32)
        mixed = x * np.uint32(2654435761)  # wraps at 2**32
        mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(3266489917)
        triangle = np.abs((x % np.uint32(512)).astype(np.int64) - 256) * 3 // 4
        values = triangle + (mixed >> np.uint32(26)).astype(np.int64)  # 0 to 255
        if self.is_bytes:
            return values.astype(np.uint8)
        centred = (values - 128) * 128
        return centred.astype(np.int16) if self.type == "int16" else (centred / 32768).astype(np.float32)

    def made(self) -> list[Samples]:
        """Signals of several lengths."""
        return super().made() + [self.reference((1, length)) for length in _MADE_LENGTHS]

    def _checked(self, samples: Samples) -> Samples:
        if not samples.size:
            raise InputError("expected at least one sample, got an empty signal.")
        if samples.size > MAX_SAMPLES:
            raise InputError(
                f"expected at most {MAX_SAMPLES:,} samples, got {samples.size:,}. Give a part of them."
            )
        if self.type == "float32" and not np.isfinite(samples).all():
            raise _not_finite()
        return samples

    def _none(self, given: Any, shape: str) -> InputError:
        return InputError(
            f"expected a signal {self.type} {shape}, got {type_name(given)}. {self._advice(given, shape)}"
        )

    def _advice(self, given: Any, shape: str) -> str:
        if not isinstance(given, np.ndarray):
            what = "bytes, an array or" if self.is_bytes else "an array or"
            return f"Give {what} the path of a file ({self.formats})."
        if given.dtype != self.type:
            if self.is_bytes:
                return "Bytes are uint8: give the content of the file."
            if given.dtype.kind == "f" and self.type == "int16":
                return "For samples from -1 to 1: (signal * 32767).round().astype('int16')."
            if given.dtype == np.int16:
                return "Scale it: (signal / 32768).astype('float32')."
            return f"Convert it: signal.astype('{self.type}')."
        if given.ndim == 2 and shape == "[L]":
            return "Take one channel, or their mean: signal[:, 0]. A batch goes to predict_batch."
        return "One signal has 1 axis (predict, select), a batch has 2 (predict_batch, select_batch)."


def _not_finite() -> InputError:
    return InputError(
        "expected finite samples, got NaN or infinity. Repair them, such as with numpy.nan_to_num."
    )
