"""Real answers: our bundles at several precisions beside the delivered model, in one interleaved run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.selection.zoos import Given, Prepared
from training.data.splits import FIT, TEST, TUNE
from training.evaluation.evaluate import evaluate_outcomes, our_name, simulate_at
from training.evaluation.records import Evaluation, MethodRow
from training.evaluation.rows import timed_row
from training.evaluation.wallclock import Timed, time_bundle
from training.fitting.export import export_bundle
from training.fitting.fit import fit_outcomes
from training.fitting.fitted import Fitted
from training.fitting.options import FitOptions
from training.outcomes.outcomes import Outcomes, pixels_of
from training.outcomes.parts import read_profile_record
from zoo.models.latency import LatencyTable

# Below the delivered model's accuracy: precisions to certify and time.
PRECISION_DROPS = (0.03, 0.02, 0.01, 0.0)
# the same below what the best model for each environment would reach, where that is far more
BELOW_BEST = (0.06, 0.04, 0.02)
MAX_ACCURACY_DISAGREEMENT = 0.04
MAX_TIME_DISAGREEMENT = 0.15  # simulated and wall-clock times are to agree this well, or the report says why


@dataclass(frozen=True)
class TimedAnswers:
    """Our bundle at one constraint, answered for real beside the delivered model."""

    fitted: Fitted
    ours: Timed
    reference: Timed
    simulated_ms: float  # mean time of ours from the latency table
    evaluation: Evaluation  # all times from the latency table, as those of peers are

    @property
    def row(self) -> MethodRow:
        """Our row with the times of real answers."""
        return timed_row(self.ours, "ours", self.fitted.record.bundle.default.level)

    @property
    def over_simulated(self) -> float:
        """Wall-clock mean time over the simulated one."""
        return self.ours.latency.mean_ms / self.simulated_ms

    @property
    def over_simulated_error(self) -> float:
        """Its standard error over the answers."""
        return ratio_error(self.ours.all_times_ms, np.array([self.simulated_ms]))

    @property
    def speedup(self) -> tuple[float, float]:
        """The reference model's mean time over ours, and its standard error over the answers."""
        ratio = self.reference.latency.mean_ms / self.ours.latency.mean_ms
        return ratio, ratio_error(self.reference.all_times_ms, self.ours.all_times_ms)

    @property
    def gain(self) -> tuple[float, float]:
        """Our accuracy less the reference model's on the same images, and its standard error."""
        lead = self.ours.right.astype(np.float64) - self.reference.right
        return float(lead.mean()), float(lead.std() / np.sqrt(len(lead)))

    @property
    def drift(self) -> float:
        """What the machine takes for the reference model in this run, over what the table says."""
        table = self.fitted.record.bundle.costs_ms().models
        return self.reference.latency.typical_ms / table[self.reference.name]

    @property
    def explained(self) -> str:
        """The ratio at the speed that the machine had for the table, and how fast it is now."""
        ratio, doubt = (value / self.drift for value in (self.over_simulated, self.over_simulated_error))
        text = (
            f"{self.ours.name}: {ratio:.2f} ± {doubt:.2f} (the reference model alone took {self.drift:.2f} "
            "times as long as in the table"
        )
        if abs(ratio - 1) <= MAX_TIME_DISAGREEMENT:
            return text + ")"
        beyond_us = (ratio - 1) * self.simulated_ms * 1e3
        return (
            f"{text}; {beyond_us:.0f} µs an answer outside of what was measured, beside "
            f"{self.simulated_ms * 1e3:.0f} µs)"
        )


def ratio_error(times: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Standard error of the ratio of two mean times, of answers ``[n]`` and ``[m]``.

    Examples
    --------
    >>> import numpy as np
    >>> ratio_error(np.array([2.0, 2.0]), np.array([1.0, 1.0]))
    0.0
    """
    relative = sum(values.var() / len(values) / values.mean() ** 2 for values in (times, others))
    return float(times.mean() / others.mean() * np.sqrt(relative))


def precisions(development: Outcomes, reference: str) -> list[float]:
    """Precisions to ask for: about the delivered model's accuracy, and what specialists far better reach."""
    known = development.accuracy()[reference]
    environments = development.environments
    best = sum(
        max(development.environment(name).accuracy().values()) * float((environments == name).mean())
        for name in dict.fromkeys(environments.tolist())
    )
    asked = [known - gap for gap in PRECISION_DROPS]
    if best > known + MAX_ACCURACY_DISAGREEMENT:
        asked += [best - gap for gap in BELOW_BEST]
    return sorted({min(round(level, 2), 0.99) for level in asked})


def answer(
    suite: str,
    prepared: Prepared,
    outcomes: Outcomes,
    latency: LatencyTable,
    given: Given,
    *,
    rounds: int,
) -> list[TimedAnswers]:
    """Fit, export, load and time a bundle for each precision; prints a line for each.

    Parameters
    ----------
    rounds
        How often each test image is answered.
    """
    asked = precisions(outcomes.split(FIT, TUNE), prepared.reference)
    place = {name: i for i, name in enumerate(prepared.data.ids)}
    test = prepared.data.subset(np.array([place[name] for name in outcomes.split(TEST).ids.tolist()]))
    record = read_profile_record(prepared.profile)
    pixels = partial(pixels_of, prepared.profile)
    done: list[TimedAnswers] = []
    for precision in asked:
        options = FitOptions(precision=precision, seed=given.seed)
        fitted = fit_outcomes(
            outcomes,
            prepared.zoo,
            latency,
            options,
            grid=record.grid,
            data_sha256=record.data_sha256,
            inputs_sha256="0" * 64,
            pixels=pixels,
            searches=given.work / "searches" / suite,
        )
        label = our_name(options.constraint)
        folder = given.work / "bundles" / suite / f"{options.constraint.level:g}"
        export_bundle(fitted, prepared.zoo, folder)
        ours, reference = time_bundle(
            folder,
            options.constraint,
            test,
            name=label,
            singles=[prepared.reference],
            rounds=rounds,
            seed=given.seed,
        )
        tested = fitted.informed(outcomes.split(TEST), pixels)
        simulated = simulate_at(fitted, tested, options.constraint)
        evaluation = evaluate_outcomes(fitted, tested, our_row=label, latency=latency)
        done.append(TimedAnswers(fitted, ours, reference, simulated.mean_ms, evaluation))
        print(
            f"{label}: {'certified' if ours.certified else 'not certified'}, "
            f"{fitted.record.comparisons[0].label}, {' → '.join(fitted.policy.models)}, "
            f"{ours.accuracy:.4f} at {ours.latency.mean_ms:.4f} ms; {prepared.reference} "
            f"{reference.accuracy:.4f} at {reference.latency.mean_ms:.4f} ms"
        )
    return done
