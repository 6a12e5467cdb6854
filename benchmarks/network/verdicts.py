"""What was aimed at, held against the figures of a run: one line each, with PASS or NOT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEAST_RATIO = 3.0  # of bytes and of mean time, against asking the server for every input
EQUAL_SHARE = 0.005  # of a time, within which two are equal: what deciding takes, which one way does not do
STANDARD_ERRORS = 2.0  # within which two accuracies, or two times, count as equal


@dataclass(frozen=True)
class Verdict:
    """A claim with its figures."""

    held: bool
    claim: str

    @property
    def line(self) -> str:
        """As it is printed."""
        return f"{'PASS' if self.held else 'NOT '}  {self.claim}"


def verdicts(
    rows: Sequence[Mapping[str, Any]], clock: Mapping[str, Any], *, at: str, delta: float
) -> list[Verdict]:
    """What the figures say.

    Parameters
    ----------
    rows
        Of the simulated networks.
    clock
        Of the bundle that was timed behind the network `at`.
    delta
        Test level of the certificates.

    Examples
    --------
    >>> from benchmarks.network.verdicts import verdicts
    >>> row = {"network": "4g", "gain": 0.0, "gain_se": 0.01, "bytes_ratio": 9.0, "time_ratio": 5.0}
    >>> row |= {"best_ratio": 0.9, "best_ratio_se": 0.1, "draws": 200, "issued": 150, "violated": 3}
    >>> row |= {"worst_of_200": 3}
    >>> clock = {"certified": 1.0, "bytes_ratio": 2.0, "time_ratio": 4.0, "level": 0.8}
    >>> for verdict in verdicts([row], clock, at="4g", delta=0.05):
    ...     print(verdict.line)
    PASS  4g, as right as all asked (+0.00 ± 1.00 points): 9.0 times fewer bytes, 5.0 times less time (aim 3)
    PASS  never slower than the better of all here and all asked: 0.90 ± 0.10 of its time at worst (4g)
    PASS  false certificates: 3 of 200 draws, 3 of the worst 200 (at most 5 %)
    NOT   4g, by the clock: 100 % of answers certified, 2.0 times fewer bytes, 4.0 times less time (aim 3)
    """
    row = next(row for row in rows if row["network"] == at)
    gain, error = row["gain"], row["gain_se"]
    spared = min(row["bytes_ratio"], row["time_ratio"]) >= LEAST_RATIO
    slowest = max(rows, key=lambda row: row["best_ratio"])
    draws, violated = (sum(row[name] for row in rows) for name in ("draws", "violated"))
    worst = max(row["worst_of_200"] for row in rows)
    clocked = min(clock["bytes_ratio"], clock["time_ratio"]) >= LEAST_RATIO and clock["certified"] == 1
    return [
        Verdict(
            gain >= -STANDARD_ERRORS * error and spared,
            f"{at}, as right as all asked ({100 * gain:+.2f} ± {100 * error:.2f} points): {_ratios(row)}",
        ),
        Verdict(
            slowest["best_ratio"] <= 1 + EQUAL_SHARE + STANDARD_ERRORS * slowest["best_ratio_se"],
            "never slower than the better of all here and all asked: "
            f"{slowest['best_ratio']:.2f} ± {slowest['best_ratio_se']:.2f} of its time at worst "
            f"({slowest['network']})",
        ),
        Verdict(
            violated <= delta * draws,
            f"false certificates: {violated} of {draws:,} draws, {worst} of the worst 200 "
            f"(at most {100 * delta:g} %)",
        ),
        Verdict(
            clocked,
            f"{at}, by the clock: {100 * clock['certified']:.0f} % of answers certified, {_ratios(clock)}",
        ),
    ]


def _ratios(row: Mapping[str, Any]) -> str:
    less = f"{row['time_ratio']:.1f} times less time"
    return f"{times_fewer(row['bytes_ratio'])}, {less} (aim {LEAST_RATIO:g})"


def times_fewer(ratio: float) -> str:
    """How many times fewer bytes are sent, in words.

    Examples
    --------
    >>> times_fewer(2.04), times_fewer(float("inf"))
    ('2.0 times fewer bytes', 'no bytes sent')
    """
    return f"{ratio:.1f} times fewer bytes" if ratio < float("inf") else "no bytes sent"
