"""Useful versions of one model: which are to be made, and which of those that were measured are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from zoo.errors import ModelError
from zoo.models.card import ModelCard

Step = Literal["resolution", "head", "int8", "distilled"]

SMALLER = (3 / 4, 5 / 8)  # of the shorter side, where no sizes are given
LEAST_SIDE = 8  # pixels
SAME_TIME = 0.98  # share of the other's time from which on two models count as equally fast
_SMALL_SIDE = 64  # pixels; resolutions up to here are multiples of 4, others of 32


@dataclass(frozen=True)
class Variant:
    """A version that can be made from a model of the zoo in one step."""

    name: str
    parent: str  # what it is made from: the model, or a variant before this one
    step: Step
    resolution: tuple[int, int]  # height, width in pixels
    student: str = ""  # size of a distilled network

    @property
    def how(self) -> str:
        """What is done, in words."""
        made = {
            "resolution": f"at {self.resolution[0]}x{self.resolution[1]} pixels",
            "head": "last layer fitted anew",
            "int8": "8 bits",
            "distilled": f"teaches a {self.student} network",
        }
        return f"{self.parent}, {made[self.step]}"


def plan_variants(
    card: ModelCard, *, sides: Sequence[int] | None = None, students: Sequence[str] = ()
) -> tuple[Variant, ...]:
    """The versions to try: each resolution as it is and in 8 bits, both also with a last layer fitted anew.

    Parameters
    ----------
    sides
        Shorter sides in pixels, below that of the model; by default 3/4 and 5/8 of it, rounded.
    students
        Sizes of networks that the model teaches; these are tried in 8 bits, too.

    Returns
    -------
    tuple
        Parents come before what is made from them.

    Raises
    ------
    ModelError
        When the model has 8 bits already, is on a server, or a side is out of range.

    Examples
    --------
    >>> from training.networks.variants import plan_variants
    >>> [variant.name for variant in plan_variants(zoo.card("full"), sides=[8])][:4]
    ['full-head', 'full-int8', 'full-int8-head', 'full-8px']
    """
    if card.remote is not None or card.compression == "int8":
        what = "one on a server" if card.remote is not None else "one in 8 bits"
        raise ModelError(
            f"expected a float model of this zoo to make versions of, got {card.name!r}, {what}. "
            "Name the float model."
        )
    short = min(card.resolution)
    if sides is None:
        sides = _usual_sides(short)
    wrong = [side for side in sides if not LEAST_SIDE <= side < short]
    if wrong:
        raise ModelError(
            f"expected resolutions from {LEAST_SIDE} to {short - 1} pixels, below the {short} of "
            f"{card.name!r}, got {wrong[0]}. Leave it out."
        )
    found: list[Variant] = []
    for side in (short, *sorted(set(sides), reverse=True)):
        height, width = (round(size * side / short) for size in card.resolution)
        size, body = (height, width), card.name
        if side != short:
            body = f"{card.name}-{side}px"
            found.append(Variant(body, card.name, "resolution", size))
        found += [
            Variant(f"{body}-head", body, "head", size),
            Variant(f"{body}-int8", body, "int8", size),
            Variant(f"{body}-int8-head", f"{body}-int8", "head", size),
        ]
    for student in students:
        body = f"{card.name}-{student}"
        found += [
            Variant(body, card.name, "distilled", card.resolution, student),
            Variant(f"{body}-int8", body, "int8", card.resolution),
        ]
    return tuple(found)


class Measured(NamedTuple):
    """What a model did on the images that judge, and how long it takes."""

    right: int  # images
    mean_ms: float


def dominated(measured: dict[str, Measured], held: Sequence[str] = ()) -> dict[str, str]:
    """Models that another one makes superfluous: it is right at least as often, in no more time.

    Going from the most accurate model down, one stays if it is faster than all that stay, by more than
    :data:`SAME_TIME` tells apart.

    Parameters
    ----------
    held
        Models that stay in any case; of equals they come first.

    Returns
    -------
    dict
        Name → name of the model that is better.

    Examples
    --------
    >>> from training.networks.variants import Measured, dominated
    >>> dominated({"a": Measured(90, 5.0), "b": Measured(88, 6.0), "c": Measured(80, 1.0)})
    {'b': 'a'}
    """
    order = sorted(
        measured, key=lambda name: (-measured[name].right, name not in held, measured[name].mean_ms)
    )
    kept: list[str] = []
    found: dict[str, str] = {}
    for name in order:
        fastest = min(kept, key=lambda one: measured[one].mean_ms, default=None)
        if fastest is None or measured[name].mean_ms < SAME_TIME * measured[fastest].mean_ms:
            kept.append(name)
            continue
        as_fast = [
            one for one in kept if measured[name].mean_ms >= SAME_TIME * measured[one].mean_ms
        ]  # the most accurate of them comes first
        found[name] = as_fast[0]
    return found


def _usual_sides(short: int) -> list[int]:
    step = 4 if short <= _SMALL_SIDE else 32
    sides = {step * round(share * short / step) for share in SMALLER}
    return sorted(side for side in sides if LEAST_SIDE <= side < short)
