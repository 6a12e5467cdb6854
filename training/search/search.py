"""Everything that could be fitted to some outcomes, compared by cross-validation."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from training.cluster.processes import Processes
from training.data.splits import FIT, TUNE
from training.features.kinds import features_of
from training.outcomes.folds import grouped_folds
from training.outcomes.outcomes import Outcomes, with_features
from training.policies.state_scores import decision_costs_ms
from training.search.candidates import Candidate, Situation, all_candidates
from training.search.input_fit import InputFit, PixelsOf, fit_input, scout_log_odds
from training.search.plans import SEARCH_ROWS, part_to_compare, part_to_fit
from training.search.searched import Searched, load_searched, save_searched, search_key
from training.search.simulations import simulate
from zoo.errors import DataError
from zoo.inputs.kind import InputKind
from zoo.inputs.kinds import IMAGE
from zoo.models.latency import LatencyTable
from zoo.models.zoo import Zoo


@dataclass(frozen=True)
class Considered:
    """Candidates and what they were compared on."""

    outcomes: Outcomes  # all that were given, with a scout's log-odds where one was trained
    situation: Situation
    input_fit: InputFit | None
    candidates: list[Candidate]
    keep: Callable[[], None] = lambda: None  # what building candidates found, beside the search


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
    reference: str | None = None,
    folder: Path | None = None,
    processes: Processes | None = None,
    check: Callable[[], None] = lambda: None,
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
    reference
        The model that a drop is counted from; by default the most accurate one.
    folder
        Where searches are kept: one on the same outcomes, costs and options is not made again.
    processes
        That share the work; by default this one.
    check
        What else has to hold before a search is kept, or raises; it is not called for one that was kept.
    """
    costs = table.costs_ms(zoo)
    informed = "input" in kinds or "probe" in kinds
    looking = pixels if informed and features_of(zoo.kind).has_scout else None
    key, known = "", None
    if folder is not None:
        key = search_key(
            outcomes,
            zoo,
            table,
            kinds=kinds,
            grid=grid,
            scout=looking is not None,
            seed=seed,
            reference=reference,
        )
        count = min(SEARCH_ROWS, int(np.isin(outcomes.splits, (FIT, TUNE)).sum()))
        known = known_search(folder, key, outcomes, zoo.kind, compared=count)
    if known is None:
        check()
    workers = processes or Processes(1)
    found = known or _train(
        outcomes, zoo, table, grid=grid, pixels=looking, seed=seed, step=step, processes=workers
    )
    if found.scout is not None:
        outcomes = with_features(outcomes, found.scout.names, found.scout_log_odds)
    development = part_to_fit(outcomes.split(FIT, TUNE), seed)
    compared = part_to_compare(development, seed)
    folds = grouped_folds(compared.groups)
    decision_ms = found.stage_ms, found.confidence_ms
    situation = Situation(
        development, compared, folds, costs, *decision_ms, reference, found.frontiers, found.scalings
    )
    input_fit = found.input_fit
    if informed and input_fit is None:
        step("choosing features")
        input_fit = fit_input(
            development,
            compared,
            folds,
            costs,
            zoo,
            table,
            grid=grid,
            scout=found.scout,
            seed=seed,
            processes=workers,
        )
    step("comparing policies")
    kept = -1 if known is None else _size(situation)

    def keep() -> None:
        nonlocal kept
        if folder is not None and _size(situation) > kept:
            kept = _size(situation)
            with contextlib.suppress(OSError):  # a profile may lie where nothing can be written
                save_searched(folder, key, replace(found, input_fit=input_fit))

    if known is None:
        simulate(situation, kinds, workers)
    candidates = all_candidates(situation, kinds, input_fit)
    keep()
    return Considered(outcomes, situation, input_fit, candidates, keep)


def _size(situation: Situation) -> int:
    """How much was found: what is known of candidates, and scalings."""
    return len(situation.known) + len(situation.scalings)


def _train(
    outcomes: Outcomes,
    zoo: Zoo,
    table: LatencyTable,
    *,
    grid: int,
    pixels: PixelsOf | None,
    seed: int,
    step: Callable[[str], None],
    processes: Processes,
) -> Searched:
    """A scout where there are pixels, and what decisions cost."""
    scout, log_odds = None, np.empty((len(outcomes), 0), np.float32)
    if pixels is not None:
        step("training a scout")
        compared = part_to_compare(part_to_fit(outcomes.split(FIT, TUNE), seed), seed)
        log_odds, scout = scout_log_odds(
            outcomes, compared, pixels, seed=seed, kind=zoo.kind, processes=processes
        )
    return Searched(scout, log_odds, *decision_costs_ms(zoo, table, len(outcomes.classes)), None)


def known_search(
    folder: Path, key: str, outcomes: Outcomes, kind: InputKind = IMAGE, *, compared: int
) -> Searched | None:
    """What an earlier search on `outcomes` found that compared on so many samples, if one with this key was
    kept."""
    try:
        return load_searched(folder, key, outcomes=outcomes, compared=compared, kind=kind)
    except DataError as error:
        tqdm.write(f"{error} It is searched again.", file=sys.stderr)
        return None
