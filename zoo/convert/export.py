"""Export: a torch network and its preprocessing → one ONNX file, checked against torch."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir
import onnxscript.optimizer
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx_ir.passes import common as passes
from torch import nn
from torch.optim.swa_utils import AveragedModel

from zoo.architectures.preprocessing import Preprocess, Preprocessing
from zoo.convert.foreign.import_check import random_images
from zoo.convert.parity import TOLERANCE, disagreement
from zoo.convert.preprocessing_graph import OPSET, attach_front, front_model
from zoo.convert.rewriting.shortcuts import rewritten
from zoo.errors import ClassMismatchError, ModelError, ParityError
from zoo.quiet import quiet

_SUM_OF_PROBABILITIES = 1e-3  # how far from 1 the sum of an answer may be that is taken for probabilities


def export_module(
    module: nn.Module,
    preprocessing: Preprocessing,
    *,
    name: str,
    classes: Sequence[str],
    rewrite: bool = True,
) -> bytes:
    """Export a trained network under the model contract.

    BatchNormalization stays unfused, so that a model adapted in its normalisation shares all its other
    tensors with its parent; ONNX Runtime fuses it while loading. Shortcuts that take every second pixel
    become convolutions, which is faster. Equal weights give equal bytes.

    Parameters
    ----------
    module
        float32 ``[N, 3, h, w]`` at the preprocessing's resolution → logits float32 ``[N, C]``. Exported in
        float32 as in ``eval()``, without what ``torch.compile`` or data parallelism put around it; the module
        itself is not changed.
    name
        Name of the graph.
    classes
        The C class names, in the order of the logits.
    rewrite
        Make convolutions of the shortcuts named above; without, for comparisons.

    Returns
    -------
    bytes
        The ONNX file: ``image`` uint8 ``[N, H, W, 3]`` → ``logits`` float32 ``[N, C]``.

    Raises
    ------
    ClassMismatchError
        When the network returns another number of logits than there are classes.
    ModelError
        When torch cannot export the network.
    ParityError
        When ONNX Runtime and torch disagree by more than 1e-4 of the largest logit.
    """
    network = _alone(module, name)
    width = _answer_width(network, preprocessing, name)
    if width != len(classes):
        raise ClassMismatchError(
            f"model {name!r}: expected one logit per class ({len(classes)} classes), got {width} logits. "
            "Give the class names in the order of the network's outputs."
        )
    core = clean(_trace(network, preprocessing, name), set(network.state_dict()))
    joined = attach_front(core, name=name, front=front_model(preprocessing))
    if rewrite:
        joined = rewritten(joined, random_images(preprocessing.resolution))
    onnx.checker.check_model(joined, full_check=True)
    content: bytes = joined.SerializeToString(deterministic=True)
    check_parity(content, nn.Sequential(Preprocess(preprocessing), network), preprocessing, name=name)
    return content


def check_parity(content: bytes, module: nn.Module, preprocessing: Preprocessing, *, name: str) -> float:
    """Compare an exported graph with torch on random images of two sizes, alone and in a batch of three.

    Parameters
    ----------
    content
        The ONNX file under the model contract.
    module
        uint8 ``[N, H, W, 3]`` → logits ``[N, C]``, in ``eval()``.

    Returns
    -------
    float
        The largest difference as a share of the largest logit.

    Raises
    ------
    ParityError
        When it is above 1e-4 or not a number.
    """

    def torch_answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = module(torch.from_numpy(images)).numpy()
        return logits

    worst = disagreement(content, torch_answer, preprocessing.resolution, name=name)
    if worst > TOLERANCE:
        raise ParityError(
            f"model {name!r}: expected the exported graph to agree with torch within {TOLERANCE:.0e} of the "
            f"largest logit, got {worst:.1e}. The network computes something that the export loses "
            "(randomness, data-dependent branches, or logits that are not finite)."
        )
    return worst


def _alone(module: nn.Module, name: str) -> nn.Module:
    """A copy of a network on the CPU, in float32 and ``eval()``, without wrappers."""
    while (inner := getattr(module, "_orig_mod", None)) is not None or isinstance(
        module, (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
    ):
        module = module.module if inner is None else inner  # type: ignore[assignment]
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        kind = f"the class {module.__name__}" if isinstance(module, type) else f"a {type(module).__name__}"
        raise ModelError(
            f"model {name!r}: expected a network (torch.nn.Module), got {kind}. Make the network, load its "
            "weights into it, and give it itself."
        )
    try:
        return copy.deepcopy(module).cpu().float().eval()
    except Exception as error:  # networks may hold what cannot be copied, or no content
        raise ModelError(
            f"model {name!r}: expected a network that can be copied to the CPU, got: {error}. "
            "Load its weights, and take locks, files and the like out of it."
        ) from error


def _answer_width(network: nn.Module, preprocessing: Preprocessing, name: str) -> int:
    try:
        with torch.inference_mode():
            answer = network(
                torch.rand(
                    3,
                    preprocessing.planes,
                    *preprocessing.resolution,
                    generator=torch.Generator().manual_seed(0),
                )
            )
    except Exception as error:  # a network may raise anything
        raise ModelError(
            f"model {name!r}: expected a network that takes float32 [N, {preprocessing.planes}, "
            f"{preprocessing.resolution[0]}, {preprocessing.resolution[1]}], got an error from it: {error}. "
            "Check the resolution and the channels."
        ) from error
    if not isinstance(answer, torch.Tensor) or answer.ndim != 2 or len(answer) != 3:
        got = list(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise ModelError(
            f"model {name!r}: expected the network to return logits [N, C], got {got} for N = 3. "
            "Give a torch.nn.Module whose forward calls it and returns the logits alone."
        )
    if answer.min() >= 0 and (answer.sum(dim=1) - 1).abs().max() < _SUM_OF_PROBABILITIES:
        raise ModelError(
            f"model {name!r}: expected logits, got outputs between 0 and 1 that sum to 1. They are probably "
            "probabilities; take the softmax out of the network."
        )
    return int(answer.shape[1])


def _trace(network: nn.Module, preprocessing: Preprocessing, name: str) -> onnx.ModelProto:
    try:
        with quiet():
            program = torch.onnx.export(
                network,
                (torch.zeros(2, preprocessing.planes, *preprocessing.resolution),),
                dynamo=True,
                optimize=False,  # the optimizer would fold BatchNormalization into the convolutions
                opset_version=OPSET,
                input_names=["pixels"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("N")},),
                verbose=False,
            )
            proto: onnx.ModelProto = program.model_proto  # type: ignore[union-attr]
    except Exception as error:  # the exporter raises a family of unrelated classes
        cause: BaseException = error  # the exporter's own message says only at which step it failed
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0].rstrip(".")
        raise ModelError(
            f"model {name!r}: expected a network that torch can export with a free batch, got: {reason}. "
            "Avoid branches and shapes that depend on the values or on the batch."
        ) from error
    return proto


def clean(core: onnx.ModelProto, weights: set[str]) -> onnx.ModelProto:
    """Fold what is constant (but no BatchNormalization) and drop notes that hold paths and stack traces."""
    with quiet():
        model = onnx_ir.serde.deserialize_model(core)
        onnxscript.optimizer.fold_constants(model)
        for clean in (
            passes.IdentityEliminationPass(),
            passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            passes.RemoveUnusedNodesPass(),
            passes.RemoveUnusedOpsetsPass(),
            passes.ClearMetadataAndDocStringPass(),
        ):
            clean(model)
    cleaned: onnx.ModelProto = onnx_ir.serde.serialize_model(model)
    del cleaned.graph.value_info[:]  # inferred anew where it is needed
    _drop_zero_biases(cleaned.graph, weights)
    return cleaned


def _drop_zero_biases(graph: onnx.GraphProto, weights: set[str]) -> None:
    """Take out the zeros that torch's exporter gives to convolutions that have no bias."""
    zeros = {
        tensor.name
        for tensor in graph.initializer
        if tensor.name not in weights and not numpy_helper.to_array(tensor).any()
    }
    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) == 3 and node.input[2] in zeros:
            del node.input[2]
    used = {value for node in graph.node for value in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
