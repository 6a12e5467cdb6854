"""What was compared, for people to read: the best candidate of every kind, and for every byte budget."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from training.certificates.aim import Aim
from training.search.candidates import Candidate
from training.search.choice import standing
from zoo.errors import DataError
from zoo.models.zoo import Zoo


def within_bytes(candidates: list[Candidate], zoo: Zoo, max_bytes: int | None) -> list[Candidate]:
    if max_bytes is None:
        return candidates
    sizes = {card.name: card.size_bytes for card in zoo.cards}
    small = [c for c in candidates if sum(sizes[name] for name in c.models) <= max_bytes]
    if not small:
        raise DataError(
            f"expected a budget that some model fits into, got {max_bytes:,} bytes; "
            f"the smallest needs {min(sizes.values()):,}."
        )
    return small


def comparisons(
    candidates: Sequence[Candidate], chosen: Candidate, aim: Aim
) -> tuple[CandidateComparison, ...]:
    best: dict[str, Candidate] = {}
    for candidate in sorted(candidates, key=lambda item: standing(item, aim), reverse=True):
        best.setdefault(candidate.label, candidate)
    best[chosen.label] = chosen
    rows = []
    for candidate in best.values():
        point = aim.nearest(candidate.frontier)
        rows.append(
            CandidateComparison(
                kind=candidate.kind,
                label=candidate.label,
                models=candidate.models,
                reaches=aim.slack(point) >= 0,
                accuracy=point.accuracy,
                mean_ms=aim.time_ms(point),
                chosen=candidate is chosen,
            )
        )
    return tuple(rows)


def by_storage(candidates: Sequence[Candidate], zoo: Zoo, aim: Aim) -> tuple[StorageRow, ...]:
    """The best policy for growing byte budgets: only where more bytes buy something."""
    sizes = {card.name: card.size_bytes for card in zoo.cards}
    sized = sorted(
        ((sum(sizes[name] for name in c.models), c) for c in candidates),
        key=lambda pair: (pair[0], pair[1].label),
    )
    rows: list[StorageRow] = []
    best: tuple[float, ...] | None = None
    for size, candidate in sized:
        rank = standing(candidate, aim)
        if best is not None and rank <= best:
            continue
        point = aim.nearest(candidate.frontier)
        row = StorageRow(
            size_bytes=size,
            models=candidate.models,
            reaches=aim.slack(point) >= 0,
            accuracy=point.accuracy,
            mean_ms=aim.time_ms(point),
        )
        smaller = [one for one in rows if one.size_bytes < size]
        # what is only surer to be certified is no reason to hold more
        if not smaller or _better(row, smaller[-1]):
            best, rows = rank, [*smaller, row]
    return tuple(rows)


def _better(row: StorageRow, other: StorageRow) -> bool:
    return (row.reaches, row.accuracy) > (other.reaches, other.accuracy) or row.mean_ms < other.mean_ms


class CandidateComparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What cross-validation on the fit and tune samples says of one kind of policy."""

    kind: str
    label: str  # what it is, in words
    models: tuple[str, ...]
    reaches: bool  # whether it is likely to be certified
    accuracy: float  # at the threshold that serves the constraint best, else the one that comes closest
    mean_ms: float
    chosen: bool


class StorageRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The best policy whose models fit into so many bytes."""

    size_bytes: int
    models: tuple[str, ...]
    reaches: bool
    accuracy: float
    mean_ms: float
