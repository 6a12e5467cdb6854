"""One ONNX model: verified bytes in, images or other inputs to logits, on a fixed number of threads."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from zoo.errors import LimitError, ModelError, NotFiniteError, ZooError
from zoo.files import read_verified
from zoo.inputs.kind import TYPES, Batch, GraphInput
from zoo.inputs.kinds import kind_of
from zoo.models.card import ModelCard
from zoo.models.limits import RunLimits
from zoo.models.runs import OneByOne, Runs
from zoo.models.runs import all_finite as all_finite
from zoo.models.session import first_line, open_session
from zoo.providers import CPU, Provider
from zoo.remote.descriptor import FEATURES, decode_remote

if TYPE_CHECKING:
    from zoo.remote.runs import RemoteRuns

EMBEDDING = "embedding"  # the second output of a model that gives the input of its last layer
_LOGITS = ["logits"]
_TYPES = {stored: name for name, stored in TYPES.items()}


class Model:
    """A zoo model that is ready to answer.

    Parameters
    ----------
    card
        The model's facts; the graph is checked against them.
    content
        Bytes of the ONNX file. They are not verified here: use :meth:`open` for files.
    threads
        Threads of one inference.
    weights
        Folder of verified files in which the graph keeps its weights; None: all weights are in the graph.
    arena
        Keep the memory of a run for the next one, which is faster; without, it is given back.
    limits
        What a run may take; None: anything.
    provider
        What runs it.

    Raises
    ------
    ModelError
        When the graph does not follow the model contract (``image`` uint8 ``[N, H, W, 3]`` in, or what its
        kind of input says, ``logits`` float32 ``[N, C]`` out).

    Examples
    --------
    >>> model = zoo.model("tiny")
    >>> model.logits(image[np.newaxis]).shape
    (1, 3)
    """

    def __init__(
        self,
        card: ModelCard,
        content: bytes,
        *,
        threads: int = 1,
        weights: Path | None = None,
        arena: bool = True,
        limits: RunLimits | None = None,
        provider: Provider = CPU,
    ) -> None:
        self.card = card
        self.kind = kind_of(card.input_record or None)
        self._feeds = self.kind.feeds
        self.threads = threads
        self._one_row = (1, len(card.classes))
        self.embedding_width: int | None = None  # of the second output, where there is one
        self._runs: Runs | OneByOne | RemoteRuns
        if card.remote is not None and card.remote.input_layout != FEATURES:
            if decode_remote(content, card.name) != card.remote:
                raise ModelError(
                    f"model {card.name!r}: expected the descriptor of its card, got another one. "
                    "Add the model again."
                )
            from zoo.remote.runs import RemoteRuns  # with a client that most devices do not need

            self._runs = RemoteRuns(card.remote, width=len(card.classes))
            return
        session = open_session(
            content,
            name=card.name,
            threads=threads,
            weights=weights,
            arena=arena,
            memory_bytes=None if limits is None else limits.memory_bytes,
            provider=provider,
        )
        self._runs = Runs(session, arena=arena, limits=limits)
        if card.remote is not None:
            from zoo.models.head_runs import HeadRuns, check_head

            check_head(session, card.remote, card.name)
            self._runs = HeadRuns(self._runs, card.remote, width=len(card.classes), name=card.name)
            return
        if provider.one_by_one:
            self._runs = OneByOne(self._runs)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        one = provider.one_by_one
        _expect(card.name, "inputs", inputs, self.kind.inputs, one=one)
        if len(outputs) == 2 and outputs[1].name == EMBEDDING:
            shape = outputs[1].shape
            width = next((size for size in shape[1:2] if isinstance(size, int) and size > 0), 1)
            second = GraphInput(EMBEDDING, "float32", ("N", width))
            _expect(card.name, "a second output", outputs[1:], (second,), one=one)
            self.embedding_width = width
            outputs = outputs[:1]
        logits = GraphInput("logits", "float32", ("N", len(card.classes)))
        _expect(card.name, "outputs", outputs, (logits,), one=one)

    @classmethod
    def open(
        cls,
        card: ModelCard,
        folder: str | Path,
        *,
        threads: int = 1,
        arena: bool = True,
        provider: Provider = CPU,
    ) -> Model:
        """Open the model file that `card` names under `folder`, after checking its size and digest.

        Raises
        ------
        DigestError
            When the file is not the recorded one.
        ModelError
            When it cannot be run or does not follow the contract.

        Examples
        --------
        >>> from zoo import Model
        >>> model = Model.open(zoo.card("tiny"), zoo.folder)
        """
        content = read_verified(Path(folder) / card.file, card.sha256, card.size_bytes)
        return cls(card, content, threads=threads, arena=arena, provider=provider)

    def logits(self, images: Batch) -> NDArray[np.float32]:
        """Logits float32 ``[N, C]`` of the images uint8 ``[N, H, W, 3]``, or of other inputs.

        Raises
        ------
        InputError
            When `images` is not such an array.
        ModelError
            When the graph fails on it, or returns another shape or logits that are not finite.
        LimitError
            When it takes more than its limits allow.

        Examples
        --------
        >>> zoo.model("full").logits(np.stack([image, image])).argmax(axis=1).tolist()
        [0, 0]
        """
        return self.run(self.kind.batch(images))

    def run(self, images: Batch) -> NDArray[np.float32]:
        """Like :meth:`logits`, for a batch that was checked already.

        Examples
        --------
        >>> zoo.model("tiny").run(image[np.newaxis]).dtype
        dtype('float32')
        """
        return self._finite(self.run_unchecked(images), images)

    def _finite(self, logits: NDArray[np.float32], images: Batch) -> NDArray[np.float32]:
        if not all_finite(logits):
            bad = int((~np.isfinite(logits)).any(axis=1).sum())
            raise NotFiniteError(
                f"model {self.card.name!r}: expected finite logits, got NaN or infinite ones for {bad} of "
                f"{len(images)} {self.kind.noun}s {list(images.shape[1:])}. Its answer means nothing there. "
                "Replace or remove the model; one that computes in half precision may need float32."
            )
        return logits

    def embedded(self, images: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits ``[N, C]`` and embedding ``[N, D]`` of a batch that was checked already.

        Raises
        ------
        ModelError
            When the model has no output of that name.

        Examples
        --------
        >>> zoo.model("tiny").embedding_width is None  # there is none to ask for
        True
        """
        if self.embedding_width is None:
            raise ModelError(
                f"model {self.card.name!r}: expected a second output 'embedding', got logits alone. "
                "Add the model again with --embedding."
            )
        logits, embedding = self._outputs(images, ["logits", EMBEDDING])
        if not (all_finite(logits) and all_finite(embedding)):
            raise NotFiniteError(
                f"model {self.card.name!r}: expected finite logits and embeddings, got NaN or infinite ones. "
                "Replace or remove the model; one that computes in half precision may need float32."
            )
        return logits, embedding

    def run_wide(self, images: Batch) -> NDArray[np.float32]:
        """Logits and then the embedding, where there is one, ``[N, C + D]``; they may be NaN or infinite.

        Examples
        --------
        >>> zoo.model("tiny").run_wide(image[np.newaxis]).shape  # without an embedding
        (1, 3)
        """
        if self.embedding_width is None:
            return self.run_unchecked(images)
        return np.concatenate(self._outputs(images, ["logits", EMBEDDING]), axis=1)

    @property
    def remote(self) -> RemoteRuns | None:
        """The runs of a remote model, with its client and traffic; None: it runs here.

        Examples
        --------
        >>> zoo.model("tiny").remote is None
        True
        """
        return None if isinstance(self._runs, Runs | OneByOne) else self._runs

    def run_by(self, images: Batch, deadline: float) -> NDArray[np.float32]:
        """Like :meth:`run`, but of a remote model no later than `deadline` of ``time.monotonic()``.

        A model on the device takes its time.

        Raises
        ------
        UnreachableError
            When the server does not answer by then, or with something else.

        Examples
        --------
        >>> import time
        >>> zoo.model("tiny").run_by(image[np.newaxis], time.monotonic() + 1).shape
        (1, 3)
        """
        if self.remote is None:
            return self.run(images)
        return self._finite(self.remote.ask(self.kind.feeds(images), deadline), images)

    def run_unchecked(self, images: Batch) -> NDArray[np.float32]:
        """Like :meth:`run`, but the logits may be NaN or infinite.

        Examples
        --------
        >>> zoo.model("tiny").run_unchecked(image[np.newaxis]).shape
        (1, 3)
        """
        return self._outputs(images, _LOGITS)[0]

    def row(self, image: Batch) -> tuple[list[float], NDArray[np.float32]]:
        """Logits of one image ``[1, H, W, 3]`` that was checked already: a list of C numbers, and ``[1, C]``.

        For few classes lists take less time than arrays. Raises like :meth:`logits`.

        Examples
        --------
        >>> row, logits = zoo.model("tiny").row(image[np.newaxis])
        >>> len(row), logits.shape
        (3, (1, 3))
        """
        try:
            logits = self._runs.run(_LOGITS, self._feeds(image), image.nbytes)[0]
        except Exception as error:
            self._fail(error, image)
        if logits.shape != self._one_row:
            self._check_widths([logits], _LOGITS, 1)
        row: list[float] = logits.tolist()[0]
        if not isfinite(sum(row)):  # the sum of finite float32 does not overflow here
            self._finite(logits, image)
        return row, logits

    def _outputs(self, images: Batch, names: list[str]) -> list[NDArray[np.float32]]:
        try:
            found: list[NDArray[np.float32]] = self._runs.run(names, self.kind.feeds(images), images.nbytes)
        except Exception as error:
            self._fail(error, images)
        self._check_widths(found, names, len(images))
        return found

    def _fail(self, error: Exception, images: Batch) -> NoReturn:
        """Raise what a run ended with as an error of ours."""
        if isinstance(error, ZooError):  # of a remote model, or of a head
            raise error
        if isinstance(error, TimeoutError | MemoryError):
            raise LimitError(
                f"model {self.card.name!r}: expected an answer to {self.kind.noun}s {list(images.shape)}, "
                f"got {error}. Give smaller {self.kind.noun}s, or raise the limit if this machine can.",
                self.card.name,
            ) from error
        raise ModelError(
            f"model {self.card.name!r} failed on {self.kind.noun}s {list(images.shape)}: "
            f"{first_line(error)}. Add the model again; if that does not help, it does not handle this "
            f"{self.kind.noun} size."
        ) from error

    def _check_widths(self, found: list[NDArray[np.float32]], names: list[str], count: int) -> None:
        widths = [len(self.card.classes), self.embedding_width]
        for name, values, width in zip(names, found, widths, strict=False):
            if values.shape != (count, width):
                raise ModelError(
                    f"model {self.card.name!r}: expected {name} {[count, width]}, "
                    f"got {list(values.shape)}. Its card and its file do not belong together; add it again."
                )

    def warm_up(self, images: Batch, runs: int = 3) -> None:
        """Run a few times, so that the first real answer is not slowed down by set-up.

        Examples
        --------
        >>> model = zoo.model("tiny")
        >>> model.warm_up(image[np.newaxis])
        """
        for _ in range(runs):
            self.logits(images)


def read_graph(card: ModelCard, folder: Path) -> bytes:
    """The ONNX file of a model, verified, for what looks into its graph or changes it.

    Raises
    ------
    ModelError
        When a server holds the model: there is no graph here.
    DigestError
        When the file is not the recorded one.
    """
    if card.remote is not None:
        raise ModelError(
            f"model {card.name!r}: expected a model with its graph in the zoo, got one that a server holds "
            f"({card.remote.address}). Add the network itself, such as with --onnx, or leave this one out."
        )
    return read_verified(folder / card.file, card.sha256, card.size_bytes)


def _expect(name: str, what: str, got: list[Any], wanted: Sequence[GraphInput], *, one: bool) -> None:
    found = {item.name: item for item in got}
    if len(got) == len(wanted) and all(_fits(found.get(item.name), item, one) for item in wanted):
        return
    given = "; ".join(f"{item.name} {_TYPES.get(item.type, item.type)} {item.shape}" for item in got)
    raise ModelError(
        f"model {name!r}: expected {what} {'; '.join(map(str, wanted))}, got {given or 'nothing'}. "
        "Foreign ONNX files are wrapped when they are added: zooselect zoo add --onnx FILE --help."
    )


def _fits(got: Any, wanted: GraphInput, one: bool) -> bool:
    """Whether an input or output of a graph is the wanted one; an axis of unknown length may be any.

    A session that takes one input a run has 1 for the number of inputs.
    """
    return (
        got is not None
        and got.type == TYPES[wanted.type]
        and len(got.shape) == len(wanted.axes)
        and all(
            not isinstance(have, int) or have == want or (one and (have, want) == (1, "N"))
            for have, want in zip(got.shape, wanted.axes, strict=True)
        )
    )
