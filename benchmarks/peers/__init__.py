"""Every method of the field that selects among models, on the same outcomes as ours."""

from collections.abc import Callable, Mapping

from benchmarks.peers.agreement import AgreementCascade
from benchmarks.peers.algorithm_selectors import PairwiseForests, PairwiseRegression, SatzillaRidge, Sunny
from benchmarks.peers.cascades import MaxSoftmaxCascade
from benchmarks.peers.committees import TemperatureCommittee, VectorCommittee
from benchmarks.peers.deferral import BoostedDeferral
from benchmarks.peers.dynamic_ensembles import KnoraE, MetaDes, Ola
from benchmarks.peers.greedy import GreedyCascade
from benchmarks.peers.peer import Peer
from benchmarks.peers.premodel import KnnPremodel
from benchmarks.peers.routers import RouteLlmFactorisation, RouterBenchKnn
from benchmarks.peers.singles import AlwaysLargest, Oracle, RandomMix, SingleModels, ceiling

_CLASSES: tuple[type[Peer], ...] = (
    AlwaysLargest,
    SingleModels,
    RandomMix,
    MaxSoftmaxCascade,
    GreedyCascade,
    TemperatureCommittee,
    VectorCommittee,
    BoostedDeferral,
    AgreementCascade,
    KnnPremodel,
    Ola,
    KnoraE,
    MetaDes,
    SatzillaRidge,
    PairwiseForests,
    PairwiseRegression,
    Sunny,
    RouterBenchKnn,
    RouteLlmFactorisation,
    Oracle,
)

PEERS: Mapping[str, Callable[[], Peer]] = {kind.name: kind for kind in _CLASSES}

__all__ = ["PEERS", "Peer", "ceiling"]
