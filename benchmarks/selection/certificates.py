"""Is the control variate honest, and what does it gain? Simulations at the boundary, and CIFAR-10 outcomes.

At the boundary the accuracy of the policy is the level that is asked for, so every certificate is false. The
share of draws with one must not exceed delta. Every draw deals out fit, tune and certify samples anew: the
guarantee is over all of them. Policies are chosen on fit and tune samples: by how good they look there, or by
someone who knows the truth and what the luck of the draw will do to each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta as beta_distribution
from scipy.stats import norm

from benchmarks.result import finish
from benchmarks.selection.guarantee import study
from benchmarks.selection.repeated import DELTA, Choices, deal
from benchmarks.selection.zoos import SUITES, Given
from selector.bundle.certificate import PrecisionTest
from training.certificates.control_variate import ControlVariate, Counts
from training.certificates.pvalues import binomial
from training.outcomes.outcomes import ALL_SPLITS, load_outcomes, pixels_of
from training.outcomes.parts import read_profile_record
from training.search.search import consider
from zoo.models.latency import load_table, measure, save_table

Chooser = Literal["none", "looks best", "knows the luck"]
Test = Callable[["Draw"], bool]
BELOW = 0.03  # of the best cross-validated accuracy


@dataclass(frozen=True)
class Case:
    """A population with the accuracy of every policy at the level."""

    samples: int  # certify samples; there are `ratio` times as many fit and tune samples
    ratio: float
    accuracy: float
    most: float  # share on which most models are right
    correlations: tuple[float, ...]  # of the policies with that
    chooser: Chooser


@dataclass(frozen=True)
class Draw:
    """One policy on one draw: counts of (both, policy only, most only, neither)."""

    development: NDArray[np.int64]
    certify: NDArray[np.int64]
    level: float


@dataclass(frozen=True)
class Violations:
    """How often each test issued a false certificate."""

    case: Case
    draws: int
    violated: dict[str, int]


CASES = (
    Case(100, 2, 0.85, 0.85, (0.65,), "none"),
    Case(300, 2, 0.90, 0.90, (0.0,), "none"),
    Case(300, 2, 0.90, 0.90, (0.65,), "none"),
    Case(300, 2, 0.90, 0.90, (0.9,), "none"),
    Case(300, 0.5, 0.80, 0.75, (0.65,), "none"),
    Case(1223, 2, 0.90, 0.90, (0.65,), "none"),
    Case(1223, 2, 0.95, 0.97, (0.5,), "none"),
    Case(300, 2, 0.90, 0.90, (0.65,) * 20, "looks best"),
    Case(300, 2, 0.90, 0.90, (0.0, 0.9), "knows the luck"),
    Case(1223, 2, 0.85, 0.85, (0.0, 0.9), "knows the luck"),
    Case(1223, 4, 0.85, 0.85, (0.0, 0.9), "knows the luck"),
)


def cells(case: Case, correlation: float) -> tuple[float, ...]:
    """Probabilities of (both, policy only, most only, neither)."""
    x, y = case.accuracy, case.most
    both = x * y + correlation * math.sqrt(x * (1 - x) * y * (1 - y))
    both = min(both, x, y)
    return both, x - both, y - both, 1 - x - y + both


def draw(case: Case, rng: np.random.Generator) -> Draw:
    """Fit, tune and certify samples, and the policy that was chosen on the former."""
    development = round(case.samples * case.ratio)
    most = int(rng.binomial(development, case.most))
    seen = [_given(case, cells(case, rho), most, development, rng) for rho in case.correlations]
    chosen = 0
    if case.chooser == "looks best":
        chosen = int(np.argmax([one[0] + one[1] for one in seen]))
    elif case.chooser == "knows the luck":  # luck of most models on D is what high correlations profit from
        chosen = int(np.argmax(case.correlations) if most > development * case.most else 0)
    p = cells(case, case.correlations[chosen])
    return Draw(seen[chosen], rng.multinomial(case.samples, p), case.accuracy)


def _given(
    case: Case, p: Sequence[float], most: int, development: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Counts of fit and tune samples of one policy, where most models are right on so many."""
    both = int(rng.binomial(most, p[0] / case.most))
    alone = int(rng.binomial(development - most, p[1] / (1 - case.most)))
    return np.array([both, alone, most - both, development - most - alone])


def exact_binomial(drawn: Draw) -> bool:
    """What is proven given fit and tune samples, too."""
    both, policy = map(int, drawn.certify[:2])
    return binomial(both + policy, int(drawn.certify.sum()), drawn.level) <= DELTA


def control_variate(drawn: Draw) -> bool:
    """The test of :mod:`training.certificates.control_variate`."""
    n, m = int(drawn.certify.sum()), int(drawn.development.sum())
    test = ControlVariate(
        samples=n, development=m, most_right=int(drawn.development[[0, 2]].sum()), delta=DELTA
    )
    policy = np.repeat([True, True, False, False], drawn.development)
    most = np.repeat([True, False, True, False], drawn.development)
    counts = Counts(*map(int, drawn.certify))
    return test.p_value(counts, drawn.level, test.beta(policy, most)) <= DELTA


def normal_control_variate(drawn: Draw) -> bool:
    """The tempting one: the best slope on both draws, and a normal curve. It proves too much."""
    n, m = int(drawn.certify.sum()), int(drawn.development.sum())
    x, y, both = (float(drawn.certify[rows].sum()) / n for rows in ([0, 1], [0, 2], [0]))
    y_before = float(drawn.development[[0, 2]].sum()) / m
    x_variance, y_variance, shared = x * (1 - x), y * (1 - y), both - x * y
    slope = shared / y_variance * m / (m + n) if y_variance > 0 else 0.0
    variance = (x_variance - 2 * slope * shared + slope**2 * y_variance) / n + slope**2 * y_variance / m
    ahead = x - drawn.level - slope * (y - y_before)
    return bool(ahead > norm.isf(DELTA) * math.sqrt(max(variance, 0))) if ahead > 0 else False


TESTS: dict[str, Test] = {
    "exact binomial": exact_binomial,
    "control variate": control_variate,
    "normal": normal_control_variate,
}


def violations(case: Case, *, draws: int, seed: int = 0) -> Violations:
    """How often each test rejects, though the accuracy is only just at the level."""
    rng = np.random.default_rng([seed, CASES.index(case) if case in CASES else len(CASES)])
    violated = dict.fromkeys(TESTS, 0)
    for _ in range(draws):
        drawn = draw(case, rng)
        for name, test in TESTS.items():
            violated[name] += test(drawn)
    return Violations(case, draws, violated)


def interval(count: int, total: int) -> tuple[float, float]:
    """Clopper-Pearson interval of a share, at 95 %."""
    low = 0.0 if count == 0 else float(beta_distribution.ppf(0.025, count, total - count + 1))
    return low, 1.0 if count == total else float(beta_distribution.ppf(0.975, count + 1, total - count))


def run_certificates(
    given: Given, *, draws: int, splits: int, latency: Path | None = None, results: Path = Path("results")
) -> dict[str, Any]:
    """False certificates at the boundary, then draws that certify on CIFAR-10 outcomes."""
    rows = []
    print(f"share of {draws:,} draws with a false certificate (95 % interval); allowed: {DELTA}")
    for case in CASES:
        found = violations(case, draws=draws, seed=given.seed)
        rows.append(asdict(found))
        shares = "; ".join(
            f"{name} {count / draws:.4f} ({interval(count, draws)[0]:.4f} to {interval(count, draws)[1]:.4f})"
            for name, count in found.violated.items()
        )
        print(
            f"n = {case.samples}, m = {round(case.samples * case.ratio)}, level {case.accuracy}, most right "
            f"{case.most}, correlation {', '.join(map(str, sorted(set(case.correlations))))} of "
            f"{len(case.correlations)}, chosen: {case.chooser}: {shares}",
            flush=True,
        )
    power = _power(given, splits, latency) if splits else []
    return finish("certificates", {"violations": rows, "power": power}, seed=given.seed, folder=results)


def _power(given: Given, splits: int, latency: Path | None) -> list[dict[str, Any]]:
    prepared = SUITES["cifar10"](given)
    if latency is not None and latency.is_file():
        table = load_table(latency)
    else:
        images = [prepared.data.image(i) for i in range(16)]
        table = measure(prepared.zoo, images, device="this-machine", runs=200, seed=given.seed)
        if latency is not None:
            save_table(table, latency)
    rows = []
    for seed in range(given.seed, given.seed + splits):
        outcomes = deal(load_outcomes(prepared.profile, zoo=prepared.zoo, splits=ALL_SPLITS), seed)
        considered = consider(
            outcomes,
            prepared.zoo,
            table,
            ("cascade", "probe", "input"),
            grid=read_profile_record(prepared.profile).grid,
            pixels=lambda ids: pixels_of(prepared.profile, ids),
            seed=seed,
        )
        costs = table.costs_ms(prepared.zoo)
        choices = Choices(considered.candidates, considered.situation.outcomes, costs)
        for test in get_args(PrecisionTest):
            for row in study(
                choices,
                considered.outcomes,
                seed=seed,
                test=test,
                below_best=(BELOW,),
                only_usual=True,
            ):
                rows.append({"split": seed, "test": test, **asdict(row)})
                print(
                    f"split {seed}, {test}: precision {row.precision}, {row.samples:,} samples: certified in "
                    f"{row.certified} of {row.draws} draws, {row.violated} of {row.certified} violated; "
                    f"{row.mean_ms:.3f} ms where failing counts as the reference, price {row.price:.2f}",
                    flush=True,
                )
    for test in get_args(PrecisionTest):
        of = [row for row in rows if row["test"] == test]
        print(
            f"{test}: {sum(r['certified'] for r in of) / sum(r['draws'] for r in of):.3f} of draws certify; "
            f"{np.mean([r['mean_ms'] for r in of]):.3f} ms"
        )
    return rows
