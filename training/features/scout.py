"""Scout: a tiny convolutional network that looks at the pixels the features read and guesses who is right.

It learns from outcomes, one output per model (is its answer right?), and costs a few microseconds. Its
log-odds are features like any other: tuning decides whether they earn their cost. Where later stages learn
from the same samples, they take log-odds out of fold, from scouts that did not see the sample's original
(stacking, Wolpert 1992; :func:`training.search.input_fit.out_of_fold`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from training.features.operators import OperatorList
from zoo.errors import DataError
from zoo.models.session import open_session

PREFIX = "scout_"
CHANNELS = (24, 32)
PATCHES_PER_AXIS = 8  # patches per axis of the first layer
_METADATA = "models"

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Scout:
    """A trained scout.

    Parameters
    ----------
    models
        The M models, in the order of the outputs.
    grid
        Pixels per axis.
    weights
        ``patch`` ``[24, 1, p, 3 p]``, ``middle`` ``[32, 24, 3, 3]``, ``last`` ``[32, M]``, each with its
        ``*_bias``; for pixels on the scale 0..255, channels side by side as columns.
    """

    models: tuple[str, ...]
    grid: int
    weights: dict[str, Floats]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its features."""
        return tuple(f"{PREFIX}{name}" for name in self.models)

    def append_to(self, operators: OperatorList, pixels: str) -> str:
        """Append the network; `pixels` is a value float32 ``[N, 1, grid, 3 * grid]``. Log-odds ``[N, M]``."""
        g, size = operators, self.grid // PATCHES_PER_AXIS
        w = {name: g.constant(value, name=f"{PREFIX}{name}") for name, value in self.weights.items()}
        value = g.add("Conv", pixels, w["patch"], w["patch_bias"], strides=[size, 3 * size])
        value = g.add(
            "Conv", g.add("Relu", value), w["middle"], w["middle_bias"], strides=[2, 2], pads=[1, 1, 1, 1]
        )
        mean = g.add("Flatten", g.add("GlobalAveragePool", g.add("Relu", value)))
        return g.add("Gemm", mean, w["last"], w["last_bias"])

    def to_onnx(self) -> bytes:
        """The graph ``pixels`` uint8 ``[N, grid, grid, 3]`` → ``log_odds`` float32 ``[N, M]``, to store."""
        g = OperatorList()
        flat = g.add("Reshape", "pixels", g.constant([0, 1, self.grid, 3 * self.grid]))
        output = self.append_to(g, g.add("Cast", flat, to=TensorProto.FLOAT))
        shape: list[str | int | None] = ["N", self.grid, self.grid, 3]
        model = g.to_onnx(
            [helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape)],
            {"log_odds": (output, len(self.models))},
        )
        helper.set_model_props(model, {_METADATA: "\n".join(self.models)})
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    @classmethod
    def from_onnx(cls, content: bytes) -> Scout:
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
            return cls(tuple(properties[_METADATA].split("\n")), grid, weights)
        except Exception as error:  # protobuf raises classes of its own
            raise DataError(
                f"expected the ONNX graph of a scout, got: {str(error)[:200]!r}. Run 'zooselect fit' again."
            ) from error

    def log_odds(self, pixels: Pixels) -> Floats:
        """Log-odds float32 ``[n, M]`` that each model is right, of pixels uint8 ``[n, grid, grid, 3]``."""
        check_pixels(pixels, self.grid)
        parts = [
            self._session.run(["log_odds"], {"pixels": np.ascontiguousarray(pixels[i : i + 1024])})[0]
            for i in range(0, len(pixels), 1024)
        ]
        return np.concatenate([np.empty((0, len(self.models)), np.float32), *parts])

    @cached_property
    def _session(self) -> ort.InferenceSession:
        return open_session(self.to_onnx(), name="scout")


def check_pixels(pixels: Pixels, grid: int) -> None:
    """Raise :class:`DataError` for other pixels than a scout takes."""
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (grid, grid, 3) or grid < 16 or grid % 16:
        raise DataError(
            f"expected pixels uint8 [n, {grid}, {grid}, 3] with a grid that is a multiple of 16, "
            f"got {pixels.dtype} {list(pixels.shape)}. Read them with load_pixels."
        )
