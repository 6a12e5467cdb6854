"""A fitted router: the record to be and how it came about, in memory and in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from selector.routing.constraint import RouteConstraint
from selector.routing.record import ROUTER_FILE, ROUTER_VERSION, RouteCertificate, RouterRecord, ScoreScale
from training.fitting.fitted import FeatureRecord, remove_others, restore
from training.outcomes.table_outcomes import TableOutcomes
from training.policies.base import FittedPolicy
from training.policies.frontier import Simulated
from training.policies.staged import FittedStaged
from training.routing.estimates import with_estimates
from training.routing.scales import scaled
from training.search.comparisons import CandidateComparison
from zoo.errors import DataError, PrecisionError, StaleError
from zoo.files import decode_record, encode_record, read_json, read_verified, write_atomic
from zoo.types import Sha256

ROUTER_FIT_FILE = "router-fit.json"
ROUTER_FIT_VERSION = ROUTER_VERSION


class RouterFitRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fitted router: the record to be, and how it came about. Costs stand in place of milliseconds."""

    schema_version: int
    router: RouterRecord
    comparisons: tuple[CandidateComparison, ...]  # best first
    features: tuple[FeatureRecord, ...]
    gain: tuple[float, float] | None  # frontier quality over no features: mean, standard error
    estimators: dict[str, tuple[float, float]]
    data_sha256: Sha256  # of the profile
    test_reason: str  # why precisions were proven by that test


@dataclass(frozen=True)
class FittedRouter:
    """A fitted router in memory, ready to be simulated, written and exported.

    Examples
    --------
    >>> from training.routing.fitted import load_router_fit
    >>> load_router_fit("router-fit").record.router.reference
    'large'
    """

    record: RouterFitRecord
    policies: tuple[FittedPolicy, ...]  # as in the record
    scores: bytes | None

    @property
    def router(self) -> RouterRecord:
        """What is exported."""
        return self.record.router

    def certificate(self, asked: RouteConstraint | None = None) -> RouteCertificate | None:
        """The certificate of the best policy that covers a constraint, by default the fitted one, or None."""
        return self.router.covering(asked or self.router.default, 0)

    def seen(self, outcomes: TableOutcomes) -> TableOutcomes:
        """Outcomes as they were stored, as a router sees them."""
        scales: dict[str, ScoreScale | None] = {one.name: one.scale for one in self.router.models}
        found = scaled(outcomes.with_models(list(scales)), scales, self.router.features)
        graph = self.router.scores
        if graph is None or self.scores is None:
            return found
        return with_estimates(found, found.models, self.scores, graph.features)

    def simulate(self, outcomes: TableOutcomes, asked: RouteConstraint | None = None) -> Simulated:
        """What a router does under a constraint with outcomes as :meth:`seen`: the certified threshold, or
        one model alone."""
        wanted = asked or self.router.default
        certificate = self.certificate(wanted)
        if certificate is not None:
            return self.policies[0].simulate(outcomes, certificate.threshold)
        column = outcomes.models.index(self.router.alone(wanted))
        return Simulated(
            np.inf, np.full(len(outcomes), -1), outcomes.right[:, column], outcomes.paid[:, column]
        )

    def graphs(self) -> dict[str, bytes]:
        """File → content of all graphs."""
        found = {
            file: content
            for policy in self.policies
            if isinstance(policy, FittedStaged)
            for file, content in policy.graphs.items()
        }
        if self.router.scores is not None and self.scores is not None:
            found[self.router.scores.file] = self.scores
        return found


def save_router_fit(fitted: FittedRouter, folder: str | Path, *, replace: bool = False) -> None:
    """Write a fitted router; ``router-fit.json`` is written last and names the graphs by their digests.

    Raises
    ------
    PrecisionError
        When `folder` holds a certified router, this one is not certified, and `replace` is False.
    """
    target = Path(folder)
    kept = None if replace or fitted.certificate() is not None else certified_before(target)
    if kept is not None:
        raise PrecisionError(
            f"expected a certified router to replace the one in {folder}, which is certified for {kept}; got "
            f"one that is not certified for {fitted.router.default}. Write to another folder, or replace it "
            "with --replace (in Python: replace=True)."
        )
    for file, content in fitted.graphs().items():
        write_atomic(target / file, content)
    write_atomic(target / ROUTER_FIT_FILE, encode_record(fitted.record))
    remove_others(target, set(fitted.graphs()))


def certified_before(folder: Path) -> RouteConstraint | None:
    """What the router in `folder` is certified for, if there is one and it is."""
    if not is_router_fit(folder):
        return None
    router = _read(folder).router
    return router.default if router.covering(router.default, 0) is not None else None


def is_router_fit(folder: str | Path) -> bool:
    """Whether a folder holds a fitted router."""
    return (Path(folder) / ROUTER_FIT_FILE).is_file()


def load_router_fit(folder: str | Path) -> FittedRouter:
    """Read a fitted router.

    Raises
    ------
    DataError
        When there is none.
    CardError, DigestError
        When a file does not validate or is not the recorded one.

    Examples
    --------
    >>> from training.routing.fitted import load_router_fit
    >>> load_router_fit("router-fit").certificate() is not None
    True
    """
    source = Path(folder)
    record = _read(source)
    graph = record.router.scores
    scores = None if graph is None else read_verified(source / graph.file, graph.sha256, graph.size_bytes)
    policies = tuple(
        restore(
            policy,
            record.router.mean_costs,
            source,
            scores=scores,
            score_features=() if graph is None else graph.features,
        )
        for policy in record.router.policies
    )
    return FittedRouter(record, policies, scores)


def export_router(fitted: FittedRouter, folder: str | Path) -> RouterRecord:
    """Write a router for an application; ``router.json`` is replaced last.

    Examples
    --------
    >>> from training.routing.fitted import export_router, load_router_fit
    >>> export_router(load_router_fit("router-fit"), "new-router").unit
    'usd'
    """
    target = Path(folder)
    for file, content in fitted.graphs().items():
        write_atomic(target / file, content)
    write_atomic(target / ROUTER_FILE, encode_record(fitted.router))
    remove_others(target, set(fitted.graphs()))
    return fitted.router


def check_same_data(fitted: FittedRouter, data_sha256: str, folder: str | Path) -> None:
    """Raise :class:`StaleError` where a profile is not the one that a router was fitted to."""
    if fitted.record.data_sha256 != data_sha256:
        raise StaleError(
            f"the router was fitted to other outcomes than {folder} holds. Run 'zooselect fit' again."
        )


def _read(folder: Path) -> RouterFitRecord:
    path = folder / ROUTER_FIT_FILE
    if not path.is_file():
        raise DataError(
            f"expected a fitted router in {folder}, got no {ROUTER_FIT_FILE} there. Run 'zooselect fit'."
        )
    content = read_json(path, what="a fitted router")
    return decode_record(content, RouterFitRecord, name=str(path), schema_version=ROUTER_FIT_VERSION)
