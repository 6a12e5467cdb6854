"""Parts: the models and graphs of a bundle, brought to one version of the ONNX operators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx
import onnx.inliner
from onnx import helper, version_converter

from selector.bundle.bundle import Bundle
from selector.bundle.one_file import MAX_FILE_BYTES
from zoo.errors import BundleError, ModelError
from zoo.files import read_verified
from zoo.models.card import ModelCard
from zoo.models.model import read_graph

_DEFAULT = ("", "ai.onnx")
_ROOM_BYTES = 2**22  # for the rules, the record and the names


class Parts:
    """Models and graphs as protobuf messages that can stand in one file.

    Parameters
    ----------
    contents
        What a part is called → its ONNX file.

    Attributes
    ----------
    opsets
        Domain → version, the highest of all parts.
    ir_version
        The highest of all parts.

    Raises
    ------
    ModelError
        When a part has no counterpart in the operators of the others.
    """

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        models = {name: _inlined(name, content) for name, content in contents.items()}
        self.opsets: dict[str, int] = {"": 20}
        for model in models.values():
            for entry in model.opset_import:
                domain = "" if entry.domain in _DEFAULT else entry.domain
                self.opsets[domain] = max(entry.version, self.opsets.get(domain, 0))
        self.ir_version = max(10, *(model.ir_version for model in models.values()))
        self.graphs = {name: self._raised(name, model) for name, model in models.items()}

    def _raised(self, name: str, model: onnx.ModelProto) -> onnx.GraphProto:
        version = next((entry.version for entry in model.opset_import if entry.domain in _DEFAULT), None)
        newest = self.opsets[""]
        if version in (None, newest):
            return model.graph
        try:
            return version_converter.convert_version(model, newest).graph
        except Exception as error:  # of the converter, which promises no classes
            raise ModelError(
                f"{name}: expected operators that exist in opset {newest} as well, which another part of the "
                f"bundle needs, got opset {version} and {str(error).strip().splitlines()[0][:200]}. "
                "Export all models with the same opset, or export a bundle."
            ) from error

    def imports(self) -> list[onnx.OperatorSetIdProto]:
        """What the file says of the operators that it needs."""
        return [helper.make_opsetid(domain, version) for domain, version in sorted(self.opsets.items())]


def check_sizes(cards: Iterable[ModelCard]) -> None:
    """Raise :class:`BundleError` where models do not fit into one file together."""
    sizes = {card.name: card.size_bytes for card in cards}
    if sum(sizes.values()) > MAX_FILE_BYTES - _ROOM_BYTES:
        listed = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in sizes.items())
        raise BundleError(
            f"expected models of less than {MAX_FILE_BYTES / 1e9:.2f} GB together, which one ONNX file can "
            f"hold, got {sum(sizes.values()) / 1e9:.2f} GB: {listed}. Ask for a constraint that smaller "
            "models meet, compress them (zooselect zoo compress), or export a bundle."
        )


def read_parts(bundle: Bundle, folder: Path, models: Iterable[str], graphs: Iterable[str]) -> Parts:
    """The parts of these models, by name, and of these graphs, by their files.

    Raises
    ------
    DigestError
        When a file of the bundle is not the recorded one.
    """
    records = {graph.file: graph for graph in bundle.graphs}
    contents = {name: read_graph(bundle.card(name), folder) for name in models}
    for file in graphs:
        contents[file] = read_verified(folder / file, records[file].sha256, records[file].size_bytes)
    return Parts(contents)


def _inlined(name: str, content: bytes) -> onnx.ModelProto:
    """The message of a model, without functions of its own."""
    model = onnx.load_model_from_string(content)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise BundleError(f"{name}: expected weights in the graph, got them in another file. Add it again.")
    return onnx.inliner.inline_local_functions(model) if len(model.functions) else model
