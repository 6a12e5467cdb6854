"""Staged policies: after every model, learned scores say how to go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from selector.policies.rules import DecisionCosts, Rule, next_action_of
from zoo.types import ModelName, Sha256, check_relative


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What can be done once the models `ran` have answered, and the graph that tells how promising it is.

    The graph takes ``logits`` float32 ``[N, K, C]`` of the models that ran (and ``features`` float32
    ``[N, F]`` where the policy uses them), and returns ``answer``, class probabilities ``[N, C]``, and
    ``scores`` ``[N, 1 + A]``: the probability that stopping here is right, then for each action the
    probability that the answer after it is right.
    """

    ran: Annotated[tuple[ModelName, ...], Meta(min_length=1)]
    actions: tuple[Annotated[tuple[ModelName, ...], Meta(min_length=1)], ...]  # models to run next, in order
    costs_ms: tuple[Annotated[float, Meta(ge=0)], ...]  # of each action, as they were when it was fitted
    file: str  # path of the graph inside the bundle
    sha256: Sha256
    size_bytes: Annotated[int, Meta(ge=1)]

    def __post_init__(self) -> None:
        check_relative(self.file)
        if len(self.costs_ms) != len(self.actions):
            raise ValueError(
                f"costs_ms: expected {len(self.actions)}, one an action, got {len(self.costs_ms)}"
            )

    @property
    def ways_ms(self) -> tuple[float, ...]:
        """Costs of stopping and of each action, as the scores have them."""
        return (0.0, *self.costs_ms)

    def next(self, scores: Sequence[float], threshold: float, rule: Rule) -> str | None:
        """The model to run next, from the scores of stopping and of each action; None: stop here."""
        pick = next_action_of(scores, self.ways_ms, threshold, rule) if self.actions else 0
        return None if pick == 0 else self.actions[pick - 1][0]


class StagedPolicy(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="staged"
):
    """Run a first model, then decide with learned scores whether to stop or which models to run next.

    With one action a state this is a learned cascade; with several, the first model is a probe that sends the
    input on. After the first model of an action has run, the next state decides anew.

    With the rule ``threshold`` stopping counts as an action without cost, and the cheapest action whose score
    reaches the threshold is taken, else the one with the largest score. With the rule ``price`` the action
    with the largest ``score - threshold * cost_ms`` is taken: more time has to be worth its price.
    """

    states: Annotated[tuple[State, ...], Meta(min_length=1)]  # the first has one model: it always runs
    rule: Rule
    committee: bool  # answer with the mean probability of all that ran, else with the last model's
    features: tuple[str, ...] = ()  # input features that the states' graphs need, in their order

    def __post_init__(self) -> None:
        known = [state.ran for state in self.states]
        if len(set(known)) != len(known) or len(known[0]) != 1:
            raise ValueError("states: expected distinct ones, the first with one model")
        for state in self.states:
            if state.ran[:1] != known[0]:
                raise ValueError(f"states: expected all to begin with {known[0][0]}, got {list(state.ran)}")
            for action in state.actions:
                if (*state.ran, action[0]) not in known or set(action) & set(state.ran):
                    raise ValueError(f"states: nothing says what to do after {[*state.ran, action[0]]}")

    @property
    def models(self) -> tuple[str, ...]:
        """Models that may run, in the order in which they first appear."""
        return tuple(dict.fromkeys(name for state in self.states for name in state.ran))

    @property
    def needs_features(self) -> bool:
        """Whether the states' graphs take input features."""
        return bool(self.features)

    @property
    def threshold_is_probability(self) -> bool:
        """Whether the threshold is a probability of being right, or the price of a millisecond."""
        return self.rule == "threshold"

    def is_of_last(self, ran: tuple[str, ...]) -> bool:
        """Whether the answer after these models is the last one's, so that its logits say all."""
        return len(ran) == 1 or not self.committee

    def decision_ms(self, costs: DecisionCosts, ran: int) -> float:
        """Milliseconds of all decisions until `ran` models have run."""
        return costs.stage_ms * ran + (costs.selector_ms if self.features else 0.0)
