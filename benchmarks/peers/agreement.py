"""Agreement-based cascading: ensembles of growing cost, each of which answers where its models agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.peer import NO_MODEL, Peer, some_rows, useful_models
from selector.policies.rules import softmax
from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Floats, Simulated
from training.policies.singles import upper_hull

MAX_MODELS = 8
MAX_RUN = 5  # models of all tiers together
MAX_TIERS = 3
MAX_ROWS = 4000
SHARES = (1.0, 2 / 3)  # of a tier's votes, that have to be for one class


@dataclass(frozen=True)
class Tiers:
    """Columns of the models of each tier, and how many of its votes have to agree."""

    tiers: tuple[tuple[int, ...], ...]
    share: float
    together: bool  # whether models of earlier tiers, which ran already, vote again


@dataclass(frozen=True)
class Vote:
    """What an ensemble says of every sample."""

    share: Floats  # [n], of its votes that are for its answer
    right: NDArray[np.bool_]  # [n]


class AgreementCascade(Peer):
    """Tiers of one to three models. Where a tier's votes agree, their class is the answer.

    The answer is the class with most votes; of equally many, the one with the larger mean probability. Tiers
    hold ever dearer models. Tried are all divisions of up to five models into up to three tiers, whether all
    votes have to agree or two thirds, and whether earlier tiers vote again or a tier votes alone. Settings
    are those on the upper hull of cost and accuracy. Nothing is learned from labels but that. The last tier
    answers whatever its votes.
    """

    name = "agreement-cascade"
    source = "Kolawole et al., Agreement-Based Cascading for Efficient Inference, arXiv 2407.02348, 2024"
    decides = True

    def _settle(self, development: Outcomes) -> None:
        rows = some_rows(development, MAX_ROWS, self.seed)
        polls = _Polls(rows)
        members = useful_models(rows.right, self.costs, MAX_MODELS).tolist()
        tried = list(arrangements(members))
        points = [self._run(setting, polls) for setting in tried]
        times, accuracy = (
            np.array([getattr(point, name) for point in points]) for name in ("mean_ms", "accuracy")
        )
        self.settings = [tried[i] for i in upper_hull(times, accuracy)]

    def _points(self, outcomes: Outcomes) -> list[Simulated]:
        polls = _Polls(outcomes)
        return [self._run(setting, polls) for setting in self.settings]

    def _run(self, setting: Tiers, polls: _Polls) -> Simulated:
        left = np.ones(polls.count, dtype=np.bool_)
        right = np.zeros(polls.count, dtype=np.bool_)
        spent = np.zeros(polls.count)
        ran: tuple[int, ...] = ()
        for number, tier in enumerate(setting.tiers):
            ran += tier
            spent[left] += self.costs[list(tier)].sum()
            vote = polls.vote(ran if setting.together else tier)
            last = number == len(setting.tiers) - 1
            stopped = left if last else left & (vote.share >= setting.share - 1e-9)
            right[stopped] = vote.right[stopped]
            left = left & ~stopped
        return Simulated(setting.share, np.full(polls.count, NO_MODEL), right, spent)


class _Polls:
    """Votes of ensembles on the same samples, each counted once."""

    def __init__(self, outcomes: Outcomes) -> None:
        self.count = len(outcomes)
        self._outcomes = outcomes
        self._shares = np.stack([softmax(outcomes.logits[:, j]) for j in range(len(outcomes.models))], axis=1)
        self._known: dict[tuple[int, ...], Vote] = {}

    def vote(self, models: tuple[int, ...]) -> Vote:
        """What some models say together."""
        if models not in self._known:
            votes = np.zeros(self._shares[:, 0].shape)
            for model in models:
                votes[np.arange(self.count), self._outcomes.predicted[:, model]] += 1
            ranked = votes + self._shares[:, list(models)].mean(axis=1) / 2  # less than a vote, for ties
            self._known[models] = Vote(
                votes[np.arange(self.count), ranked.argmax(axis=1)] / len(models),
                self._outcomes.right_of(ranked),
            )
        return self._known[models]


def arrangements(members: Sequence[int]) -> Iterator[Tiers]:
    """All tiers that are tried: models alone, ensembles alone, and ensembles before others."""
    for count in range(1, min(MAX_RUN, len(members)) + 1):
        for models in combinations(members, count):
            for tiers in _divided(models):
                if len(tiers) > MAX_TIERS or any(len(tier) > 3 for tier in tiers):
                    continue
                if any(len(tier) < 2 for tier in tiers[:-1]):
                    continue  # one model always agrees with itself
                shares = SHARES if any(len(tier) > 2 for tier in tiers) and len(tiers) > 1 else SHARES[:1]
                for share in shares:
                    for together in (False, True) if len(tiers) > 1 else (False,):
                        yield Tiers(tiers, share, together)


def _divided(models: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """All ways to divide models, in their order, into tiers."""
    for end in range(1, len(models)):
        for rest in _divided(models[end:]):
            yield (models[:end], *rest)
    yield (models,)
