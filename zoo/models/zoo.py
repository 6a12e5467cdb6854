"""A zoo in a folder: ``zoo.json`` (the manifest) and ``models/`` (the ONNX files it names)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from zoo.errors import CardError, ZooError
from zoo.files import encode_record, read_record, read_verified, sha256_bytes, write_atomic
from zoo.inputs.kind import InputKind
from zoo.inputs.kinds import IMAGE
from zoo.models.card import SCHEMA_VERSION, Adapted, Compression, Manifest, ModelCard, TrainedOn
from zoo.models.cuts import remove_cuts, rename_cuts
from zoo.models.model import Model
from zoo.providers import CPU, Provider
from zoo.remote.descriptor import FEATURES, Remote
from zoo.types import Name

MANIFEST_FILE = "zoo.json"
_OUR_FILE = re.compile(r".+-[0-9a-f]{12}\.(onnx|json)")  # what `add` writes; other files stay where they are


class Zoo:
    """The models in a folder.

    The manifest is the only commit point: a model file is written under a name that holds its digest first,
    then the manifest is replaced. A crash in between leaves the previous zoo intact.

    Examples
    --------
    >>> from zoo import Zoo
    >>> zoo = Zoo.open("my-zoo")
    >>> zoo.names
    ('tiny', 'small', 'full')
    """

    def __init__(self, folder: Path, manifest: Manifest, *, complete: bool = True) -> None:
        self.folder = folder
        self.manifest = manifest
        self._complete = complete

    @classmethod
    def open(cls, folder: str | Path) -> Zoo:
        """Open the zoo in `folder`.

        Raises
        ------
        CardError
            When there is no manifest or it does not validate.
        SchemaVersionError
            When a newer zooselect wrote it.

        Examples
        --------
        >>> Zoo.open("my-zoo").card("tiny").name
        'tiny'
        """
        path = Path(folder) / MANIFEST_FILE
        if not path.is_file():
            raise CardError(
                f"expected a zoo in {folder}, got no {MANIFEST_FILE} there. "
                f"Make one with 'zooselect zoo train' or 'zooselect zoo add', or check the path."
            )
        return cls(Path(folder), read_record(path, Manifest, schema_version=SCHEMA_VERSION))

    @classmethod
    def create(cls, folder: str | Path) -> Zoo:
        """Make an empty zoo in a new or empty folder.

        Raises
        ------
        CardError
            When there is something in `folder` already.

        Examples
        --------
        >>> Zoo.create("new-zoo").names
        ()
        """
        path = Path(folder)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            advice = (
                "Open it: Zoo.open(folder)." if (path / MANIFEST_FILE).exists() else "Name another folder."
            )
            raise CardError(
                f"expected a new or empty folder for a zoo, got {folder}, which is there. {advice}"
            )
        made = cls.open_or_create(path)
        made._commit(made.manifest)
        return made

    @classmethod
    def open_or_create(cls, folder: str | Path) -> Zoo:
        """Open the zoo in `folder`, or start an empty one, which is written with its first model.

        Raises
        ------
        CardError, SchemaVersionError
            When there is a manifest that :meth:`open` cannot read.

        Examples
        --------
        >>> Zoo.open_or_create("my-zoo").names
        ('tiny', 'small', 'full')
        """
        if (Path(folder) / MANIFEST_FILE).exists():
            return cls.open(folder)
        return cls(Path(folder), Manifest.of(()))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all models."""
        return self.manifest.names

    @property
    def cards(self) -> tuple[ModelCard, ...]:
        """Cards of all models."""
        return self.manifest.models

    @property
    def kind(self) -> InputKind:
        """The kind of input that all models take; images while there is no model."""
        return self.cards[0].kind if self.cards else IMAGE

    def card(self, name: str) -> ModelCard:
        """The card of one model; raises :class:`ModelNotFoundError`.

        Examples
        --------
        >>> zoo.card("small").classes
        ('blue', 'red', 'green')
        """
        return self.manifest.card(name)

    def model(self, name: str, *, threads: int = 1, provider: Provider = CPU) -> Model:
        """Open one model, verified; raises :class:`DigestError` or :class:`ModelError`.

        Examples
        --------
        >>> zoo.model("full", threads=2).card.name
        'full'
        """
        return Model.open(self.card(name), self.folder, threads=threads, provider=provider)

    def only(self, names: Sequence[str]) -> Zoo:
        """The same folder with only the named models, in that order, to read from.

        Raises
        ------
        ModelNotFoundError
            When one of them is not in the zoo.

        Examples
        --------
        >>> zoo.only(["full", "tiny"]).names
        ('full', 'tiny')
        """
        cards = tuple(self.card(name) for name in names)
        return Zoo(self.folder, Manifest.of(cards), complete=False)

    def add(
        self,
        name: str,
        content: bytes,
        *,
        classes: tuple[str, ...],
        resolution: tuple[int, int],
        parameters: int,
        macs: int,
        compression: Compression = "none",
        parent: str | None = None,
        source: str = "",
        trained_on: TrainedOn | None = None,
        adapted: Adapted | None = None,
        remote: Remote | None = None,
        kind: InputKind = IMAGE,
        force: bool = False,
    ) -> ModelCard:
        """Add a model, after opening it once under the contract.

        Parameters
        ----------
        remote
            Where a server holds it; `content` is then this record, encoded. Nothing is asked of the server.
        kind
            The kind of input that it takes, the same as that of the zoo's other models.
        force
            Replace a different model of the same name. The same model, byte by byte and class by class, may
            always be added again.

        Raises
        ------
        CardError
            When a fact does not validate, or the zoo holds a different model of that name.
        ModelError
            When the graph cannot be run or does not follow the contract.

        Examples
        --------
        >>> mine = Zoo.create("my-own-zoo")
        >>> card = mine.add(
        ...     "tiny", content, classes=("red", "green", "blue"), resolution=(12, 12), parameters=9, macs=9
        ... )
        >>> card.size_bytes == len(content)
        True
        """
        _check_name(name)
        digest = sha256_bytes(content)
        facts = {
            "name": name,
            "classes": classes,
            "resolution": resolution,
            "file": _file(name, digest, remote),
            "sha256": digest,
            "size_bytes": len(content),
            "parameters": parameters,
            "macs": macs,
            "compression": compression,
            "parent": parent,
            "source": source,
            "trained_on": trained_on,
            "adapted": adapted,
        } | ({} if remote is None else {"remote": remote})
        facts |= {} if kind.record is None else {"input": kind.record}
        others = [other for other in self.cards if other.name != name]
        if others and kind != others[0].kind:
            raise CardError(
                f"model {name!r}: expected one that takes what the others of the zoo take, "
                f"{others[0].kind}, got one that takes {kind}. Add it to another zoo: --zoo FOLDER."
            )
        try:
            card = msgspec.convert(facts, ModelCard)
        except msgspec.ValidationError as error:
            raise CardError(f"model {name!r} cannot be added: {error}. Correct the field.") from error
        if not force and any(_replaces(card, other) for other in self.cards):
            raise CardError(held_message(name))
        Model(card, content)
        write_atomic(self.folder / card.file, content)
        kept = tuple(other for other in self.cards if other.name != name)
        self._commit(Manifest.of((*kept, card)))
        return card

    def remove(self, name: str) -> None:
        """Take a model out of the zoo, with what ``cuts/`` holds of it; raises :class:`ModelNotFoundError`.

        Examples
        --------
        >>> other = Zoo.open("other-zoo")
        >>> other.remove("full")
        >>> other.names
        ('tiny', 'small')
        """
        gone = self.card(name)
        self._commit(Manifest.of(tuple(card for card in self.cards if card is not gone)))
        remove_cuts(self.folder, name)

    def rename(self, old: str, new: str) -> ModelCard:
        """Give a model another name, also where other cards name it as a parent, and in ``cuts/``.

        Raises
        ------
        ModelNotFoundError
            When there is no model `old`.
        CardError
            When `new` cannot be a name, or another model has it.
        DigestError
            When the file of the model has changed.

        Examples
        --------
        >>> Zoo.open("other-zoo").rename("tiny", "nano").name
        'nano'
        """
        card = self.card(old)
        _check_name(new)
        if new == old:
            return card
        if new in self.names:
            raise CardError(f"expected a name that no model of the zoo has, got {new!r}. Choose another one.")
        content = read_verified(self.folder / card.file, card.sha256, card.size_bytes)
        renamed = msgspec.structs.replace(card, name=new, file=_file(new, card.sha256, card.remote))
        write_atomic(self.folder / renamed.file, content)
        models = tuple(_with_relative(renamed if one is card else one, old, new) for one in self.cards)
        rename_cuts(self.folder, old, new)
        self._commit(Manifest.of(models))
        remove_cuts(self.folder, old)
        return self.card(new)

    def children(self, name: str) -> tuple[str, ...]:
        """Names of the models that were made from the model `name`.

        Examples
        --------
        >>> zoo.children("full")
        ()
        """
        return tuple(
            card.name
            for card in self.cards
            if name in (card.parent, None if card.adapted is None else card.adapted.parent)
        )

    def _commit(self, manifest: Manifest) -> None:
        if not self._complete:
            raise ZooError(
                f"expected the whole zoo in {self.folder}, got a part of it. Open it with Zoo.open."
            )
        write_atomic(self.folder / MANIFEST_FILE, encode_record(manifest))
        self.manifest = manifest
        named = {card.file for card in manifest.models}
        for path in (self.folder / "models").glob("*-*.*"):
            is_ours = _OUR_FILE.fullmatch(path.name) is not None
            if is_ours and path.relative_to(self.folder).as_posix() not in named:
                path.unlink(missing_ok=True)


def held_message(name: str) -> str:
    """What is said where a different model of that name is in the zoo."""
    return (
        f"the zoo holds a different model {name!r} already: give the new one a --name of its own, or replace "
        "the old one with --force, which voids the profiles and selectors made with it "
        "(in Python: name=…, force=True)."
    )


def add_again(zoo: Zoo, card: ModelCard, content: bytes, *, force: bool = True) -> ModelCard:
    """Add a model with the facts of `card`, but with a file of other values; it replaces one of its name."""
    return zoo.add(
        card.name,
        content,
        classes=card.classes,
        resolution=card.resolution,
        parameters=card.parameters,
        macs=card.macs,
        compression=card.compression,
        parent=card.parent,
        source=card.source,
        trained_on=card.trained_on,
        adapted=card.adapted,
        remote=card.remote,
        kind=card.kind,
        force=force,
    )


def _file(name: str, digest: str, remote: Remote | None) -> str:
    is_graph = remote is None or remote.input_layout == FEATURES  # the head of one that is cut
    return f"models/{name}-{digest[:12]}.{'onnx' if is_graph else 'json'}"


def _check_name(name: str) -> None:
    try:
        msgspec.convert(name, Name)
    except msgspec.ValidationError:
        valid = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:64].rstrip("-._") or "my-model"
        raise CardError(
            f"model {name!r} cannot be added: expected a name of up to 64 lower-case letters, digits, '.', "
            f"'_' and '-', that starts with a letter or digit. Name it otherwise: --name {valid}"
        ) from None


def _replaces(card: ModelCard, other: ModelCard) -> bool:
    """Whether two models of one name answer differently."""
    return card.name == other.name and (card.sha256, card.classes) != (other.sha256, other.classes)


def _with_relative(card: ModelCard, old: str, new: str) -> ModelCard:
    """The card with the new name of a model that it names."""
    adapted = card.adapted
    if adapted is not None:
        adapted = msgspec.structs.replace(
            adapted,
            parent=new if adapted.parent == old else adapted.parent,
            labels=new if adapted.labels == old != "given" else adapted.labels,
        )
    return msgspec.structs.replace(card, parent=new if card.parent == old else card.parent, adapted=adapted)
