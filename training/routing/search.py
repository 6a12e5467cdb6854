"""Search for policies on a table of outcomes, which needs no zoo and no latency table."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selector.routing.record import GivenFeature, ScoreScale, given_columns
from training.data.splits import FIT, TUNE
from training.outcomes.folds import FOLDS, grouped_folds
from training.outcomes.table_outcomes import TableOutcomes
from training.outcomes.table_profile import TableFeature
from training.routing.estimates import fit_estimates, with_estimates
from training.routing.scales import given_features, scaled, score_scales
from training.search.candidates import Candidate, Situation, all_candidates
from training.search.input_fit import InputFit
from training.search.plans import evenly, part_to_compare, part_to_fit, rows_for
from training.search.search import known_search
from training.search.searched import Searched, save_searched, table_search_key
from zoo.errors import DataError

LEAST_ORIGINALS = 2 * FOLDS
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
    folder: Path | None = None,
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
    folder
        Where searches are kept: one on the same outcomes and options is not made again, as nothing in it
        depends on the constraint.

    Raises
    ------
    DataError
        When there is nothing that a policy of the asked kind could decide by.
    """
    development = outcomes.split(FIT, TUNE).rounded(seed)
    originals = len(set(development.groups.tolist()))
    if originals < LEAST_ORIGINALS:
        raise DataError(
            f"expected at least {LEAST_ORIGINALS} inputs that do not share a group to choose on, got "
            f"{originals} in the fit and tune splits. Give more rows, or larger shares with 'zooselect "
            "outcomes --split'."
        )
    scales, given = score_scales(development), given_features(development, features)
    seen = scaled(outcomes, scales, given)
    costs = expected_costs(development)
    evidence = seen.combinable or any(scale is not None for scale in scales.values())
    kinds = _kinds(policy, evidence=evidence, features=bool(given))
    key = table_search_key(seen, kinds=kinds, seed=seed, reference=reference)
    known = None
    if folder is not None:
        known = known_search(folder, key, seen, compared=len(_judged(seen, seed)[1]))
    found = known or _estimated(seen, costs, seed)
    input_fit = found.input_fit
    if input_fit is not None:
        learned = part_to_fit(seen.split(FIT, TUNE), seed).ids
        graph = input_fit.order, input_fit.scores, input_fit.features
        seen = with_estimates(seen, *graph, (learned, found.estimated))
    rounded = seen.rounded(seed)
    judged, compared = _judged(rounded, seed)
    situation = Situation(
        judged,
        compared,
        grouped_folds(compared.groups),
        costs,
        0.0,
        0.0,
        reference,
        found.frontiers,
        found.scalings,
        every_variant=part_to_fit(rounded.split(FIT, TUNE), seed),
    )
    candidates = all_candidates(situation, kinds, input_fit)
    if folder is not None and known is None:
        with contextlib.suppress(OSError):  # a profile may lie where nothing can be written
            save_searched(folder, key, found)
    return TableSearch(seen, rounded, costs, scales, given, situation, input_fit, candidates)


def _estimated(seen: TableOutcomes, costs: Mapping[str, float], seed: int) -> Searched:
    """What a search begins with: estimates, where there are features; no candidates yet."""
    none = np.empty((len(seen), 0), np.float32)
    if not seen.feature_names:
        return Searched(None, none, 0.0, 0.0, None)
    rounded = seen.rounded(seed)
    learned, (_, compared) = part_to_fit(rounded.split(FIT, TUNE), seed), _judged(rounded, seed)
    fit, folded = fit_estimates(learned, compared, costs, seed=seed)
    return Searched(None, none, 0.0, 0.0, fit, estimated=folded)


def _judged(seen: TableOutcomes, seed: int) -> tuple[TableOutcomes, TableOutcomes]:
    """Fit and tune samples that policies are fitted to, and those of them that candidates are compared on."""
    judged = evenly(part_to_fit(seen.split(FIT, TUNE), seed), seed)
    return judged, part_to_compare(judged, seed, rows_for(len(seen.models)))


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
            "table, or leave --policy at auto."
        )
    return (policy,)
