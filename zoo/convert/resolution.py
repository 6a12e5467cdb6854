"""A model of the zoo at another resolution: its front resizes images to fewer pixels, its layers stay."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from zoo.convert.preprocessing_graph import PREFIX
from zoo.errors import ModelError
from zoo.models.session import open_session

MIN_SIDE = 4  # pixels


def at_resolution(content: bytes, resolution: tuple[int, int], *, name: str) -> bytes:
    """The same layers behind a front that resizes to `resolution`; a centre crop keeps its share.

    Networks of convolutions that end in a mean over all positions answer at many resolutions, with fewer
    multiplications at lower ones. They are less often right there; a new last layer makes up for some of it
    (:func:`training.networks.refit.refit_head`).

    Parameters
    ----------
    content
        ONNX file of a model of images under the model contract.
    resolution
        Height and width in pixels that the network is to see.
    name
        Of the new graph.

    Returns
    -------
    bytes
        The ONNX file. Tensors of layers are the same, byte by byte.

    Raises
    ------
    ModelError
        When the model has no front that resizes, or its layers take no other resolution than their own.

    Examples
    --------
    >>> from zoo.convert.resolution import at_resolution
    >>> at_resolution(content, (8, 8), name="small-8px")
    Traceback (most recent call last):
      ...
    zoo.errors.ModelError: model 'small-8px': expected a model with a front that resizes images, got one ...
    """
    if min(resolution) < MIN_SIDE:
        raise ModelError(
            f"model {name!r}: expected a resolution of {MIN_SIDE} pixels at least, got "
            f"{resolution[0]}x{resolution[1]}. Give a larger one."
        )
    model = onnx.load_model_from_string(content)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer if tensor.name.startswith(PREFIX)}
    resized = constants.get(f"{PREFIX}resolution")
    if resized is None:
        raise ModelError(
            f"model {name!r}: expected a model with a front that resizes images, got one without. Add the "
            "network with 'zooselect zoo add', which puts one in front of it."
        )
    old = numpy_helper.to_array(resized)
    new = np.array(resolution, np.int64)
    values = {"resolution": new}
    if f"{PREFIX}full" in constants:  # of a crop; see preprocessing_graph
        full = np.round(numpy_helper.to_array(constants[f"{PREFIX}full"]) * new / old).astype(np.int64)
        values |= {"kept": new[:, np.newaxis], "full": full, "half_full": full // 2}
    for key, value in values.items():
        constants[PREFIX + key].CopyFrom(numpy_helper.from_array(value, PREFIX + key))
    made_in_front = {output for node in graph.node if node.name.startswith(PREFIX) for output in node.output}
    for known in list(graph.value_info):
        if known.name not in made_in_front:
            graph.value_info.remove(known)  # a shape behind the front is another one now
            continue
        for axis in known.type.tensor_type.shape.dim:
            for side, other in zip(old.tolist(), resolution, strict=True):
                if axis.HasField("dim_value") and axis.dim_value == side:
                    axis.dim_value = other
                    break
    graph.name = name
    changed: bytes = model.SerializeToString(deterministic=True)
    _check_runs(changed, resolution, name)
    return changed


def _check_runs(content: bytes, resolution: tuple[int, int], name: str) -> None:
    """Raise unless the layers take the resolution and answer different images differently."""
    images = np.random.default_rng(0).integers(0, 256, (2, *resolution, 3), np.uint8)
    try:
        logits = open_session(content, name=name).run(["logits"], {"image": images})[0]
    except Exception as error:  # ONNX Runtime raises a family of unrelated classes
        raise ModelError(
            f"model {name!r}: expected layers that take {resolution[0]}x{resolution[1]} pixels, got some "
            f"that do not: {str(error).strip().splitlines()[0][:200]}. Keep its own resolution."
        ) from error
    if logits.shape[0] != len(images) or not np.isfinite(logits).all():
        raise ModelError(
            f"model {name!r}: expected an answer for each image at {resolution[0]}x{resolution[1]} pixels, "
            f"got {list(logits.shape)} or numbers that are not finite. Keep its own resolution."
        )
