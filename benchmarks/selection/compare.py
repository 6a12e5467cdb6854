"""Ours against every peer: accuracy at equal mean time, over repeated splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.selection.mixes import Point
from benchmarks.selection.repeated import OFFSETS, Repetition
from training.data.splits import Splits

_SPLITS = Splits()
OVERLAP = _SPLITS.test / (_SPLITS.fit + _SPLITS.tune)  # test samples for each sample that choices are made on
ACCURACY_ROUNDING = 5e-4  # of an accuracy, on a thousand test images: less is rounding


@dataclass(frozen=True)
class Verdict:
    """One peer against ours; differences in accuracy are ours minus theirs at the same mean time.

    Settings of both are mixed: between two of them, accuracy and time are those of a coin that picks one for
    every input. Which are worth mixing is decided on fit and tune samples.
    """

    peer: str
    levels: int  # how many precision levels the peer reached in most repetitions
    worst: float  # the least mean difference over the levels
    worst_error: float  # its standard error
    worst_naive: float  # the same without correction for samples that repetitions share
    mean: float  # over all levels
    mean_error: float  # mean of the levels' standard errors
    mean_naive: float
    behind: int  # levels at which ours is behind by more than one standard error
    not_behind: bool  # at no level
    ahead: bool  # on average, by more than one standard error
    strength: float  # its mean accuracy at the mean times of all our levels, those it cannot reach among them


def verdicts(repetitions: Sequence[Repetition]) -> list[Verdict]:
    """One verdict for every peer but the oracle, which reads the labels of what it answers."""
    names = [name for name in repetitions[0].peers if name != "oracle"]
    return [_verdict(name, repetitions) for name in names]


def strongest(judged: Sequence[Verdict]) -> Verdict | None:
    """The peer that is most accurate at the mean times of all our levels; None where no peer reaches any.

    The least difference would name one that is compared with ours at a few cheap levels only, where single
    models answer and all methods are alike.
    """
    return max((item for item in judged if item.levels), default=None, key=lambda item: item.strength)


def at_equal_time(ours: Sequence[Point], mean_ms: float) -> float:
    """Accuracy at a mean time, on the line through neighbouring settings.

    Between two settings a coin that picks one for every input gives just that. Beyond the last setting
    nothing is gained, before the first nothing is cheaper.
    """
    points = sorted((point.mean_ms, point.accuracy) for point in ours)
    return float(np.interp(mean_ms, [time for time, _ in points], [accuracy for _, accuracy in points]))


def speedups(repetitions: Sequence[Repetition]) -> list[tuple[float, float, float, float, float]]:
    """Per offset that was aimed at above the delivered model's accuracy: offset, mean difference in accuracy
    on the test samples and its standard error, mean ratio of times and its standard error."""
    rows = []
    for i, offset in enumerate(OFFSETS):
        gains = np.array([r.at_reference[i].accuracy - r.named.accuracy for r in repetitions])
        ratios = np.array([r.named.mean_ms / r.at_reference[i].mean_ms for r in repetitions])
        rows.append((offset, float(gains.mean()), error(gains), float(ratios.mean()), error(ratios)))
    return rows


def gains(repetitions: Sequence[Repetition], share: float = 0.6) -> np.ndarray:
    """Accuracy above the delivered model's per repetition, at the highest level within `share` of its time.

    Which level that is says cross-validation on fit and tune samples, in each repetition. Nothing where some
    repetition has no such level.
    """
    found = []
    for one in repetitions:
        within = np.flatnonzero(np.array(one.expected_ms) <= share * one.named.mean_ms)
        if not len(within):
            return np.zeros(0)
        found.append(one.ours[within[-1]].accuracy - one.named.accuracy)
    return np.array(found)


def error(values: np.ndarray) -> float:
    """Standard error of a mean over repetitions that share samples.

    Test samples of two repetitions overlap, and so do those that everything was chosen on; taken for
    independent draws, they would make the error two to three times too small. Corrected after Nadeau and
    Bengio, Inference for the Generalization Error, Machine Learning 2003: the variance counts
    ``1/J + test/development`` times instead of ``1/J`` times.
    """
    if len(values) < 2:
        return float("nan")
    return float(values.std(ddof=1) * np.sqrt(1 / len(values) + OVERLAP))


def naive_error(values: np.ndarray) -> float:
    """Standard error of a mean as if repetitions were independent."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def _verdict(name: str, repetitions: Sequence[Repetition]) -> Verdict:
    differences: list[np.ndarray] = []
    for i in range(len(repetitions[0].levels)):
        pairs = [(r, r.peers[name][i]) for r in repetitions]
        met = [at_equal_time(r.settings, p.mean_ms) - p.accuracy for r, p in pairs if p is not None]
        if len(met) > len(repetitions) / 2:
            differences.append(np.array(met))
    if not differences:
        nothing = float("nan")
        no = (nothing, nothing)  # a mean or a worst level, and its error
        return Verdict(name, 0, *no, nothing, *no, nothing, 0, True, False, nothing)
    means = [float(values.mean()) for values in differences]
    errors = [error(values) for values in differences]
    worst = int(np.argmin(means))
    overall, spread = float(np.mean(means)), float(np.mean(errors))
    behind = sum(mean < -max(half, ACCURACY_ROUNDING) for mean, half in zip(means, errors, strict=True))
    return Verdict(
        peer=name,
        levels=len(differences),
        worst=means[worst],
        worst_error=errors[worst],
        worst_naive=naive_error(differences[worst]),
        mean=overall,
        mean_error=spread,
        mean_naive=float(np.mean([naive_error(values) for values in differences])),
        behind=behind,
        not_behind=not behind,
        ahead=overall > spread,
        strength=float(np.mean([_strength(r.peers[name], r.ours) for r in repetitions])),
    )


def _strength(reached: Sequence[Point | None], ours: Sequence[Point]) -> float:
    """Mean accuracy of a peer at our mean times; cheaper than all it has, it may mix in our cheapest."""
    points = [ours[0], *(point for point in reached if point is not None)]
    return float(np.mean([at_equal_time(points, point.mean_ms) for point in ours]))
