"""Export: a torch network that looks at a part of a signal → one ONNX file, checked against torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from zoo.convert.count import add_counted
from zoo.convert.export import clean
from zoo.convert.parity import TOLERANCE
from zoo.convert.preprocessing_graph import OPSET
from zoo.convert.signals.import_signal import wrap_signal
from zoo.convert.signals.signal_front import SignalFront
from zoo.errors import ModelError, ParityError
from zoo.models.card import ModelCard
from zoo.models.session import open_session
from zoo.models.zoo import Zoo
from zoo.quiet import quiet


def export_signal_module(
    module: nn.Module, front: SignalFront, *, name: str, classes: Sequence[str]
) -> bytes:
    """Export a trained network of signals under the model contract.

    Parameters
    ----------
    module
        ``[N, width]`` → logits float32 ``[N, C]``, with the width of `front`: int64 of bytes, float32 else.
        Exported in ``eval()``.
    front
        What has to happen to a signal before.
    name
        Name of the graph.
    classes
        The C class names, in the order of the logits.

    Returns
    -------
    bytes
        The ONNX file: ``signal`` ``[N, L]`` → ``logits`` float32 ``[N, C]``.

    Raises
    ------
    ModelError
        When torch cannot export the network.
    ParityError
        When ONNX Runtime and torch disagree by more than 1e-4 of the largest logit.
    """
    network = module.eval()
    real = torch.int64 if front.kind.is_bytes else torch.float32
    try:
        with quiet():
            program = torch.onnx.export(
                network,
                (torch.zeros(2, front.width, dtype=real),),
                dynamo=True,
                optimize=False,
                opset_version=OPSET,
                input_names=["samples"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("N")},),
                verbose=False,
            )
            core = clean(program.model_proto, set(network.state_dict()))  # type: ignore[union-attr]
    except Exception as error:  # the exporter raises a family of unrelated classes
        raise ModelError(
            f"model {name!r}: expected a network that torch can export with a free batch, got: "
            f"{str(error).strip().splitlines()[0][:200]}. "
            "Avoid branches and shapes that depend on the values."
        ) from error
    content = wrap_signal(core.SerializeToString(), front, name=name, classes=classes)
    rng = np.random.default_rng(0)
    signals = np.stack([front.kind.random((1, front.width), rng) for _ in range(3)])
    with torch.inference_mode():
        begin = open_session(front.model(type=7 if front.kind.is_bytes else 1).SerializeToString(), name=name)
        wanted = network(torch.from_numpy(begin.run(None, front.kind.feeds(signals))[0])).numpy()
    got = open_session(content, name=name).run(["logits"], front.kind.feeds(signals))[0]
    worst = float(np.abs(got - wanted).max() / max(float(np.abs(wanted).max()), 1e-6))
    if not worst <= TOLERANCE:
        raise ParityError(
            f"model {name!r}: expected the exported graph to agree with torch within {TOLERANCE:.0e} of the "
            f"largest logit, got {worst:.1e}. The network computes something that the export loses."
        )
    return content


def add_signal_module(
    zoo: Zoo, name: str, module: nn.Module, front: SignalFront, classes: Sequence[str], **facts: Any
) -> ModelCard:
    """Export a torch network of signals and add it to `zoo`.

    Parameters
    ----------
    **facts
        `source`, `parent`, `trained_on` and `force` of :meth:`zoo.Zoo.add`.

    Raises
    ------
    ZooError
        What :func:`export_signal_module` and :meth:`zoo.Zoo.add` raise.
    """
    content = export_signal_module(module, front, name=name, classes=classes)
    return add_counted(zoo, name, content, classes, (1, front.width), kind=front.kind, **facts)
