"""What differs between kinds of input where features are computed: the pool, what it reads, and the scout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from zoo.inputs.kind import Batch, InputKind, Item, Size

if TYPE_CHECKING:
    import onnx

    from training.features.operators import OperatorList

Readings: TypeAlias = NDArray[Any]  # what features read of inputs [N, ...], of a fixed shape


class ScoutLike(Protocol):
    """A tiny network that reads what features read and guesses which models are right."""

    @property
    def models(self) -> tuple[str, ...]: ...
    @property
    def grid(self) -> int: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    def append_to(self, operators: OperatorList, readings: str) -> str: ...
    def to_onnx(self) -> bytes: ...
    def log_odds(self, readings: Readings) -> NDArray[np.float32]: ...


class FeatureKind(ABC):
    """Features of one kind of input.

    Heavy packages are imported in the methods that need them: workers of a cluster only read.

    Parameters
    ----------
    kind
        The kind of input, with its settings.
    """

    version: ClassVar[int]  # raised when a feature's meaning changes or features come
    earlier: ClassVar[Mapping[int, tuple[str, ...]]] = {}  # version → its features, where they mean the same

    def __init__(self, kind: InputKind) -> None:
        self.kind = kind

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """All features of the pool."""

    @property
    @abstractmethod
    def watched(self) -> tuple[str, ...]:
        """Features that tell whether inputs have changed."""

    @abstractmethod
    def stages(self, name: str) -> frozenset[str]:
        """Parts of the work that a feature needs; those that several need run once."""

    @abstractmethod
    def operators(self, names: Sequence[str], grid: int, scout: ScoutLike | None) -> tuple[OperatorList, str]:
        """The operators of features, and the value float32 ``[N, F]`` that holds them.

        Raises
        ------
        DataError
            For an unknown feature name or an unsuitable grid.
        """

    # what they read

    @abstractmethod
    def grid_for(self, items: Sequence[Item]) -> int:
        """How finely inputs like these are read."""

    @abstractmethod
    def reading(self, grid: int) -> tuple[tuple[int, ...], type[np.generic]]:
        """Shape and type of what is read of one input."""

    @abstractmethod
    def read(self, batch: Batch, grid: int) -> Readings:
        """What features of a batch depend on."""

    # a scout; kinds without one leave these out

    def fit_scout(
        self, readings: Readings, right: NDArray[np.bool_], models: Sequence[str], *, seed: int = 0
    ) -> ScoutLike:
        """Train a scout on outcomes."""
        raise NotImplementedError(f"{self.kind} has no scout")

    def scout_from(self, content: bytes) -> ScoutLike:
        """Read what a scout's ``to_onnx`` wrote; raises :class:`DataError` for anything else."""
        raise NotImplementedError(f"{self.kind} has no scout")

    has_scout: ClassVar[bool] = False

    # checks

    def timed_size(self, grid: int) -> Size:
        """Of the input that costs are measured on."""
        return self.kind.default_size

    def synthetic(self) -> list[Batch]:
        """Batches of several forms, on which graphs are compared with torch."""
        rng = np.random.default_rng(0)
        width = self.kind.default_size[1]
        sizes = [(1, 1), (1, 7), (1, width), (1, 5 * width)]
        return [self.kind.stack([self.kind.random(size, rng) for _ in range(3)]) for size in sizes]

    def graph(self, names: Sequence[str], *, grid: int, scout: ScoutLike | None = None) -> onnx.ModelProto:
        """The graph from an input of this kind to ``features`` float32 ``[N, F]``.

        Raises
        ------
        DataError
            For an unknown feature name or an unsuitable grid.
        """
        from onnx import helper

        operators, output = self.operators(names, grid, scout)
        inputs = [
            helper.make_tensor_value_info(
                one.name, helper.np_dtype_to_tensor_dtype(np.dtype(one.type)), one.axes
            )
            for one in self.kind.inputs
        ]
        return operators.to_onnx(inputs, {"features": (output, len(names))})


_KINDS: dict[str, type[FeatureKind]] = {}
Class = TypeVar("Class", bound=type[FeatureKind])


def register_features(name: str) -> Any:
    """Make features known for the kind of input with this name; a decorator."""

    def registering(found: Class) -> Class:
        _KINDS[name] = found
        return found

    return registering


def registered_features(kind: InputKind) -> FeatureKind:
    """The features of a kind of input; raises KeyError where there are none."""
    return _KINDS[kind.name](kind)
