"""Fitting a selector: search for policies, prove what they keep, assemble what is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from tqdm import tqdm

from selector.bundle.bundle import subject
from selector.bundle.certificate import Certificate
from training.certificates.aim import Aim, share_of_margin
from training.certificates.certificates import certificates_of
from training.certificates.choice import ChosenTest, choose_test
from training.certificates.sent import check_provable
from training.cluster.processes import Processes
from training.data.splits import CERTIFY, FIT, TUNE
from training.features.kinds import features_of
from training.fitting.costs import costs_table
from training.fitting.drift_reference import DriftFit, check_drift_graph, drift_fit
from training.fitting.fitted import SCHEMA_VERSION, Fitted
from training.fitting.network import over_network
from training.fitting.options import FitOptions
from training.fitting.paths import with_paths
from training.fitting.record import FitInputs, Found, Proven, assemble
from training.outcomes.outcomes import Outcomes, has_pixels, load_outcomes, pixels_of
from training.outcomes.parts import read_profile_record
from training.search.candidates import POOL_LABELS, Candidate
from training.search.charges import charges_of
from training.search.choice import discount_of, failure_ms, worth_keeping
from training.search.comparisons import by_storage, comparisons, within_bytes
from training.search.input_fit import PixelsOf
from training.search.search import consider
from training.search.simulations import recalibrate
from zoo.errors import LatencyError
from zoo.files import sha256_bytes
from zoo.models.latency import LatencyTable
from zoo.models.zoo import Zoo
from zoo.remote.network import Network, load_network

WORTH_PROCESSES = 20_000  # outcomes of fit and tune samples: with fewer, processes take as long to start
SEARCHES_FOLDER = "searches"  # in a profile: what earlier fits found


def fit(
    profile_folder: str | Path,
    zoo: Zoo,
    table: LatencyTable | str | Path | None = None,
    options: FitOptions | None = None,
    *,
    costs_of: str | None = None,
    network: Network | str | Path | None = None,
    jobs: int | None = None,
    progress: bool = False,
    **changed: Any,
) -> Fitted:
    """Fit policies to outcomes, certify them, and build their graphs. The test split is not read.

    The first policy of the result is the best for the constraint with all models there; the others are the
    best for devices that hold only some of the models.

    Parameters
    ----------
    profile_folder
        A finished profile of the models of `zoo`.
    table
        Latency of every model on the device that the selector is for, or the file of it.
    costs_of
        Instead of `table`: the name of a latency table in the profile, such as ``this-machine``.
    options
        What to ask for and to choose among; by default precision 0.95.
    network
        Under which models on servers are asked: their times are computed from it. A network table, its file,
        or ``wifi``, ``4g``, ``5g`` or ``none``. Without, times are the measured ones of `table`.
    jobs
        Processes that share the search; what is found does not depend on it. By default as many as there are
        cores that this process may use, and one where there is little to search. The program that calls needs
        no guard such as ``if __name__ == "__main__"``.
    progress
        Show which step is under way.
    **changed
        Fields of :class:`.FitOptions`, such as ``precision=0.9``, in place of those of `options`.

    Raises
    ------
    PrecisionError
        When the constraint or `delta` is out of range, or more than one constraint is given.
    StaleError, LatencyError
        When profile or latency table do not belong to the models of `zoo`, or are of different execution
        providers, or there is no such table.
    DataError
        When there are too few samples, or no model fits into `max_bytes`.
    ZooError
        When one of several processes ended, such as for lack of memory.

    Examples
    --------
    >>> from training.fitting.fit import fit
    >>> fitted = fit("my-profile", zoo, table, precision=0.9)
    >>> fitted.certificate().constraint.level >= 0.9
    True
    """
    options = replace(options or FitOptions(), **changed)
    table = costs_table(profile_folder, table, costs_of)
    if network is not None:
        known = network if isinstance(network, Network) else load_network(network)
        table, zoo = over_network(table, zoo, known)
    record = read_profile_record(profile_folder)
    if table.provider is not None and table.provider != record.provider_name:
        raise LatencyError(
            f"expected times of the provider that answered the samples, {record.provider_name}, got "
            f"those of {table.provider}. Measure with it ('zooselect bench --provider'), or profile with the "
            "other one ('zooselect profile --provider')."
        )
    return fit_outcomes(
        load_outcomes(profile_folder, zoo=zoo),
        zoo,
        table,
        options,
        grid=record.grid,
        data_sha256=record.data_sha256,
        inputs_sha256=fit_inputs_sha256(profile_folder, zoo, table, options),
        pixels=partial(pixels_of, profile_folder) if has_pixels(profile_folder) else None,
        searches=Path(profile_folder) / SEARCHES_FOLDER,
        jobs=jobs,
        progress=progress,
        provider=record.provider,
    )


def fit_nearest(
    fitted: Fitted,
    profile_folder: str | Path,
    zoo: Zoo,
    table: LatencyTable,
    options: FitOptions,
    *,
    network: Network | str | Path | None = None,
    jobs: int | None = None,
) -> Fitted | None:
    """:func:`fit` for the nearest level that `fitted` certifies in place of what was asked.

    Policies that suit a level that cannot be had may be dear ones: for the nearest level there may be others
    that are cheaper.

    Returns
    -------
    Fitted or None
        None where nothing of that kind is certified, for budgets, and where the search was not kept.

    Examples
    --------
    >>> from training.fitting.fit import fit_nearest
    >>> fit_nearest(fitted, "my-profile", zoo, table, FitOptions(precision=0.9)) is None  # it is certified
    True
    """
    asked = fitted.record.bundle.default
    found = () if fitted.certificate() is not None or asked.is_budget else fitted.alternatives(asked, most=1)
    if not found or not any((Path(profile_folder) / SEARCHES_FOLDER).glob("*.npz")):
        return None
    level: dict[str, Any] = {"accuracy": None, asked.kind: found[0].constraint.level}
    return fit(profile_folder, zoo, table, options, network=network, jobs=jobs, **level)


def fit_outcomes(
    outcomes: Outcomes,
    zoo: Zoo,
    table: LatencyTable,
    chosen: FitOptions,
    *,
    grid: int,
    data_sha256: str,
    inputs_sha256: str,
    pixels: PixelsOf | None = None,
    searches: Path | None = None,
    jobs: int | None = None,
    progress: bool = False,
    only: Callable[[Candidate], bool] = lambda _: True,
    provider: str | UnsetType = UNSET,
) -> Fitted:
    """:func:`fit` on outcomes in memory, in three steps: search, prove, assemble.

    Which samples each step may see is what certificates rest on.

    - *Search* chooses on the fit and tune samples alone. Of the certify samples it knows their number, which
      says how much a certificate will ask for. Where a scout was trained, it also computes the scout's
      features of the certify samples from their pixels; no label or answer of theirs is read.
    - *Prove* looks at the certify samples. Everything is fixed by then: the policies, and the order in which
      their thresholds are tested. Nothing is chosen after it. Before it whole answers of the first policy are
      timed, where the latency table is of this machine: budgets of time are about these. How inputs are
      spread, which the drift monitor holds others against, is no choice.
    - *Assemble* sees no sample, only how many there are.

    No step sees test samples. What the search trains, measures and simulates does not depend on the
    constraint: it is kept in the folder `searches`, and a fit for another constraint only chooses and proves.
    Where a study needs a policy of some kind, `only` says which candidates there are to choose among.
    """
    for name in (FIT, TUNE, CERTIFY):
        outcomes.split(name).check_finite()
    given = FitInputs(zoo, table, chosen, grid, data_sha256, inputs_sha256, provider)
    with tqdm(total=4, unit="step", disable=not progress or None, leave=False) as bar:

        def step(name: str) -> None:
            bar.set_description(name)
            bar.update()

        with Processes(_suited(outcomes) if jobs is None else jobs) as processes:
            found = search(
                outcomes,
                given,
                pixels=pixels,
                step=step,
                searches=searches,
                processes=processes,
                only=only,
            )
        step("certifying")
        drift = drift_fit(found.outcomes, grid=grid, kind=zoo.kind)
        given = with_paths(found, given, drift)
        proven = prove(found, given, drift)
    return assemble(given, found, proven)


def search(
    outcomes: Outcomes,
    given: FitInputs,
    *,
    pixels: PixelsOf | None,
    step: Callable[[str], None],
    searches: Path | None = None,
    processes: Processes | None = None,
    only: Callable[[Candidate], bool] = lambda _: True,
) -> Found:
    """Policies for the constraint and for devices with fewer models, chosen on the fit and tune samples.

    Raises
    ------
    DataError
        When there are too few samples, or no model fits into the budget of bytes.
    """
    check_provable(given.options.constraint, given.zoo.cards)
    zoo, options, costs = given.zoo, given.options, given.table.costs_ms(given.zoo)
    if options.environment is not None:
        outcomes = outcomes.environment(options.environment)
    outcomes, agree_with = judged(outcomes.split(FIT, TUNE, CERTIFY), costs, options)
    test = test_of(outcomes, options)
    accuracy = outcomes.split(FIT, TUNE).accuracy()
    by_accuracy = tuple(
        sorted(accuracy, key=lambda name: (name != agree_with, -accuracy[name], costs[name], name))
    )
    charges = charges_of(given.table, zoo, options.constraint)
    kinds = ("cascade", "probe", "input") if options.policy == "auto" else (options.policy,)
    considered = consider(
        outcomes,
        zoo,
        given.table if charges is None else charges.table,
        kinds,
        grid=given.grid,
        pixels=pixels,
        seed=options.seed,
        step=step,
        reference=by_accuracy[0],
        folder=searches,
        processes=processes,
        check=partial(check_drift_graph, outcomes, given.grid, zoo.kind),
    )
    candidates = [candidate for candidate in considered.candidates if only(candidate)]
    compared = considered.situation.outcomes
    aim = Aim(
        options.constraint,
        len(outcomes.split(CERTIFY)),
        options.delta,
        compared.right[:, compared.models.index(by_accuracy[0])],
        failure_ms=failure_ms(candidates, considered.situation.costs),
        unit_ms=None if charges is None else charges.unit_ms,
        per_unit=1.0 if charges is None else charges.per_unit,
        share_of_margin=share_of_margin(
            test.test, development=len(outcomes.split(FIT, TUNE)), certify=len(outcomes.split(CERTIFY))
        ),
        tail=given.table.tail(zoo.names),
        candidates=len(candidates),
        discount=discount_of(candidates, compared.groups),
    )
    candidates = within_bytes(candidates, zoo, options.max_bytes)
    local = {card.name for card in zoo.cards if card.remote is None}
    kept = worth_keeping(candidates, aim, local=local)
    pooled = (name for one in kept if one.label in POOL_LABELS for name in one.models)
    recalibrate(considered.situation, pooled, processes or Processes(1))
    policies = tuple(candidate.build() for candidate in kept)
    considered.keep()
    for policy in policies:
        policy.costs = dict(costs)  # from here on times, whatever candidates were charged
    return Found(
        considered.outcomes,
        by_accuracy,
        agree_with,
        considered.situation,
        policies,
        comparisons(candidates, kept[0], aim),
        by_storage(candidates, zoo, aim),
        considered.input_fit,
        test,
    )


def _suited(outcomes: Outcomes) -> int | None:
    """One process where there is little to search, else the default."""
    development = int(np.isin(outcomes.splits, (FIT, TUNE)).sum())
    return None if development * len(outcomes.models) >= WORTH_PROCESSES else 1


def judged(
    outcomes: Outcomes, costs: Mapping[str, float], options: FitOptions
) -> tuple[Outcomes, str | None]:
    """Outcomes with the notion of a right answer that was asked for, and the model it comes from, if one.

    Without labels the dearest model says what is right. No label is read to find it, as there may be none
    that can be trusted; and no answer, or it would no longer be fixed before the samples.
    """
    agree_with = None
    if options.agree_with_reference:
        agree_with = max(outcomes.models, key=lambda name: (costs[name], name))
    return outcomes.judged(top_k=options.top_k, agree_with=agree_with), agree_with


def test_of(outcomes: Outcomes, options: FitOptions) -> ChosenTest:
    """The test of precisions, from the numbers of models and samples alone."""
    return choose_test(
        options.certificate,
        models=len(outcomes.models),
        development=len(outcomes.split(FIT, TUNE)),
        certify=len(outcomes.split(CERTIFY)),
        grouped=len(np.unique(outcomes.groups)) < len(outcomes),
    )


def prove(found: Found, given: FitInputs, drift: DriftFit | None) -> Proven:
    """Certificates of every policy on the certify samples, beside what inputs are held against later."""
    held, options = found.outcomes.split(CERTIFY), given.options
    certificates: list[Certificate] = []
    for index, policy in enumerate(found.policies):
        cards = [card for card in given.zoo.cards if card.name in policy.models]
        certificates += certificates_of(
            index,
            policy,
            found.outcomes.split(FIT, TUNE),
            found.situation.everything,
            held,
            found.by_accuracy[0],
            found.test.test,
            options.constraint,
            options.delta,
            subject(policy.policy, found.selector, held.classes, cards),
            given.table,
            given.zoo.cards,
        )
    return Proven(tuple(certificates), drift)


def fit_inputs_sha256(
    profile_folder: str | Path,
    zoo: Zoo,
    table: LatencyTable,
    options: FitOptions | None = None,
    **changed: Any,
) -> str:
    """Digest of all that :func:`fit` depends on: where it is equal, fitting again gives the same."""
    models = {card.name: card.sha256 for card in zoo.cards}
    parts = (
        has_pixels(profile_folder),
        read_profile_record(profile_folder),
        table,
        models,
        replace(options or FitOptions(), **changed).named,
        features_of(zoo.kind).version,
        SCHEMA_VERSION,
    )
    return sha256_bytes(msgspec.json.encode(parts, order="deterministic"))
