"""Running a foreign model as it is, and the wrapped one beside it: answers, batches, and agreement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from zoo.convert.rewriting.import_graph import ending
from zoo.errors import ClassMismatchError, ModelError, ParityError
from zoo.models.session import open_session

OutputKind = Literal["logits", "probabilities"]

FLOOR = 1e-7  # smallest probability that a logarithm is taken of
_TOLERANCE = 1e-3  # of the largest logit; float16 networks and batches summed in another order need it
_SUM_TOLERANCE = 0.02  # of probabilities in half precision

Floats = NDArray[np.float32]
Images = NDArray[np.uint8]


class Back(NamedTuple):
    """How a network's outputs become one logit per class."""

    outputs: Literal["logits", "softmax", "sigmoid"]
    one_for_two: bool  # one output says how much the second of two classes is more likely than the first


def random_images(resolution: tuple[int, int]) -> Images:
    """Two images, the second one dark: operators that look at the range of a batch tell them apart."""
    rng = np.random.default_rng(0)
    images: Images = rng.integers(0, 256, (2, *resolution, 3), dtype=np.uint8)
    images[1] //= 4
    return images


def before(front: onnx.ModelProto, inputs: Any, *, name: str) -> NDArray[Any]:
    """What a front makes of inputs: the input of a network."""
    session = open_session(front.SerializeToString(), name=name)
    made: NDArray[Any] = _run(session, {front.graph.input[0].name: inputs}, name=name)
    return made


def original_answers(original: onnx.ModelProto, given: Mapping[str, NDArray[Any]], *, name: str) -> Floats:
    """What a network returns for each input alone, float32 ``[N, width]``; repeated where its batch is fixed.

    Parameters
    ----------
    original
        The foreign model, with one output.
    given
        Its inputs ``[N, …]`` by name; one without an axis of a batch takes ``[…]``.

    Raises
    ------
    ModelError
        When ONNX Runtime does not run it, what it returns are no finite real numbers, or they change.
    """
    result = original.graph.output[0].name
    session = open_session(original.SerializeToString(), name=name)
    sizes = {one.name: one.shape for one in session.get_inputs()}
    batched = {key for key, shape in sizes.items() if len(shape) == given[key].ndim}
    batch = max([sizes[key][0] for key in batched if isinstance(sizes[key][0], int)], default=1)
    count = len(next(iter(given.values())))
    answers = []
    for i in (*range(count), 0):
        feed = {
            key: np.repeat(given[key][i : i + 1], batch, axis=0) if key in batched else given[key][i]
            for key in sizes
        }
        answer = _run(session, feed, name=name, output=result)
        if not isinstance(answer, np.ndarray):
            raise ModelError(
                f"model {name!r}: expected a tensor with one number per class, but output {result!r} is a "
                "list or a map. Export the network with a tensor as its output, or name another output with "
                "--output (in Python: output=…)."
            )
        if answer.dtype.kind != "f":
            raise ModelError(
                f"model {name!r}: expected one real number per class, but output {result!r} is "
                f"{answer.dtype.name}: the chosen class, or numbers that mean something else. Name the "
                "output with logits or probabilities with --output (in Python: output=…)."
            )
        first = answer[0] if answer.ndim and len(answer) == batch else answer
        answers.append(first.reshape(-1).astype(np.float32))
    found = np.stack(answers[:-1])
    if not np.isfinite(found).all():
        raise ModelError(f"model {name!r}: expected finite answers, got NaN or infinite ones.")
    if _apart(answers[-1], found[0]) > _TOLERANCE:
        raise ModelError(
            f"model {name!r}: expected the same answer to the same image each time, got others. Its "
            "normalisation or dropout is in training mode, or it draws random numbers; export it in "
            "evaluation mode."
        )
    return found


def choose_back(
    answers: Floats, network: onnx.ModelProto, classes: int, said: OutputKind, *, name: str
) -> Back:
    """How the answers of a network become logits.

    Parameters
    ----------
    answers
        What it returned for images, float32 ``[N, width]``.
    said
        What the user says that it returns.

    Raises
    ------
    ClassMismatchError
        When it is not `classes` wide.
    ModelError
        When its answers are not what they are said to be.
    """
    width, last = answers.shape[1], ending(network)
    one_for_two = width == 1 and classes == 2
    if width != classes and not one_for_two:
        raise ClassMismatchError(
            f"model {name!r}: expected one answer per class, [1, {classes}] for {classes} classes, got "
            f"[1, {width}]. Give as many class names as the output is wide, in its order"
            + (" (two for a network with one output)." if width == 1 else ".")
        )
    inside = answers.min() >= 0 and answers.max() <= 1
    apart = np.abs(answers.astype(np.float64).sum(axis=1) - 1).max()
    if said == "logits":
        if inside and ((width > 1 and apart < 1e-3) or (one_for_two and last == "Sigmoid")):
            found = "between 0 and 1" + (" that sum to 1" if width > 1 else " from a sigmoid")
            raise ModelError(
                f"model {name!r}: expected logits, got outputs {found}. They are probably probabilities; say "
                "so with --probabilities (in Python: output_kind='probabilities')."
            )
        return Back("logits", one_for_two)
    if answers.min() < -_SUM_TOLERANCE or answers.max() > 1 + _SUM_TOLERANCE:
        raise ModelError(
            f"model {name!r}: expected probabilities, got outputs from {answers.min():.3g} to "
            f"{answers.max():.3g}. They are probably logits: leave --probabilities out (in Python: "
            "output_kind='logits')."
        )
    if width > 1 and last != "Sigmoid" and apart <= _SUM_TOLERANCE:
        return Back("softmax", one_for_two=False)
    return Back("sigmoid", one_for_two)


def as_logits(answers: Floats, back: Back) -> Floats:
    """The logits that a wrapped network has to return where the original returns `answers`."""
    floor = np.float32(FLOOR)
    if back.outputs == "softmax":
        answers = np.log(np.maximum(answers, floor))
    elif back.outputs == "sigmoid":
        answers = np.log(np.maximum(answers, floor)) - np.log(np.maximum(1 - answers, floor))
    return np.pad(answers, ((0, 0), (1, 0))) if back.one_for_two else answers


def check_answers(content: bytes, given: Mapping[str, NDArray[Any]], expected: Floats, *, name: str) -> None:
    """Run a wrapped model on inputs, alone and in a batch.

    Parameters
    ----------
    content
        The wrapped model under the model contract.
    given
        Its inputs ``[N, …]`` by name.
    expected
        The logits that it has to return for them, float32 ``[N, C]``.

    Raises
    ------
    ModelError
        When it cannot be run, or answers a batch differently from its inputs.
    ParityError
        When it does not answer like the original.
    """
    session = open_session(content, name=name)
    if isinstance(session.get_outputs()[0].shape[0], int):
        raise ModelError(
            f"model {name!r}: expected answers for any number of images, but its batch size is built into "
            "the graph; export it again with a free (dynamic) batch axis."
        )
    rows = [{key: value[i : i + 1] for key, value in given.items()} for i in range(len(expected))]
    single = [_run(session, row, name=name) for row in rows]
    together = _run(session, given, name=name)
    apart = np.concatenate(single)
    if apart.shape != expected.shape or _apart(apart, expected) > _TOLERANCE:
        raise ParityError(
            f"model {name!r}: expected the wrapped graph to answer like the original, but it does not. "
            "Export the network again with a free batch axis and opset 18 or newer."
        )
    if together.shape != apart.shape or _apart(together, apart) > _TOLERANCE:
        raise ModelError(
            f"model {name!r}: expected two images in one batch to be answered like one by one, but they are "
            "not. Its batch size is built into the graph; export it again with a free (dynamic) batch axis."
        )


def _apart(left: Floats, right: Floats) -> float:
    return float(np.abs(left - right).max() / max(float(np.abs(right).max()), 1e-6))


def _run(session: Any, feeds: Mapping[str, Any], *, name: str, output: str | None = None) -> Any:
    try:
        return session.run(None if output is None else [output], dict(feeds))[0]
    except Exception as error:  # ONNX Runtime raises a family of unrelated classes
        raise ModelError(
            f"model {name!r}: expected it to answer random inputs, got: "
            f"{str(error).strip().splitlines()[0][:200]}. Check resolution and layout."
        ) from error
