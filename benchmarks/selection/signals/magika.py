"""Three third-party classifiers of file types: the same classes, more and more of a file."""

from __future__ import annotations

import json
from pathlib import Path

from zoo.convert.add import add_signal
from zoo.convert.signals.signal_front import SignalFront
from zoo.errors import DataError
from zoo.inputs.signal import Signal
from zoo.models.zoo import Zoo

MODELS = ("fast", "begonly", "standard")


def magika_zoo(folder: Path, unpacked: Path) -> Zoo:
    """The zoo in `folder`, made where it is not there.

    Parameters
    ----------
    unpacked
        The folder ``magika`` of the archive ``magika.zip``: ``models/<name>_v2_1/{model.onnx,config.json}``.

    Raises
    ------
    DataError
        When a ``config.json`` is another file than expected.
    """
    zoo = Zoo.open_or_create(folder)
    for name in MODELS:
        if name in zoo.names:
            continue
        source = unpacked / "models" / f"{name}_v2_1"
        try:
            config = json.loads((source / "config.json").read_text())
            front = SignalFront(
                Signal(),
                first=config["beg_size"],
                last=config["end_size"],
                pad=config["padding_token"],
                strip=config["block_size"],
            )
            classes = config["target_labels_space"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{source / 'config.json'}: expected sizes, padding and classes, got: {error}. "
                "Unpack it again."
            ) from error
        add_signal(zoo, name, source / "model.onnx", front, classes, output_kind="probabilities")
    return zoo
