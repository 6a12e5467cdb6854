"""Everything that could be fitted to some outcomes, compared by cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.data.splits import FIT, TUNE
from training.outcomes.folds import grouped_folds
from training.outcomes.outcomes import Outcomes
from training.policies.state_scores import decision_costs_ms
from training.search.candidates import Candidate, Situation, all_candidates
from training.search.input_fit import InputFit, PixelsOf, fit_input, with_scout
from training.search.plans import part_to_compare, part_to_fit
from zoo.models.latency import LatencyTable
from zoo.models.zoo import Zoo


@dataclass(frozen=True)
class Considered:
    """Candidates and what they were compared on."""

    outcomes: Outcomes  # all that were given, with a scout's log-odds where one was trained
    situation: Situation
    input_fit: InputFit | None
    candidates: list[Candidate]


def consider(
    outcomes: Outcomes,
    zoo: Zoo,
    table: LatencyTable,
    kinds: Sequence[str],
    *,
    grid: int,
    pixels: PixelsOf | None,
    seed: int,
    step: Callable[[str], None] = lambda name: None,
) -> Considered:
    """Fit features and compare policies, on the fit and tune samples of `outcomes` alone.

    Parameters
    ----------
    kinds
        Of policies: ``input``, ``cascade``, ``probe``.
    pixels
        What features read, for a scout; without, there is none.
    step
        Called with the name of each step.
    """
    costs = table.costs_ms(zoo)
    development = part_to_fit(outcomes.split(FIT, TUNE), seed)
    compared = part_to_compare(development, seed)
    informed = "input" in kinds or "probe" in kinds
    scout = None
    if pixels is not None and informed:
        step("training a scout")
        outcomes, scout = with_scout(outcomes, compared, pixels, seed=seed)
        development = part_to_fit(outcomes.split(FIT, TUNE), seed)
        compared = part_to_compare(development, seed)
    folds = grouped_folds(compared.groups)
    situation = Situation(
        development, compared, folds, costs, *decision_costs_ms(zoo, table, len(outcomes.classes))
    )
    input_fit = None
    if informed:
        step("choosing features")
        input_fit = fit_input(
            development, compared, folds, costs, zoo, table, grid=grid, scout=scout, seed=seed
        )
    step("comparing policies")
    return Considered(outcomes, situation, input_fit, all_candidates(situation, kinds, input_fit))
