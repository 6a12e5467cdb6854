"""The graph of a selector in one file: an input in, an answer out, and its record among the metadata."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper

from selector.bundle.bundle import Bundle
from selector.bundle.one_file import MAX_FILE_BYTES, RECORD, OneFile, inputs_of
from selector.policies.policy import Policy
from selector.policies.staged import StagedPolicy
from training.fitting.one_file.blocks import Block
from training.fitting.one_file.parts import read_parts
from training.fitting.one_file.rules import Rules
from zoo.errors import BundleError
from zoo.publisher.prepare import needed_runtime

_KINDS = {
    "probabilities": TensorProto.DOUBLE,
    "class_index": TensorProto.INT64,
    "label": TensorProto.STRING,
    "model": TensorProto.STRING,
    "path": TensorProto.STRING,
    "probability": TensorProto.DOUBLE,
    "drift_features": TensorProto.FLOAT,
    "confidence": TensorProto.DOUBLE,
}


def one_file_graph(
    bundle: Bundle, folder: Path, models: Sequence[str], policy: Policy | None, record: OneFile
) -> tuple[OneFile, bytes]:
    """The ONNX file, and its record with what only the graph tells.

    Parameters
    ----------
    folder
        Of the bundle.
    models
        That the file answers with.
    policy
        That is followed at the threshold of `record`; None: the first of `models` answers alone.
    record
        As far as it is known before.
    """
    graphs = _graphs(bundle, policy, drift=record.drift)
    parts = read_parts(bundle, folder, models, graphs)
    block = Block()
    inputs = {one.name: block.add("Unsqueeze", one.name, block.constant([0])) for one in bundle.kind.inputs}
    rules = Rules(bundle, parts, inputs)
    if record.drift:
        rules.watch()
    if policy is None or record.threshold is None:
        answer = rules.alone(block, models[0])
    else:
        answer = rules.follow(block, policy, record.threshold)
    first = block.constant([0])
    index = block.add("Squeeze", answer.top, name="class_index")
    path = block.add("Identity", answer.path, name="path")
    block.add("Gather", path, block.constant(np.array(-1)), name="model")
    block.add("Gather", block.constant(list(bundle.classes)), index, name="label")
    block.add("Squeeze", answer.probabilities, first, name="probabilities")
    block.add("Squeeze", answer.probability, name="probability")
    outputs: dict[str, list[int | str]] = {
        "probabilities": [len(bundle.classes)],
        "class_index": [],
        "label": [],
        "model": [],
        "path": ["K"],
        "probability": [],
    }
    if record.drift and bundle.drift is not None:
        (features,) = block.place(parts.graphs[bundle.drift.file], inputs, ["features"])
        block.add("Squeeze", features, first, name="drift_features")
        outputs["drift_features"] = [len(bundle.drift.features)]
        if rules.confidence is not None:
            block.add("Squeeze", rules.confidence, name="confidence")
            outputs["confidence"] = []
    graph = helper.make_graph(
        block.nodes,
        "selector",
        [
            helper.make_tensor_value_info(
                one.name, helper.np_dtype_to_tensor_dtype(np.dtype(one.type)), one.axes
            )
            for one in inputs_of(bundle.kind)
        ],
        [helper.make_tensor_value_info(name, _KINDS[name], shape) for name, shape in outputs.items()],
        block.tensors,
    )
    model = helper.make_model(graph, opset_imports=parts.imports(), producer_name="zooselect")
    model.ir_version = parts.ir_version
    told = msgspec.structs.replace(record, opset=parts.opsets[""], min_onnxruntime=needed_runtime(model))
    helper.set_model_props(model, _metadata(told))
    if model.ByteSize() > MAX_FILE_BYTES:
        raise BundleError(
            f"expected a file of at most {MAX_FILE_BYTES / 1e9:.2f} GB, which is what an ONNX file can hold, "
            f"got {model.ByteSize() / 1e9:.2f} GB. Ask for a constraint that smaller models meet, or export "
            "a bundle."
        )
    onnx.checker.check_model(model)
    return told, model.SerializeToString(deterministic=True)


def _graphs(bundle: Bundle, policy: Policy | None, *, drift: bool) -> list[str]:
    """Files of the graphs that are needed beside the models."""
    files: list[str] = []
    if policy is not None and policy.needs_features and bundle.selector is not None:
        files.append(bundle.selector.file)
    if isinstance(policy, StagedPolicy):
        files += [state.file for state in policy.states]
    if drift and bundle.drift is not None:
        files.append(bundle.drift.file)
    return files


def _metadata(record: OneFile) -> dict[str, str]:
    """The record, and what readers without zooselect look for."""
    bundle = record.bundle
    plain: dict[str, object] = {
        "classes": bundle.classes,
        "models": record.models,
        "constraint": record.constraint,
        "certificate": next(iter(bundle.certificates), None),
        "environment": record.environment,
    }
    facts = {key: msgspec.json.encode(value).decode() for key, value in plain.items()}
    versions = {"zooselect": record.zooselect, "min_onnxruntime": record.min_onnxruntime}
    return {**facts, **versions, RECORD: msgspec.json.encode(record).decode()}
