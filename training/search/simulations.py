"""Candidates are simulated in parts, which processes share: what a part finds does not depend on how many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from training.cluster.processes import Processes
from training.policies.frontier import Outline, by_cost
from training.search.candidates import (
    Situation,
    lookahead_candidate,
    planned,
    pool_candidate,
    raw_candidate,
    staged_candidate,
    useful_models,
)
from training.search.plans import FoldedScores, StagedPlan
from training.search.pools import Pools, Recalibrated, Scaled, pool_chains

_WEIGHT = {"chains": 1, "pools": 3, "plans": 2}  # of a chain, about: the longest parts begin first


@dataclass(frozen=True)
class _Part:
    """Candidates that begin with one model, and so share what is known after it."""

    kind: Literal["chains", "pools", "plans"]
    chains: tuple[tuple[str, ...], ...] = ()
    plans: tuple[StagedPlan, ...] = ()

    @property
    def work(self) -> int:
        """How long it takes, roughly."""
        return _WEIGHT[self.kind] * (len(self.chains) + len(self.plans))


def simulate(at: Situation, kinds: Sequence[str], processes: Processes) -> None:
    """Simulate the candidates of some kinds, but for those with input features, into ``at.known``."""
    parts = sorted(_parts(at, kinds), key=lambda part: -part.work)
    lean = replace(at, everything=at.outcomes, known={}, scalings={})
    if any(part.kind == "pools" for part in parts):
        names = [name for name in at.outcomes.models if name not in at.scaled]
        at.scaled.update(zip(names, processes.run(_recalibrated, lean, names), strict=True))
    lean = replace(lean, outcomes=replace(at.outcomes, embeddings={}), scaled=at.scaled)
    lean = replace(lean, everything=lean.outcomes)
    for found in processes.run(_simulated, lean, parts):
        at.known.update(found)


def recalibrate(at: Situation, names: Iterable[str], processes: Processes) -> None:
    """Fit how models are recalibrated in pools of the final fit, into ``at.scalings``."""
    new = [name for name in dict.fromkeys(names) if name not in at.scalings]
    if new and processes.jobs > 1:
        at.scalings.update(zip(new, processes.run(_finally, at.final_pools, new), strict=True))


def _finally(pools: Pools, name: str) -> Recalibrated:
    return pools.recalibrated(name)


def _parts(at: Situation, kinds: Sequence[str]) -> Iterator[_Part]:
    models = useful_models(at.outcomes, at.costs)
    if "cascade" in kinds:
        alone = [(name,) for name in at.outcomes.models]
        chains = pool_chains(at.costs, models)
        for first in by_cost(at.costs, at.outcomes.models):
            yield _Part("pools", chains=tuple(c for c in [*alone, *chains] if c[0] == first))
            longer = tuple(c for c in chains if c[0] == first)
            if longer:
                yield _Part("chains", chains=longer)
    for probe in (False, True):
        if ("probe" if probe else "cascade") in kinds:
            some = planned(at, models, probe=probe)
            for first, committee in sorted({(plan.chain[0], plan.committee) for plan in some}):
                ours = (plan for plan in some if (plan.chain[0], plan.committee) == (first, committee))
                yield _Part("plans", plans=tuple(ours))


def _recalibrated(at: Situation, name: str) -> Scaled:
    return at.pools.scaled(name)


def _simulated(at: Situation, part: _Part) -> dict[str, list[Outline]]:
    before = set(at.known)
    for chain in part.chains:
        if part.kind == "pools":
            pool_candidate(at, chain)
        else:
            raw_candidate(at, chain)
            lookahead_candidate(at, chain)
    folded = FoldedScores(at.outcomes, at.folds)
    for plan in part.plans:
        staged_candidate(at, plan, folded)
    return {name: at.known.pop(name) for name in list(at.known) if name not in before}
