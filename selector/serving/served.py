"""What a server answers with: the models of a zoo, or a whole bundle under a name of its own."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from selector.answering.batches import portions, run_pieces
from selector.answering.parts import in_parts
from selector.answering.selector import Selector
from selector.answering.view import Asked
from selector.bundle.bundle import BUNDLE_FILE
from zoo.errors import BundleError, CardError, ModelError, NotFiniteError, PrecisionError
from zoo.files import sha256_file
from zoo.inputs.kind import InputKind
from zoo.inputs.kinds import IMAGE
from zoo.models.cuts import PARTS_FILE, Parts, load_parts, parts_folder, read_part
from zoo.models.model import Model, all_finite
from zoo.models.session import open_session
from zoo.models.zoo import Zoo
from zoo.remote.protocol import bytes_tensor
from zoo.remote.tensors import Tensor

VERSION_DIGITS = 12  # of the digest that is a version
TAIL = "-tail"  # after the name of the model that was cut
_TEXT = ("environment",)

Rows = dict[str, NDArray[Any]]  # name of an output → one row an image


@dataclass(frozen=True)
class Form:
    """Name, datatype and shape of a tensor, as metadata say them."""

    name: str
    datatype: str  # of the protocol
    shape: tuple[int, ...] = ()  # of one row; -1: any size
    files: bool = False  # an input that may also come as files of images


def forms_of(kind: InputKind) -> tuple[Form, ...]:
    """What requests have to bring for this kind of input: one tensor or several."""
    return tuple(
        Form(
            one.name,
            Tensor(one.name, np.empty(0, one.type)).datatype,
            tuple(axis if isinstance(axis, int) else -1 for axis in one.axes[1:]),
            files=kind == IMAGE,
        )
        for one in kind.inputs
    )


class Served(Protocol):
    """Something that answers images."""

    name: str
    version: str  # the first digits of the digest of what answers
    platform: str
    classes: tuple[str, ...]
    takes: tuple[Form, ...]
    outputs: tuple[Form, ...]

    @property
    def kind(self) -> InputKind | None:
        """Of the inputs; None for what a part of a model takes."""
        ...

    def question(self, parameters: Mapping[str, object]) -> Hashable:
        """What a request asks; requests with equal ones are answered together.

        Raises :class:`PrecisionError` where it cannot be asked.
        """
        ...

    def answer(self, images: Sequence[Any], question: Hashable) -> Rows:
        """One row of every output for every row of the input; safe to call from several threads."""
        ...


class ServedModel:
    """One model of a zoo: it gives logits."""

    platform = "onnxruntime_onnx"

    def __init__(self, model: Model) -> None:
        self.kind, self.takes = model.kind, forms_of(model.kind)
        self.name, self.version = model.card.name, model.card.sha256[:VERSION_DIGITS]
        self.classes = model.card.classes
        self.outputs: tuple[Form, ...] = (Form("logits", "FP32", (len(self.classes),)),)
        self._model = model

    def question(self, parameters: Mapping[str, object]) -> Hashable:
        """A model can be asked nothing else."""
        check_no_parameters(self.name, parameters)
        return None

    def answer(self, images: Sequence[Any], question: Hashable) -> Rows:
        """Logits float32 ``[N, C]``."""
        rows = [
            row for portion in portions(images, self._model.kind) for row in run_pieces(self._rows, portion)
        ]
        return {"logits": np.stack(rows)}

    def _rows(self, images: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        return list(in_parts(self._model.logits, images))


class ServedTail:
    """The second part of a model that was cut: codes that the first part made in, logits out."""

    platform = "onnxruntime_onnx"
    kind = None

    def __init__(self, parts: Parts, content: bytes, *, threads: int) -> None:
        self.name, self.version = f"{parts.model}{TAIL}", parts.tail.sha256[:VERSION_DIGITS]
        self.classes = parts.classes
        self.takes: tuple[Form, ...] = (Form("codes", parts.datatype, tuple(parts.shape)),)
        self.outputs: tuple[Form, ...] = (Form("logits", "FP32", (len(self.classes),)),)
        self._session = open_session(content, name=self.name, threads=threads)

    def question(self, parameters: Mapping[str, object]) -> Hashable:
        """A part of a model can be asked nothing else."""
        check_no_parameters(self.name, parameters)
        return None

    def answer(self, images: Sequence[Any], question: Hashable) -> Rows:
        """Logits float32 ``[N, C]``."""
        try:
            logits = self._session.run(["logits"], {"codes": np.stack(images)})[0]
        except Exception as error:  # ONNX Runtime raises a family of unrelated classes
            raise ModelError(f"{self.name!r} failed on codes: {error}. Cut the model again.") from error
        if not all_finite(logits):
            raise NotFiniteError(f"{self.name!r}: expected finite logits, got NaN or infinite ones.")
        return {"logits": logits}


class ServedBundle:
    """A bundle: its selector picks the models, and says which one answered and whether that is certified."""

    platform = "zooselect_bundle"

    def __init__(self, name: str, selector: Selector) -> None:
        self.kind, self.takes = selector.kind, forms_of(selector.kind)
        self.name, self.version = name, sha256_file(selector.folder / BUNDLE_FILE)[:VERSION_DIGITS]
        self.classes = selector.classes
        self.outputs: tuple[Form, ...] = (
            Form("probabilities", "FP32", (len(self.classes),)),
            Form("label", "BYTES"),
            Form("model", "BYTES"),
            Form("certified", "BOOL"),
            Form("reason", "BYTES"),
        )
        self._selector = selector

    def question(self, parameters: Mapping[str, object]) -> Hashable:
        """A constraint and an environment, by the names that ``Selector.predict`` has for them."""
        known = ("precision", *Asked.__annotations__)
        for name, value in parameters.items():
            if name not in known:
                raise PrecisionError(f"expected parameters among {', '.join(known)}, got {name!r}.")
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (isinstance(value, str) if name in _TEXT else number):
                kind = "text" if name in _TEXT else "a number"
                raise PrecisionError(f"expected {kind} for the parameter {name!r}, got {value!r}.")
        asked: dict[str, Any] = dict(parameters)
        self._selector.certificate(**asked)  # raises where it is no question
        return tuple(sorted(asked.items()))

    def answer(self, images: Sequence[Any], question: Hashable) -> Rows:
        """Probabilities and how each answer came about; the reason is empty where it is certified."""
        assert isinstance(question, tuple)
        asked: dict[str, Any] = dict(question)
        found = self._selector.predict_batch(images, **asked)
        return {
            "probabilities": np.stack([one.probabilities for one in found]).astype(np.float32),
            "label": _texts([one.label for one in found]),
            "model": _texts([one.model for one in found]),
            "certified": np.array([one.certified for one in found], dtype=np.bool_),
            "reason": _texts([one.reason or "" for one in found]),
        }


def open_served(folder: str | Path, *, name: str | None = None, threads: int = 1) -> dict[str, Served]:
    """Open all that a zoo or a bundle holds, verified.

    Parameters
    ----------
    folder
        Of a zoo: each model that it holds itself answers under its own name, and the tail of one that was
        cut as ``NAME-tail``; models of other servers are not passed on. Of a bundle: the selector does,
        under `name`.
    name
        Of the bundle; by default that of its folder.
    threads
        Threads of one inference.

    Raises
    ------
    CardError, BundleError
        When it is neither, or holds no model.
    DigestError, ModelError
        When a model file is not the recorded one or cannot be run.

    Examples
    --------
    >>> from selector.serving.served import open_served
    >>> sorted(open_served("my-zoo"))
    ['full', 'small', 'tiny']
    """
    path = Path(folder)
    if (path / BUNDLE_FILE).is_file():
        selector = Selector.load(path, threads=threads)
        selector.open()
        bundle: Served = ServedBundle(name or bundle_name(path), selector)
        return {bundle.name: bundle}
    if name is not None:
        raise BundleError(f"--name: expected a bundle in {folder}, got none. Models have names of their own.")
    zoo = Zoo.open(path)
    models: dict[str, Served] = {
        card.name: ServedModel(zoo.model(card.name, threads=threads))
        for card in zoo.cards
        if card.remote is None
    }
    for tail, parts in tails_of(zoo).items():
        models[tail] = ServedTail(parts, read_part(path, parts, "tail"), threads=threads)
    if not models:
        raise CardError(
            f"expected at least one model that {folder} holds itself, got none. Add one: zoo add --help"
        )
    return models


def check_no_parameters(name: str, parameters: Mapping[str, object]) -> None:
    """Refuse parameters, where a model can be asked for nothing else; raises :class:`PrecisionError`."""
    if parameters:
        raise PrecisionError(
            f"expected no parameters for the model {name!r}, got {', '.join(sorted(parameters))}. "
            "Serve a bundle to ask for a precision."
        )


def tails_of(zoo: Zoo) -> dict[str, Parts]:
    """The parts of the models of a zoo that were made by cutting one, by the name of the tail.

    Raises
    ------
    CardError, StaleError
        For a record that does not validate, or belongs to another model.
    """
    cut = [card for card in zoo.cards if (parts_folder(zoo.folder, card.name) / PARTS_FILE).is_file()]
    found = {f"{card.name}{TAIL}": load_parts(zoo.folder, card) for card in cut}
    if twice := found.keys() & set(zoo.names):
        raise CardError(
            f"expected no model of the name {min(twice)!r}, which that of a tail is. Rename it: zoo rename"
        )
    return found


def bundle_name(folder: Path) -> str:
    """What a bundle is called where nothing else was said: after its folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-.") or "bundle"


def _texts(texts: Sequence[str]) -> NDArray[Any]:
    return bytes_tensor("", [text.encode() for text in texts]).values
