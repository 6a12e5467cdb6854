"""What the paths of a policy send to servers: for budgets of bytes and of the share that is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selector.policies.constraint import Constraint
from selector.policies.paths import paths_of
from selector.policies.policy import Policy
from training.certificates.path_times import place
from zoo.errors import PrecisionError
from zoo.models.card import ModelCard

SHARES: tuple[float, ...] = (0.01, 0.02, 0.05, *(round(0.1 * i, 1) for i in range(1, 10)))  # certified
_NOTHING_KB = 0.001  # one byte: a level that policies keep which send nothing


@dataclass(frozen=True)
class Sent:
    """Kilobytes that an answer sends on each of the K paths of a policy.

    Parameters
    ----------
    costs_ms
        What simulations charge for each path.
    kb
        ``[K]``, thousands of bytes of all requests of an answer.
    remote
        ``[K]``, 1 where an answer asks a server and 0 where nothing leaves the device.
    constant
        Whether all requests to one model are known to be equally long. Otherwise `kb` prove nothing.
    """

    costs_ms: tuple[float, ...]
    kb: NDArray[np.float64]
    remote: NDArray[np.float64]
    constant: bool

    @classmethod
    def of(cls, policy: Policy, cards: Sequence[ModelCard], costs_ms: Sequence[float]) -> Sent | None:
        """What a policy sends; None in a zoo without remote models.

        Parameters
        ----------
        cards
            Of the zoo.
        costs_ms
            In the order of :func:`selector.policies.paths.paths_of`.
        """
        sizes = {card.name: card.remote.uplink_bytes / 1e3 for card in cards if card.remote is not None}
        if not sizes:
            return None
        paths = paths_of(policy)
        kb = np.array([sum(sizes.get(name, 0.0) for name in path) for path in paths])
        remote = np.array([float(bool(sizes.keys() & set(path))) for path in paths])
        used = [card for card in cards if card.name in policy.models]
        return cls(tuple(costs_ms), kb, remote, not any(map(_why_unknown, used)))

    def kb_of(self, costs_ms: NDArray[np.floating]) -> NDArray[np.float64]:
        """Kilobytes ``[n]`` of answers that were charged `costs_ms` ``[n]``; of equal charges the largest."""
        return place(self.costs_ms, costs_ms, self.kb)

    def remote_of(self, costs_ms: NDArray[np.floating]) -> NDArray[np.float64]:
        """1 for answers ``[n]`` that asked a server, by what they were charged."""
        return place(self.costs_ms, costs_ms, self.remote)

    def constraints(self) -> list[Constraint]:
        """Budgets worth certifying."""
        high = float(self.kb.max())
        shares = SHARES if self.remote.any() else SHARES[:1]
        levels = [Constraint(kind="max_remote", level=share) for share in shares]
        if self.constant:
            sizes = [share * high for share in (*SHARES, 1.0)] if high > 0 else [_NOTHING_KB]
            levels += [Constraint(kind="mean_uplink_kb", level=size) for size in sizes]
        return levels


def check_provable(constraint: Constraint, cards: Sequence[ModelCard]) -> None:
    """Raise :class:`PrecisionError` for a budget of the network that means or proves nothing in a zoo."""
    if not constraint.on_network:
        return
    remote = [card for card in cards if card.remote is not None]
    if not remote:
        raise PrecisionError(
            f"expected a zoo with a remote model for {constraint}, got none: nothing is sent. "
            "Ask for a precision or a budget of time, or add one with 'zooselect zoo add --remote'."
        )
    unknown = {card.name: why for card in remote if (why := _why_unknown(card))}
    if constraint.kind == "mean_uplink_kb" and unknown:
        raise PrecisionError(
            "expected remote models with requests of one known length for mean_uplink_kb, got "
            f"{'; '.join(f'{name}: {why}' for name, why in unknown.items())}. Ask for max_remote "
            "(--max-remote), which bounds how many inputs are sent, or add the model again with tensors."
        )


def _why_unknown(card: ModelCard) -> str:
    """Why the length of all requests for a model is not known; empty where it is, or none is sent."""
    if card.remote is None:
        return ""
    if card.remote.encoding != "tensor":
        return f"images are sent as {card.remote.encoding}, in as many bytes as each needs"
    if any(one.shape.count(-1) for one in card.remote.arrays or ()):
        return f"{card.kind.noun}s are sent in the length that they come in"
    if card.remote.input_layout in ("nhwc", "nchw") and card.remote.pixels.size is None:
        return "images are sent in the size that they come in"
    return "" if card.remote.uplink_bytes else "the bytes of a request were not measured"
