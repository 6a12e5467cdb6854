"""Snapshots of the Hugging Face hub on the local disk: an ONNX export or weights, with their facts."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor, nn

from zoo.architectures.image_processor import processor_preprocessing
from zoo.architectures.timm_models import timm_preprocessing
from zoo.architectures.torchvision_models import distinct
from zoo.convert.add import add_foreign, add_module, add_timm
from zoo.errors import ClassMismatchError, MissingExtraError, ModelError
from zoo.extras import install_command
from zoo.files import open_file
from zoo.models.card import ModelCard
from zoo.models.zoo import Zoo
from zoo.quiet import quiet

_MAX_JSON_BYTES = 2**24
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def add_huggingface(
    zoo: Zoo,
    snapshot: str | Path,
    *,
    classes: Sequence[str] = (),
    resolution: int | tuple[int, int] | None = None,
    name: str | None = None,
    force: bool = False,
    say: Callable[[str], None] | None = None,
    input: str | None = None,
    output: str | None = None,
    output_kind: Any = "logits",
    **changed: Any,
) -> ModelCard:
    """Add a classifier from a snapshot of the Hugging Face hub. Nothing is downloaded or executed.

    An ONNX export is taken where there is one; then a snapshot of timm (``architecture`` in its
    ``config.json``), which timm makes; then ``model.safetensors`` of a classifier, which transformers makes.
    The class names are those of ``config.json`` (``id2label``), the preprocessing that of
    ``preprocessor_config.json``.

    Parameters
    ----------
    snapshot
        The folder, in which files may be links as in the hub's cache; or, where it holds several, one of its
        ONNX files.
    classes
        Other class names, in the order of the logits.
    resolution
        Another side, or height and width, that the network sees, in pixels.
    name
        By default that of the folder.
    say
        Is told what is done otherwise than the snapshot says, a sentence at a time.
    input, output, output_kind
        Of an ONNX export; see :func:`zoo.convert.foreign.import_onnx.wrap_foreign`.
    **changed
        Other fields of :class:`zoo.architectures.preprocessing.Preprocessing` than the snapshot has: `mean`,
        `std`, `crop`, `interpolation`, `channels`.

    Raises
    ------
    ClassMismatchError
        When neither the caller nor the snapshot says the names of the classes.
    MissingExtraError
        When the snapshot needs timm or transformers, which are not installed.
    ModelError
        When the folder is no such snapshot, holds several ONNX files, or its facts cannot be used.
    ZooError
        What :func:`zoo.convert.add.add_foreign`, `add_timm` and `add_module` raise.

    Examples
    --------
    >>> add_huggingface(zoo, "models/vit-tiny-flowers", name="vit")  # doctest: +SKIP
    """
    file = _onnx_file(Path(snapshot))
    root = Path(snapshot)
    if root.suffix == ".onnx":
        root = root.parent.parent if root.parent.name == "onnx" else root.parent
    config = _read_json(root / "config.json")
    name = name or _usual_name(root)
    timm_facts = config.get("pretrained_cfg")
    if file is None and isinstance(config.get("architecture"), str) and isinstance(timm_facts, dict):
        if config.get("model_args"):
            raise ModelError(
                f"{root}: expected a network of timm as it is, got one with own arguments (model_args). "
                "Make it in Python and give it to zoo.convert.add_module."
            )
        return add_timm(
            zoo,
            config["architecture"],
            weights=_weights(root),
            classes=classes,
            resolution=resolution,
            name=name,
            force=force,
            say=say,
            config={key: value for key, value in {**timm_facts, **config}.items() if key in _TIMM_FACTS},
            **changed,
        )
    names = tuple(classes) or _class_names(config, root)
    sides = (resolution, resolution) if isinstance(resolution, int) else resolution
    facts = _read_json(root / "preprocessor_config.json")
    facts = facts or _read_json(root / "processor_config.json").get("image_processor", {})
    try:
        if not facts and isinstance(timm_facts, dict):
            preprocessing, notes = timm_preprocessing(timm_facts, sides)
        else:
            preprocessing, notes = processor_preprocessing(facts, sides, changed)
        preprocessing = replace(preprocessing, **changed)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ModelError(
            f"{root / 'preprocessor_config.json'}: expected the facts of an image processor, got "
            f"{type(error).__name__}: {error}. Correct it, or add its ONNX file with --onnx and all options."
        ) from error
    for field, note in notes.items():
        if say is not None and field not in changed:
            say(note)
    source = f"Hugging Face snapshot {_usual_name(root)}"
    if file is None:
        module = _transformers_module(root)
        return add_module(zoo, name, module, preprocessing, names, source=source, force=force)
    with _without_links(file) as real:
        return add_foreign(
            zoo,
            name,
            real,
            preprocessing,
            names,
            source=f"{source}, {file.name}",
            force=force,
            input=input,
            output=output,
            output_kind=output_kind,
        )


_TIMM_FACTS = {
    "input_size",
    "fixed_input_size",
    "mean",
    "std",
    "crop_pct",
    "crop_mode",
    "interpolation",
    "num_classes",
    "classifier",
    "label_names",
}


class _Logits(nn.Module):
    """A classifier of transformers as a network that returns logits alone."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.classifier(pixel_values=pixels).logits
        return logits


def _transformers_module(root: Path) -> nn.Module:
    if not (root / "model.safetensors").is_file():
        held = "pytorch_model.bin, which is a pickle" if (root / "pytorch_model.bin").is_file() else "none"
        raise ModelError(
            f"{root}: expected model.onnx, onnx/model.onnx or model.safetensors, got {held}. {_EXPORT}"
        )
    try:
        with quiet():
            from transformers import AutoModelForImageClassification
    except ImportError as error:
        raise MissingExtraError(
            f"{root}: expected an ONNX export, got model.safetensors, which needs the package transformers. "
            f"Install it with: {install_command('huggingface')}. {_EXPORT}"
        ) from error
    try:
        with quiet():
            classifier = AutoModelForImageClassification.from_pretrained(
                str(root), local_files_only=True, trust_remote_code=False, use_safetensors=True
            )
    except Exception as error:  # networks, versions and files fail in many ways
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ModelError(
            f"{root}: expected an image classifier that transformers makes, got: {reason}. {_EXPORT}"
        ) from error
    return _Logits(classifier)


_EXPORT = "Or export it: optimum-cli export onnx --model DIR --task image-classification OUT, and add OUT."


def _onnx_file(snapshot: Path) -> Path | None:
    if snapshot.suffix == ".onnx":
        return snapshot
    if not snapshot.is_dir():
        raise ModelError(f"expected the folder of a snapshot, got {snapshot}, which is none.")
    found = sorted([*snapshot.glob("*.onnx"), *snapshot.glob("onnx/*.onnx")])
    if len(found) > 1:
        listed = ", ".join(path.relative_to(snapshot).as_posix() for path in found)
        raise ModelError(
            f"{snapshot}: expected one ONNX file, got {len(found)}: {listed}. Give the path of the right one "
            f"instead of the folder, such as {found[0]}."
        )
    return found[0] if found else None


def _weights(root: Path) -> Path:
    found = next((root / file for file in _WEIGHTS if (root / file).is_file()), None)
    if found is None:
        raise ModelError(f"{root}: expected the weights in {' or '.join(_WEIGHTS)}, got neither. Copy them.")
    return found


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no such file."""
    if not path.is_file():
        return {}
    try:
        with open_file(path) as stream:
            content = stream.read(_MAX_JSON_BYTES + 1)
        if len(content) > _MAX_JSON_BYTES:
            raise ValueError(f"more than {_MAX_JSON_BYTES:,} bytes")
        return msgspec.json.decode(content, type=dict[str, Any])
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: expected a JSON object, got: {error}. Copy it again.") from error


def _class_names(config: Mapping[str, Any], root: Path) -> tuple[str, ...]:
    labels = config.get("id2label")
    if isinstance(labels, dict) and labels:
        wanted = [str(i) for i in range(len(labels))]
        if sorted(labels) == sorted(wanted):
            return distinct(tuple(str(labels[key]) for key in wanted))
        raise ModelError(
            f"{root / 'config.json'}: expected id2label with the indices 0 to {len(labels) - 1}, got others. "
            "Give the class names in the order of the logits."
        )
    listed = config.get("label_names")
    if isinstance(listed, list) and listed:
        return distinct(tuple(map(str, listed)))
    raise ClassMismatchError(
        f"{root}: expected class names, got none: its config.json has no id2label. Give the names in the "
        "order of the logits."
    )


def _usual_name(root: Path) -> str:
    """The name of a snapshot: that of its folder, or in the hub's cache that of its repository."""
    root = root.absolute()
    folder = root.parent.parent.name if root.parent.name == "snapshots" else root.name
    name = folder.rpartition("--")[2].lower()
    return re.sub(r"[^a-z0-9._-]+", "-", name).strip("-._")[:64] or "snapshot"


@contextlib.contextmanager
def _without_links(file: Path) -> Iterator[Path]:
    """An ONNX file and its weights as files beside each other, where the hub's cache links to its blobs.

    Links may lead to other files of the same repository in the cache, and nowhere else.
    """
    linked = [path for path in file.parent.glob(f"{file.stem}*") if path.is_symlink()]
    if not linked:
        yield file
        return
    parents = file.absolute().parents
    home = next((folder for folder in parents if (folder / "blobs").is_dir()), file.parent)
    with tempfile.TemporaryDirectory() as folder:
        for path in file.parent.glob(f"{file.stem}*"):
            real = path.resolve()
            if not real.is_file() or not real.is_relative_to(home.resolve()):
                raise ModelError(
                    f"{path}: expected a file of the snapshot, got a link that leads out of it or to "
                    "nothing. This snapshot is refused; copy or download it again."
                )
            try:
                os.link(real, Path(folder) / path.name)
            except OSError:  # another disk
                shutil.copyfile(real, Path(folder) / path.name)
        yield Path(folder) / file.name
