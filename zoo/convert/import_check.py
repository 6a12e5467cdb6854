"""Checking a wrapped foreign model by running it: answers, batches, and agreement with the original."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from zoo.errors import ClassMismatchError, ModelError, ParityError
from zoo.models.model import open_session

_TOLERANCE = 1e-3  # of the largest logit; float16 networks and batches summed in another order need it

Floats = NDArray[np.float32]


def check_answers(
    content: bytes,
    original: onnx.ModelProto,
    front: onnx.ModelProto,
    *,
    ends: tuple[str, str],
    resolution: tuple[int, int],
    classes: int,
    probabilities: bool,
    freed: bool,
    name: str,
) -> None:
    """Run a wrapped model on random images, alone and in a batch, beside the model that it was made from.

    Parameters
    ----------
    content
        The wrapped model under the model contract.
    original, ends
        The foreign model as it was, and the names of its input and output.
    front
        The preprocessing that was put in front of it.
    probabilities
        Whether the original returns probabilities.
    freed
        Whether the original had a fixed batch size.

    Raises
    ------
    ClassMismatchError
        When the answer is not `classes` wide.
    ModelError
        When it cannot be run, answers a batch differently from its images, or returns what it should not.
    ParityError
        When it does not answer like the original.
    """
    rng = np.random.default_rng(0)
    images: NDArray[np.uint8] = rng.integers(0, 256, (2, *resolution, 3), dtype=np.uint8)
    try:
        session = open_session(content, name=name)
        single = [_run(session, {"image": images[i : i + 1]}, "logits", name) for i in range(2)]
        together = _run(session, {"image": images}, "logits", name)
    except ModelError as error:
        if not freed:
            raise
        raise ModelError(
            f"model {name!r}: its fixed batch size is built into the graph and cannot be made free; export "
            f"it again with a free (dynamic) batch axis. The attempt ended with: {error}"
        ) from error
    if single[0].shape != (1, classes):
        raise ClassMismatchError(
            f"model {name!r}: expected one answer per class, [1, {classes}] for {classes} classes, got "
            f"{list(single[0].shape)}. Give as many class names as the output is wide, in its order."
        )
    apart = np.concatenate(single)
    if not np.isfinite(apart).all():
        raise ModelError(f"model {name!r}: expected finite answers, got NaN or infinite ones.")
    _check_kind(apart, probabilities, name)
    expected = _original_answers(original, front, images, ends, name)
    if probabilities:
        expected = np.log(np.maximum(expected, np.float32(1e-7)))
    if _apart(apart, expected.reshape(apart.shape)) > _TOLERANCE:
        raise ParityError(
            f"model {name!r}: expected the wrapped graph to answer like the original, but it does not. "
            "Export the network again with a free batch axis and opset 18 or newer."
        )
    if together.shape != apart.shape or _apart(together, apart) > _TOLERANCE:
        raise ModelError(
            f"model {name!r}: expected two images in one batch to be answered like one by one, but they are "
            "not. Its batch size is built into the graph; export it again with a free (dynamic) batch axis."
        )


def _check_kind(logits: Floats, probabilities: bool, name: str) -> None:
    sums = np.exp(logits.astype(np.float64)).sum(axis=1)
    if probabilities and np.abs(sums - 1).max() > 0.02:
        raise ModelError(
            f"model {name!r}: expected probabilities that sum to 1, got outputs that do not. "
            "They are probably logits; say so with output_kind='logits'."
        )
    sums = logits.astype(np.float64).sum(axis=1)
    if not probabilities and logits.min() >= 0 and np.abs(sums - 1).max() < 1e-3:
        raise ModelError(
            f"model {name!r}: expected logits, got outputs between 0 and 1 that sum to 1. "
            "They are probably probabilities; say so with output_kind='probabilities'."
        )


def _original_answers(
    original: onnx.ModelProto,
    front: onnx.ModelProto,
    images: NDArray[np.uint8],
    ends: tuple[str, str],
    name: str,
) -> Floats:
    """What the original returns for each image, repeated where its batch size is fixed."""
    pixels = open_session(front.SerializeToString(), name=name).run(None, {"image": images})[0]
    session = open_session(original.SerializeToString(), name=name)
    batch = next(item.shape[0] for item in session.get_inputs() if item.name == ends[0])
    copies = batch if isinstance(batch, int) else 1
    answers = [
        _run(session, {ends[0]: np.repeat(pixels[i : i + 1], copies, axis=0)}, ends[1], name)
        for i in range(len(images))
    ]
    return np.stack([answer[:1].reshape(-1) for answer in answers]).astype(np.float32)


def _apart(left: Floats, right: Floats) -> float:
    return float(np.abs(left - right).max() / max(float(np.abs(right).max()), 1e-6))


def _run(session: Any, feed: dict[str, Any], output: str, name: str) -> Floats:
    try:
        answer: Floats = session.run([output], feed)[0]
    except Exception as error:  # ONNX Runtime raises a family of unrelated classes
        raise ModelError(
            f"model {name!r}: expected it to answer random images, got: "
            f"{str(error).strip().splitlines()[0][:200]}. Check resolution and layout."
        ) from error
    return answer
