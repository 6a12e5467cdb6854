"""Scout: a tiny network that looks at what the features read and guesses which models are right.

It learns from outcomes, one output per model (is its answer right?), and costs a few microseconds. Its
log-odds are features like any other: tuning decides whether they earn their cost. Where later stages learn
from the same samples, they take log-odds out of fold, from scouts that did not see the sample's original
(stacking, Wolpert 1992; :func:`training.search.input_fit.out_of_fold`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from training.features.feature_kind import Readings
from training.features.operators import OperatorList
from zoo.errors import DataError
from zoo.models.session import open_session

PREFIX = "scout_"
_METADATA = "models"

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Scout(ABC):
    """A trained scout; each kind of input has a class of its own.

    Parameters
    ----------
    models
        The M models, in the order of the outputs.
    grid
        How finely inputs are read, as their features say.
    weights
        Of each layer, each with its ``*_bias``.
    """

    models: tuple[str, ...]
    grid: int
    weights: dict[str, Floats]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its features."""
        return tuple(f"{PREFIX}{name}" for name in self.models)

    @abstractmethod
    def append_to(self, operators: OperatorList, readings: str) -> str:
        """Append the network to operators that have what it reads as a value; log-odds ``[N, M]``."""

    @property
    @abstractmethod
    def reading(self) -> onnx.ValueInfoProto:
        """The input of the stored graph: what features read, as a profile keeps it."""

    @property
    def properties(self) -> Mapping[str, str]:
        """What is stored beside the weights."""
        return {}

    def from_reading(self, operators: OperatorList, name: str) -> str:
        """The value that :meth:`append_to` takes, from the input of the stored graph."""
        return name

    @classmethod
    def restored(
        cls, models: tuple[str, ...], grid: int, weights: dict[str, Floats], properties: Mapping[str, str]
    ) -> Self:
        """The scout out of what was stored."""
        return cls(models, grid, weights)

    @classmethod
    @abstractmethod
    def check(cls, readings: Readings, grid: int | None = None) -> int:
        """The grid of what was read; raises :class:`DataError` for what a scout, of `grid`, cannot read."""

    def constants(self, operators: OperatorList) -> dict[str, str]:
        """The weights as constants of a graph."""
        return {
            name: operators.constant(value, name=f"{PREFIX}{name}") for name, value in self.weights.items()
        }

    def to_onnx(self) -> bytes:
        """The graph of :attr:`reading` → ``log_odds`` float32 ``[N, M]``, to store."""
        g = OperatorList()
        output = self.append_to(g, self.from_reading(g, self.reading.name))
        model = g.to_onnx([self.reading], {"log_odds": (output, len(self.models))})
        helper.set_model_props(model, {_METADATA: "\n".join(self.models), **self.properties})
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    @classmethod
    def from_onnx(cls, content: bytes) -> Self:
        """Read what :meth:`to_onnx` wrote; raises :class:`DataError` for anything else."""
        try:
            model = onnx.load_from_string(content)
            properties = {item.key: item.value for item in model.metadata_props}
            weights = {
                item.name.removeprefix(PREFIX): np.array(numpy_helper.to_array(item))
                for item in model.graph.initializer
                if item.name.startswith(PREFIX)
            }
            grid = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
            return cls.restored(tuple(properties[_METADATA].split("\n")), grid, weights, properties)
        except Exception as error:  # protobuf raises classes of its own
            raise DataError(
                f"expected the ONNX graph of a scout, got: {str(error)[:200]!r}. Run 'zooselect fit' again."
            ) from error

    def log_odds(self, readings: Readings) -> Floats:
        """Log-odds float32 ``[n, M]`` that each model is right, of what was read of n inputs."""
        self.check(readings, self.grid)
        parts = [
            self._session.run(
                ["log_odds"], {self.reading.name: np.ascontiguousarray(readings[i : i + 1024])}
            )[0]
            for i in range(0, len(readings), 1024)
        ]
        return np.concatenate([np.empty((0, len(self.models)), np.float32), *parts])

    @cached_property
    def _session(self) -> ort.InferenceSession:
        return open_session(self.to_onnx(), name="scout")
