"""Does the guarantee hold, and what does it cost? Many draws of certify samples for one fitted policy.

The samples that no choice was made on (certify and test together) are taken for the whole world: what is true
of a threshold is then known exactly, and certify samples drawn from them with replacement are independent
draws, as the theorem wants. A certificate is violated when the threshold's accuracy in that world is below
the precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.stats import binom

from benchmarks.selection.repeated import DELTA, Choices
from selector.bundle.certificate import PrecisionTest
from selector.policies.constraint import Constraint
from training.certificates.aim import share_of_margin
from training.certificates.certify import Certified, Tests
from training.certificates.control_variate import Control
from training.data.splits import CERTIFY, FIT, TEST, TUNE
from training.outcomes.outcomes import Outcomes
from training.policies.base import FittedPolicy
from training.policies.frontier import Simulated

# Below the best cross-validated accuracy: the precisions that are asked for.
BELOW_BEST = (0.02, 0.03, 0.04, 0.06)
DRAWS = 200


@dataclass(frozen=True)
class Guarantee:
    """What became of the certificates for one precision on so many samples."""

    precision: float
    below_best: float  # by how much it lies below the policy's best accuracy in the world of samples
    samples: int
    draws: int
    certified: int  # draws with a certificate
    violated: int  # certificates that are not true
    below_on_test: int  # random halves: certified on one half, accuracy on the other half below the precision
    # mean time over that of the cheapest threshold that is truly good enough; a draw without a certificate
    # counts as the dearest model, as nothing else would be sure to be right as often
    price: float
    # the same if only one threshold were tested, the best one for that, known in hindsight: what the number
    # of samples leaves possible
    floor: float
    mean_ms: float = 0.0  # of all draws, where one without a certificate counts as the reference model


def study(
    choices: Choices,
    outcomes: Outcomes,
    *,
    seed: int = 0,
    test: PrecisionTest = "binomial",
    below_best: Sequence[float] | None = None,
    only_usual: bool = False,
    draws: int = DRAWS,
) -> list[Guarantee]:
    """One row for every precision and number of certify samples.

    Parameters
    ----------
    test
        The draws are of certify samples alone: what they show of the control variate is given one draw of fit
        and tune samples.
    below_best
        Below the best cross-validated accuracy: the precisions that are asked for.
    only_usual
        With the usual number of certify samples only.
    draws
        Of certify samples, for each row.
    """
    development, world = outcomes.split(FIT, TUNE), outcomes.split(CERTIFY, TEST)
    best = max(point.accuracy for candidate in choices.candidates for point in candidate.frontier)
    usual = len(outcomes.split(CERTIFY))
    share = share_of_margin(test, development=len(development), certify=usual)
    sizes = [usual // 4, usual // 2, usual, 2 * usual, 4 * usual, 8 * usual]
    steps = [usual] if only_usual else [size for size in sizes if size >= 50]
    dearest = _dearest_ms(choices)
    rows = []
    for below in below_best or BELOW_BEST:
        level = round(best - below, 3)
        candidate, _ = choices.choice(level, round(usual / share**2))  # a margin goes with the root
        policy = choices.policy(candidate)
        worth = policy.worth_certifying(development)
        frontier = policy.frontier(world, [point.threshold for point in worth])
        right = world.right[:, world.models.index(choices.reference)]
        fallback = choices.fallback_ms
        control = partial(_control, development.right, [point.right for point in worth], world.right)
        for size in steps:
            used = None if test == "binomial" else control
            seen = _row(policy, frontier, right, level, size, usual, fallback, dearest, used, seed, draws)
            rows.append(seen)
    return rows


def _row(
    policy: FittedPolicy,
    frontier: Sequence[Simulated],
    reference: np.ndarray,
    level: float,
    size: int,
    usual: int,
    fallback_ms: float,
    dearest_ms: float,
    control: Callable[[np.ndarray], Control] | None,
    seed: int,
    draws: int,
) -> Guarantee:
    rng = np.random.default_rng([seed, size, round(level * 1000)])
    top_ms = max(policy.possible_costs_ms())
    asked = Constraint(kind="precision", level=level)
    truth = {point.threshold: point for point in frontier}
    enough = [point.mean_ms for point in frontier if point.accuracy >= level]
    hindsight = min(enough, default=dearest_ms)
    certified = violated = below = 0
    times = []

    def certify(rows: np.ndarray) -> Certified | None:
        used = None if control is None else control(rows)
        tests = Tests(
            _rows(frontier, rows),
            reference=reference[rows],
            top_ms=top_ms,
            control=used,
        )
        return tests.certify(asked, delta=DELTA)

    for _ in range(draws):
        found = certify(rng.integers(0, len(reference), size))
        if found is None:
            continue
        certified += 1
        point = truth[found.threshold]
        violated += point.accuracy < level
        times.append(point.mean_ms)
    if size == usual:
        for _ in range(draws):
            mixed = rng.permutation(len(reference))
            half, other = mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]
            found = certify(half)
            below += found is not None and float(truth[found.threshold].right[other].mean()) < level
    return Guarantee(
        precision=level,
        below_best=max(point.accuracy for point in frontier) - level,
        samples=size,
        draws=draws,
        certified=certified,
        violated=violated,
        below_on_test=below,
        price=float(np.mean([*times, *[dearest_ms] * (draws - certified)])) / hindsight,
        floor=_one_test(frontier, level, size, dearest_ms) / hindsight,
        mean_ms=float(np.mean([*times, *[fallback_ms] * (draws - certified)])),
    )


def _control(
    development: np.ndarray, policies: Sequence[np.ndarray], world: np.ndarray, drawn: np.ndarray
) -> Control:
    return Control.of(development, policies, development, world[drawn], delta=DELTA)


def _dearest_ms(choices: Choices) -> float:
    """Mean time of the dearest model alone."""
    alone = [candidate for candidate in choices.candidates if len(candidate.models) == 1]
    return max([choices.fallback_ms, *(point.mean_ms for one in alone for point in one.frontier)])


def _one_test(frontier: Sequence[Simulated], level: float, size: int, fallback_ms: float) -> float:
    """Expected mean time when the best single threshold is tested, by an exact binomial test."""
    least = binom.isf(DELTA, size, level)  # right answers that are not yet enough
    chances = [float(binom.sf(least, size, point.accuracy)) for point in frontier]
    return min(
        chance * point.mean_ms + (1 - chance) * fallback_ms
        for chance, point in zip(chances, frontier, strict=True)
    )


def _rows(frontier: Sequence[Simulated], rows: np.ndarray) -> list[Simulated]:
    return [
        replace(
            point,
            answered_by=point.answered_by[rows],
            right=point.right[rows],
            cost_ms=point.cost_ms[rows],
        )
        for point in frontier
    ]
