"""Chains of models: what runs next after each."""

from __future__ import annotations

from dataclasses import dataclass

Chain = tuple[str, ...]


@dataclass(frozen=True)
class PlanState:
    """A state of a plan: what has run, and which models may run next."""

    ran: Chain
    actions: tuple[Chain, ...]
    costs_ms: tuple[float, ...]
