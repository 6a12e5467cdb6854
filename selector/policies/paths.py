"""Paths: the ways in which a policy can end, and the policy that takes one of them whatever the input is."""

from __future__ import annotations

from math import inf

import msgspec

from selector.policies.cascade import CascadePolicy, LookaheadPolicy
from selector.policies.input import InputPolicy
from selector.policies.policy import Policy
from selector.policies.staged import StagedPolicy, State

Path = tuple[str, ...]  # names of the models that run, in order

ALONE = "alone"  # steps of a model that answers alone
_PRICE = -1e9  # of a millisecond: the dearest way is taken, whatever its score


def paths_of(policy: Policy) -> list[Path]:
    """The ways in which a policy can end, in the order of the costs of its simulations.

    Examples
    --------
    >>> from selector.policies.paths import paths_of
    >>> paths_of(selector.policy)[:2]
    [('tiny',), ('tiny', 'full')]
    """
    if isinstance(policy, InputPolicy):
        return [(name,) for name in policy.models]
    if isinstance(policy, StagedPolicy):
        return [state.ran for state in policy.states]
    return [policy.models[: i + 1] for i in range(len(policy.models))]


def steps_of(policy: Policy) -> str:
    """What is done beside running models, in a word: paths of one kind take the same time in all policies."""
    kind = str(policy.__struct_config__.tag)
    if isinstance(policy, CascadePolicy | LookaheadPolicy) and len(policy.models) == 1:
        return ALONE  # nothing is decided
    return f"{kind}, features" if policy.needs_features and kind != "input" else kind


def forced(policy: Policy, path: Path) -> tuple[Policy, float] | None:
    """A policy and a threshold that take one path on every input, with the same work on the way.

    For measuring. None for a kind of policy that cannot be forced.
    """
    if isinstance(policy, InputPolicy):
        costs = tuple(float(name == path[0]) for name in policy.models)
        return msgspec.structs.replace(policy, rule="price", costs_ms=costs), _PRICE
    if isinstance(policy, StagedPolicy):
        states = tuple(_forced_state(state, path) for state in policy.states)
        return msgspec.structs.replace(policy, states=states, rule="price"), _PRICE
    count = len(path)
    if isinstance(policy, CascadePolicy):
        return msgspec.structs.replace(policy, stages=policy.stages[:count]), inf
    if isinstance(policy, LookaheadPolicy):
        stages = tuple(
            msgspec.structs.replace(
                stage,
                scales=(0.0,) * (count - i),
                offsets=(*(-50.0,) * (count - i - 1), 50.0),
                costs_ms=(0.0,) * (count - i - 1),
            )
            for i, stage in enumerate(policy.stages[:count])
        )
        return msgspec.structs.replace(policy, stages=stages), 0.0
    return None


def _forced_state(state: State, path: Path) -> State:
    """Goes on along the path and stops at its end: what costs less than nothing is never taken."""
    ran = len(state.ran)
    on_way = state.ran == path[:ran] and ran < len(path)
    costs = [1.0 if on_way and action[0] == path[ran] else -1.0 for action in state.actions]
    return msgspec.structs.replace(state, costs_ms=tuple(costs))
