"""What a set of models is worth to a bundle, for what was asked of it lately."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from selector.answering.recent import Answered, Question
from selector.bundle.bundle import Bundle, DeviceCosts, valid_certificates
from selector.bundle.certificate import covering
from selector.policies.input import InputPolicy
from selector.policies.policy import Policy
from selector.policies.rules import next_action
from selector.worth.best_set import TaskWorth, Way

MIN_SCORED_INPUTS = 64  # inputs with scores; with fewer, the certify samples tell more


def task_worth(
    bundle: Bundle,
    answers: Sequence[Answered] = (),
    *,
    name: str,
    costs: DeviceCosts | None = None,
    known: Mapping[str, float] | None = None,
    weight: float = 1.0,
    elsewhere: Collection[str] = (),
) -> TaskWorth:
    """The ways in which the bundle answers, and what an answer of each gains.

    A certified answer gains 1. On top of it comes what its constraint leaves to be gained: where accuracy is
    bounded, the share of the reference model's time that is saved; where time is bounded, the share of right
    answers. An answer without a certificate gains the accuracy of the model that gives it.

    Time and accuracy are those of the certify samples. Where the scores of recent inputs tell them for every
    policy of the bundle, which takes policies that decide on the input alone, they are those of these inputs.

    Parameters
    ----------
    answers
        Recent ones, of this bundle; without any, the bundle's own constraint is asked.
    name
        Of the bundle on devices.
    costs
        Of the device; by default the first that was measured.
    known
        Accuracies of single models, where the bundle's certificates do not tell.
    weight
        How often the bundle is asked, among several.
    elsewhere
        Models on servers that the device may ask: they are there, and take no storage.
    """
    asked = Counter(answer.asked for answer in answers) or Counter([Question(bundle.default)])
    recent = _Inputs(bundle, answers, costs or bundle.costs_ms())
    base = bundle.costs[0].models[bundle.reference]
    ways: list[Way] = []
    accuracies = dict(known or {})
    for i, policy in enumerate(bundle.policies):
        gain = unserved = 0.0
        certificates = valid_certificates(bundle, i)
        judged = [one.accuracy for one in certificates if one.environment is None]
        if len(policy.models) == 1 and judged:  # all of them on the same samples
            accuracies[policy.models[0]] = judged[0]
        for question, count in asked.items():
            share = count / asked.total()
            found = covering(certificates, question.constraint, policy=i, environment=question.environment)
            if found is None:
                unserved += share
                continue
            accuracy, saved = recent.of(policy, found.threshold) or (
                found.accuracy,
                1.0 - found.mean_ms / base,
            )
            gain += share * (1.0 + (accuracy if question.constraint.is_budget else max(saved, 0.0)))
        here = tuple(name for name in policy.models if name not in elsewhere)
        if here:
            ways.append(Way(models=here, gain=gain, unserved=min(unserved, 1.0)))
    singles = {
        model: recent.accuracy(model) or accuracies.get(model, 0.0)
        for model in bundle.by_accuracy
        if model not in elsewhere
    }
    return TaskWorth(name=name, ways=tuple(ways), singles=singles, answers=weight)


class _Inputs:
    """Recent inputs, as far as the scores of the models tell how they would be answered."""

    def __init__(self, bundle: Bundle, answers: Sequence[Answered], costs: DeviceCosts) -> None:
        inputs = [policy for policy in bundle.policies if isinstance(policy, InputPolicy)]
        alike = all(isinstance(policy, InputPolicy) or len(policy.models) == 1 for policy in bundle.policies)
        self._order = inputs[0].order if inputs else ()
        self._costs = costs
        self._base = costs.models[bundle.reference]
        rows = [
            answer.scores
            for answer in answers
            if answer.scores is not None and len(answer.scores) == len(self._order)
        ]
        self._scores: NDArray[np.float64] | None = None
        if alike and inputs and len(rows) >= MIN_SCORED_INPUTS:
            self._scores = np.asarray(rows, np.float64).clip(0.0, 1.0)

    def accuracy(self, model: str) -> float | None:
        """Expected share of right answers of one model."""
        if self._scores is None or model not in self._order:
            return None
        return float(self._scores[:, self._order.index(model)].mean())

    def of(self, policy: Policy, threshold: float) -> tuple[float, float] | None:
        """Expected share of right answers, and share of the reference model's time that is saved."""
        if self._scores is None or any(name not in self._order for name in policy.models):
            return None
        scores = self._scores[:, [self._order.index(name) for name in policy.models]]
        picks = np.zeros(len(scores), np.intp)
        overhead = 0.0
        if isinstance(policy, InputPolicy):
            picks = next_action(scores, policy.costs_ms, threshold, policy.rule)
            overhead = self._costs.selector_ms
        times = np.array([self._costs.models[name] for name in policy.models])[picks] + overhead
        accuracy = float(scores[np.arange(len(scores)), picks].mean())
        return accuracy, 1.0 - float(times.mean()) / self._base
