"""Cascades of recalibrated models whose answers are pooled: scaled logits, added up, decide how to go on."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from selector.policies.rules import DecisionCosts, Floats, sigmoid_of
from zoo.types import ModelName

MAX_WEIGHTS = 2**16  # numbers of one matrix


class PoolStage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model, how its logits are recalibrated, and how sure the pool is once it has answered.

    Recalibrated logits are ``scale * logits + bias + inputs @ weights``: vector scaling without `weights`,
    matrix scaling where the inputs are the logits (Guo et al. 2017), and a new last layer where they are the
    model's embedding, its second output.
    """

    model: ModelName
    scale: float
    bias: tuple[float, ...] = ()  # one a class; empty: none
    weights: tuple[tuple[float, ...], ...] = ()  # one row an input; empty: none
    inputs: Literal["logits", "embedding"] = "logits"
    slope: Annotated[float, Meta(ge=0)]  # P(the pool is right) = sigmoid(slope * margin + offset)
    offset: float

    def __post_init__(self) -> None:
        rows, widths = len(self.weights), {len(row) for row in self.weights}
        square = self.inputs == "embedding" or widths <= {rows}
        if len(widths) > 1 or not square or rows * sum(widths) > MAX_WEIGHTS:
            raise ValueError(
                f"weights: expected {'a square' if self.inputs == 'logits' else 'one'} matrix of at most "
                f"{MAX_WEIGHTS:,} numbers, got {rows} rows of {sorted(widths)}"
            )
        if self.inputs == "embedding" and not self.weights:
            raise ValueError("weights: expected some for the embedding, got none")
        if self.bias and self.weights and {len(self.bias)} != widths:
            raise ValueError(f"bias: expected {max(widths)}, one a column of weights, got {len(self.bias)}")

    @property
    def classes(self) -> int | None:
        """The number of classes that it is for; None: any."""
        return len(self.bias) or (len(self.weights[0]) if self.weights else None)

    def scaled(self, row: Sequence[float]) -> list[float]:
        """Recalibrated logits of one row, without weights; as :class:`Scaling` has them, bit for bit."""
        scale = self.scale
        if not self.bias:
            return [value * scale for value in row]
        return [value * scale + bias for value, bias in zip(row, self.bias, strict=True)]

    def probability(self, margin: float) -> float:
        """Estimated probability that the pool's answer is right."""
        return sigmoid_of(self.slope * margin + self.offset)


class PoolPolicy(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="pool"
):
    """Run the cheapest model first; go on while the pool of all that ran is not sure enough.

    The pool is the mean of the recalibrated logits (a logarithmic opinion pool), its answer the class with
    the largest, its margin the largest minus the second largest. After stage i the pool answers where its
    margin reaches the i-th number of a setting; the last stage answers whatever comes to it.

    What is turned is the price of a millisecond in right answers: a price takes the setting of the nearest
    lower one of `prices`, or of the first.
    """

    stages: Annotated[tuple[PoolStage, ...], Meta(min_length=1)]  # cheapest first
    prices: Annotated[tuple[Annotated[float, Meta(ge=0)], ...], Meta(min_length=1, max_length=1000)]
    settings: tuple[tuple[float, ...], ...]  # one a price: margins that are enough, one a stage but the last

    needs_features: ClassVar[bool] = False
    threshold_is_probability: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if list(self.prices) != sorted(set(self.prices)):
            raise ValueError("prices: expected distinct ones in ascending order")
        wanted = len(self.stages) - 1
        if len(self.settings) != len(self.prices) or any(len(one) != wanted for one in self.settings):
            raise ValueError(
                f"settings: expected {len(self.prices)}, one a price, each of {wanted} margins, one a stage "
                "but the last"
            )
        if len(set(self.models)) != len(self.stages):
            raise ValueError(f"stages: expected different models, got {', '.join(self.models)}")
        if len({stage.classes for stage in self.stages} - {None}) > 1:
            raise ValueError("stages: expected the same number of classes in all")

    @property
    def models(self) -> tuple[str, ...]:
        """Models of the chain, cheapest first."""
        return tuple(stage.model for stage in self.stages)

    @property
    def classes(self) -> int | None:
        """The number of classes that it is for; None: any."""
        return next((stage.classes for stage in self.stages if stage.classes is not None), None)

    def setting(self, price: float) -> tuple[float, ...]:
        """Margins that are enough, one a stage but the last."""
        return self.settings[max(bisect.bisect_right(self.prices, price) - 1, 0)]

    def decision_ms(self, costs: DecisionCosts, ran: int) -> float:
        """Milliseconds until `ran` models have run: to recalibrate, to add up and to decide."""
        return costs.confidence_ms * ran


@dataclass(frozen=True, slots=True)
class Scaling:
    """How one model's logits are recalibrated, as arrays."""

    scale: float
    bias: Floats | None  # [C]
    weights: Floats | None  # [C, C], or [D, C] for the embedding
    on_embedding: bool = False

    @classmethod
    def of(cls, stage: PoolStage) -> Self:
        """The arrays of a stored stage."""
        bias = np.array(stage.bias) if stage.bias else None
        weights = np.array(stage.weights) if stage.weights else None
        return cls(stage.scale, bias, weights, stage.inputs == "embedding")

    def __call__(self, logits: NDArray[np.floating], embedding: NDArray[np.floating] | None = None) -> Floats:
        """Recalibrated logits float64 ``[N, C]`` of logits ``[N, C]``, each row as if it were alone.

        Parameters
        ----------
        embedding
            ``[N, D]``, where the weights are for it.
        """
        wide = logits.astype(np.float64, order="C")  # as rows of one kind, whatever they come from
        scaled: Floats = wide * self.scale
        if self.bias is not None:
            scaled += self.bias
        if self.weights is not None:
            inputs = wide if embedding is None else embedding.astype(np.float64, order="C")
            # as N products of one row each: a product of N rows at once is rounded otherwise
            scaled += np.matmul(inputs[:, np.newaxis], self.weights)[:, 0]
        return scaled


def margin_of(total: Sequence[float], count: int) -> float:
    """:func:`margins` of one row."""
    row = sorted(total)
    return (row[-1] - row[-2]) / count


def margins(total: Floats, count: int) -> list[float]:
    """How sure pools are: largest minus second largest mean, from sums ``[N, C]`` over `count` models."""
    if len(total) == 1:  # without numpy's overhead
        return [margin_of(total[0].tolist(), count)]
    top = np.partition(total, total.shape[1] - 2, axis=1)[:, -2:]
    found: list[float] = ((top[:, 1] - top[:, 0]) / count).tolist()
    return found


def stopping(margins_of: Sequence[Floats], setting: Sequence[float]) -> NDArray[np.intp]:
    """The stage ``[N]`` at which each input stops, from margins ``[N]`` after every stage."""
    stops = np.full(len(margins_of[0]), len(margins_of) - 1, np.intp)
    for i in reversed(range(len(setting))):
        stops[margins_of[i] >= setting[i]] = i
    return stops
