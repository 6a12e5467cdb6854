"""A scout of signals: a tiny one-dimensional network; see :mod:`training.features.scout`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from training.features.feature_kind import Readings
from training.features.operators import OperatorList
from training.features.scout import PREFIX, Floats
from zoo.errors import DataError
from zoo.models.session import open_session

PATCH = 8  # samples
EMBEDDED = 6  # numbers that a byte becomes
CHANNELS = (24, 32)
_METADATA, _TYPE = "models", "type"
_SCALES = {"int16": 1 / 32768, "float32": 1.0}


@dataclass(frozen=True, eq=False)
class SignalScout:
    """A trained scout.

    Parameters
    ----------
    models
        The M models, in the order of the outputs.
    grid
        Samples that it reads.
    kind
        Type of a sample.
    weights
        ``embedding`` ``[256, 6]`` for bytes, ``patch`` ``[8 · 6 or 8, 24]``, ``middle`` ``[2 · 24, 32]``,
        ``last`` ``[2 · 32, M]``, each with its ``*_bias``.
    """

    models: tuple[str, ...]
    grid: int
    kind: str
    weights: dict[str, Floats]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its features."""
        return tuple(f"{PREFIX}{name}" for name in self.models)

    def append_to(self, operators: OperatorList, readings: str) -> str:
        """Append the network; `readings` is a value ``[N, grid]`` of samples. Log-odds ``[N, M]``."""
        g, patches = operators, self.grid // PATCH
        w = {name: g.constant(value, name=f"{PREFIX}{name}") for name, value in self.weights.items()}
        if self.kind == "uint8":
            value = g.add("Gather", w["embedding"], g.add("Cast", readings, to=TensorProto.INT32), axis=0)
        else:
            value = g.add("Cast", readings, to=TensorProto.FLOAT)
            value = g.add("Mul", value, g.constant(_SCALES[self.kind]))
        value = g.add("Reshape", value, g.constant([0, patches, len(self.weights["patch"])]))
        value = g.add("Relu", g.add("Add", g.add("MatMul", value, w["patch"]), w["patch_bias"]))
        value = g.add("Reshape", value, g.constant([0, patches // 2, 2 * CHANNELS[0]]))
        value = g.add("Relu", g.add("Add", g.add("MatMul", value, w["middle"]), w["middle_bias"]))
        found = [g.add(kind, value, g.constant([1]), keepdims=0) for kind in ("ReduceMean", "ReduceMax")]
        return g.add("Gemm", g.add("Concat", *found, axis=1), w["last"], w["last_bias"])

    def to_onnx(self) -> bytes:
        """The graph ``signal`` ``[N, grid]`` → ``log_odds`` float32 ``[N, M]``, to store."""
        g = OperatorList()
        output = self.append_to(g, "signal")
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.kind))
        model = g.to_onnx(
            [helper.make_tensor_value_info("signal", kind, ["N", self.grid])],
            {"log_odds": (output, len(self.models))},
        )
        helper.set_model_props(model, {_METADATA: "\n".join(self.models), _TYPE: self.kind})
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    @classmethod
    def from_onnx(cls, content: bytes) -> SignalScout:
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
            return cls(tuple(properties[_METADATA].split("\n")), grid, properties[_TYPE], weights)
        except Exception as error:  # protobuf raises classes of its own
            raise DataError(
                f"expected the ONNX graph of a scout, got: {str(error)[:200]!r}. Run 'zooselect fit' again."
            ) from error

    def log_odds(self, readings: Readings) -> Floats:
        """Log-odds float32 ``[n, M]`` that each model is right, of samples ``[n, grid]``."""
        check_samples(readings, self.grid)
        parts = [
            self._session.run(["log_odds"], {"signal": np.ascontiguousarray(readings[i : i + 1024])})[0]
            for i in range(0, len(readings), 1024)
        ]
        return np.concatenate([np.empty((0, len(self.models)), np.float32), *parts])

    @cached_property
    def _session(self) -> ort.InferenceSession:
        return open_session(self.to_onnx(), name="scout")


def check_samples(readings: Readings, grid: int) -> None:
    """Raise :class:`DataError` for other samples than a scout takes."""
    if readings.ndim != 2 or readings.shape[1] != grid or grid < 2 * PATCH or grid % (2 * PATCH):
        raise DataError(
            f"expected samples [n, {grid}] with a grid that is a multiple of {2 * PATCH}, "
            f"got {readings.dtype} {list(readings.shape)}. Read them with load_pixels."
        )
