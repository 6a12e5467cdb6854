"""Sounds made by formulas with random parameters: twelve classes, some of which are told apart late."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from training.data.images import ListedInputs
from zoo.inputs.signal import Signal

RATE = 8000  # samples a second
SAMPLES = 4096  # of a sound
_FORMANTS = {
    "a": (730, 1090, 2440),
    "i": (270, 2290, 3010),
    "u": (300, 870, 2240),
}  # Peterson and Barney 1952

Sound = NDArray[np.float64]


def sounds(count: int = 2400, *, seed: int = 0) -> ListedInputs:
    """Sounds of half a second, as many of each class, at a random loudness.

    Parameters
    ----------
    count
        Number of sounds.

    Examples
    --------
    >>> from benchmarks.selection.signals.sounds import sounds
    >>> sounds(24).image(0).shape
    (4096,)
    """
    rng = np.random.default_rng(seed)
    classes = tuple(_CLASSES)
    labels = [i % len(classes) for i in range(count)]
    items = []
    for label in labels:
        sound = _CLASSES[classes[label]](rng)
        sound = sound / max(float(np.abs(sound).max()), 1e-9) * rng.uniform(0.1, 0.8)
        sound += rng.normal(0, 0.004, SAMPLES)  # of a microphone
        items.append((sound.clip(-1, 1) * 32767).astype(np.int16))
    ids = [f"{classes[label]}-{i:05d}" for i, label in enumerate(labels)]
    return ListedInputs(Signal("int16", RATE), items, classes, ids, labels)


def _time() -> Sound:
    return np.arange(SAMPLES) / RATE


def _sweep(rng: np.random.Generator, *, up: bool) -> Sound:
    """A tone that rises or falls by up to an octave, from a random moment on."""
    low = rng.uniform(200, 1200)
    high = low * 2 ** rng.uniform(0.15, 1.0)
    start = rng.uniform(0, 0.5)
    way = ((_time() / _time()[-1] - start) / (1 - start)).clip(0, 1)
    pitch = low + (high - low) * (way if up else 1 - way)
    return np.sin(2 * np.pi * np.cumsum(pitch) / RATE)


def _chord(rng: np.random.Generator, steps: tuple[int, ...]) -> Sound:
    """Tones with two overtones, struck together."""
    root = rng.uniform(110, 440)
    sound = np.zeros(SAMPLES)
    for step in steps:
        for overtone in (1, 2, 3):
            pitch = root * 2 ** (step / 12) * overtone
            sound += np.sin(2 * np.pi * pitch * _time() + rng.uniform(0, 6.3)) / overtone**1.5
    return sound * np.exp(-_time() * rng.uniform(1, 6))


def _noise(rng: np.random.Generator, colour: float) -> Sound:
    """Noise whose power falls with the frequency to the power `colour`."""
    spectrum = np.fft.rfft(rng.normal(size=SAMPLES))
    spectrum /= np.maximum(np.fft.rfftfreq(SAMPLES, 1 / RATE), 20) ** (colour / 2)
    return np.fft.irfft(spectrum, SAMPLES)


def _modulated(rng: np.random.Generator, *, frequency: bool) -> Sound:
    """A tone whose pitch or loudness swings."""
    carrier, swing = rng.uniform(300, 1500), rng.uniform(4, 25)
    wave = np.sin(2 * np.pi * swing * _time() + rng.uniform(0, 6.3))
    if frequency:
        return np.sin(2 * np.pi * np.cumsum(carrier * (1 + rng.uniform(0.03, 0.2) * wave)) / RATE)
    return np.sin(2 * np.pi * carrier * _time()) * (1 + rng.uniform(0.4, 1.0) * wave)


def _drum(rng: np.random.Generator) -> Sound:
    """Strokes of falling pitch with a click of noise."""
    sound = np.zeros(SAMPLES)
    for start in np.arange(rng.uniform(0, 0.2), 0.5, rng.uniform(0.1, 0.3)):
        time = np.maximum(_time() - start, 0)
        stroke = np.sin(2 * np.pi * (rng.uniform(60, 120) * time + 8 * (1 - np.exp(-time * 30))))
        stroke += rng.uniform(0.1, 0.6) * rng.normal(size=SAMPLES) * np.exp(-time * 90)
        sound += stroke * np.exp(-time * rng.uniform(15, 40)) * (_time() >= start)
    return sound


def _vowel(rng: np.random.Generator, name: str) -> Sound:
    """A voice: pulses of a pitch through three resonances, of speakers of different size."""
    pitch = rng.uniform(80, 260) * (1 + 0.03 * np.sin(2 * np.pi * 5 * _time()))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    size = rng.uniform(0.85, 1.2)
    sound = np.zeros(SAMPLES)
    for overtone in range(1, int(3800 / 80)):
        heard = pitch * overtone
        loud = sum(1 / (1 + ((heard - f * size) / (60 + 0.06 * f)) ** 2) for f in _FORMANTS[name])
        sound += np.where(heard < 3800, loud, 0) * np.sin(overtone * phase)
    return sound


_CLASSES: dict[str, Callable[[np.random.Generator], Sound]] = {
    "rising": lambda rng: _sweep(rng, up=True),
    "falling": lambda rng: _sweep(rng, up=False),
    "major": lambda rng: _chord(rng, (0, 4, 7)),
    "minor": lambda rng: _chord(rng, (0, 3, 7)),
    "white-noise": lambda rng: _noise(rng, rng.uniform(0, 0.5)),
    "pink-noise": lambda rng: _noise(rng, rng.uniform(0.7, 1.5)),
    "vibrato": lambda rng: _modulated(rng, frequency=True),
    "tremolo": lambda rng: _modulated(rng, frequency=False),
    "drum": _drum,
    "vowel-a": lambda rng: _vowel(rng, "a"),
    "vowel-i": lambda rng: _vowel(rng, "i"),
    "vowel-u": lambda rng: _vowel(rng, "u"),
}
