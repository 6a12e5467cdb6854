"""Search for policies on a table of outcomes, which needs no zoo and no latency table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from selector.routing.record import GivenFeature, ScoreScale, given_columns
from training.data.splits import FIT, TUNE
from training.outcomes.folds import grouped_folds
from training.outcomes.table_outcomes import TableOutcomes
from training.outcomes.table_profile import TableFeature
from training.routing.estimates import fit_estimates, with_estimates
from training.routing.scales import given_features, scaled, score_scales
from training.search.candidates import Candidate, Situation, all_candidates
from training.search.input_fit import InputFit
from training.search.plans import part_to_compare, part_to_fit
from zoo.errors import DataError

_LEAST_SHARE = 1e-9  # of the dearest cost: what costs nothing is charged this, so that costs have ratios


@dataclass(frozen=True)
class TableSearch:
    """Candidates for a table, and how its outcomes look to them."""

    outcomes: TableOutcomes  # all that were given, as a router sees them
    rounded: TableOutcomes  # the same with answers that are right or wrong, for choices
    costs: Mapping[str, float]  # expected, of every model
    scales: Mapping[str, ScoreScale | None]
    given: tuple[GivenFeature, ...]
    situation: Situation
    input_fit: InputFit | None
    candidates: list[Candidate]

    @property
    def columns(self) -> tuple[str, ...]:
        """Features as a router is given them, gaps filled."""
        return given_columns(self.given)


def search_table(
    outcomes: TableOutcomes,
    features: tuple[TableFeature, ...],
    *,
    policy: str = "auto",
    seed: int = 0,
    reference: str | None = None,
) -> TableSearch:
    """Policies compared by cross-validation on the fit and tune samples of `outcomes` alone.

    Parameters
    ----------
    outcomes
        As they were stored, see :func:`training.outcomes.table_profile.load_table_outcomes`.
    policy
        A kind, or ``auto``.
    reference
        The model that a drop is counted from; by default the best.

    Raises
    ------
    DataError
        When there is nothing that a policy of the asked kind could decide by.
    """
    development = outcomes.split(FIT, TUNE).rounded(seed)
    scales, given = score_scales(development), given_features(development, features)
    seen = scaled(outcomes, scales, given)
    costs = expected_costs(development)
    evidence = seen.combinable or any(scale is not None for scale in scales.values())
    kinds = _kinds(policy, evidence=evidence, features=bool(given))
    input_fit = None
    if given:
        judged = part_to_fit(seen.split(FIT, TUNE).rounded(seed), seed)
        input_fit, folded = fit_estimates(judged, part_to_compare(judged, seed), costs, seed=seed)
        seen = with_estimates(
            seen, input_fit.order, input_fit.scores, input_fit.features, (judged.ids, folded)
        )
    rounded = seen.rounded(seed)
    judged = part_to_fit(rounded.split(FIT, TUNE), seed)
    compared = part_to_compare(judged, seed)
    folds = grouped_folds(compared.groups)
    situation = Situation(judged, compared, folds, costs, 0.0, 0.0, reference)
    candidates = all_candidates(situation, kinds, input_fit)
    return TableSearch(seen, rounded, costs, scales, given, situation, input_fit, candidates)


def expected_costs(development: TableOutcomes) -> dict[str, float]:
    """What an answer of each model costs in the mean; a model that costs nothing, next to nothing."""
    costs = development.mean_costs()
    least = _LEAST_SHARE * max(costs.values())
    return {name: max(cost, least) for name, cost in costs.items()}


def _kinds(policy: str, *, evidence: bool, features: bool) -> tuple[str, ...]:
    """Kinds of policies that have something to decide by."""
    possible = (*(("cascade", "probe") if evidence else ()), *(("input",) if features else ()))
    if policy == "auto":
        return possible
    if policy not in possible:
        needed = "features" if policy == "input" else "scores or logits of some model"
        raise DataError(
            f"expected outcomes with {needed} for the policy {policy!r}, got none. Add the columns to the "
            "table, "
            "or leave --policy at auto."
        )
    return (policy,)
