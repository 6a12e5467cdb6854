"""Export: a fitted selector and its models → a bundle that runs with numpy and ONNX Runtime alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selector.bundle import BUNDLE_FILE, Bundle
from selector.runtime import Selector
from training.fitted import Fitted
from zoo.directory import Zoo
from zoo.errors import ModelNotFoundError, ParityError, StaleError
from zoo.files import encode_record, read_verified, write_atomic


def export_bundle(
    fitted: Fitted, zoo: Zoo, folder: str | Path, *, models: Sequence[str] | None = None
) -> Bundle:
    """Write a bundle to `folder`.

    Model and graph files carry their digest in their names and ``bundle.json`` is replaced last, so a
    bundle that was there before keeps working until the new one is complete.

    Parameters
    ----------
    zoo
        The zoo that the selector was fitted for.
    models
        Put only these model files into the bundle; by default all. ``bundle.json`` names all of them
        either way.

    Raises
    ------
    StaleError
        When a model of the zoo has changed since the fit.
    DigestError
        When a model file is damaged.
    ModelNotFoundError
        When one of `models` is not in the zoo.
    ParityError
        When the written bundle does not load.
    """
    bundle = fitted.record.bundle
    target = Path(folder)
    for card in bundle.models:
        if card.name not in zoo.names or zoo.card(card.name).sha256 != card.sha256:
            raise StaleError(
                f"model {card.name!r} has changed since the selector was fitted. "
                "Run 'zooselect profile', 'zooselect bench' and 'zooselect fit' again."
            )
    unknown = [name for name in models or () if name not in zoo.names]
    if unknown:
        raise ModelNotFoundError(
            f"no model {', '.join(unknown)} in the zoo. It holds: {', '.join(zoo.names)}."
        )
    for card in bundle.models:
        if models is None or card.name in models:
            write_atomic(
                target / card.file, read_verified(zoo.folder / card.file, card.sha256, card.size_bytes)
            )
    if bundle.selector is not None and fitted.graph is not None:
        write_atomic(target / bundle.selector.file, fitted.graph)
    write_atomic(target / BUNDLE_FILE, encode_record(bundle))
    _remove_others(target, bundle, models)
    return bundle


def check_bundle(folder: str | Path, fitted: Fitted, images: Sequence[NDArray[np.uint8]]) -> int:
    """Load the bundle as a device would and compare its choices with the fitted policy, image by image.

    Only for input policies, whose scores come from features; a cascade has no graph of its own.

    Returns
    -------
    int
        How many choices were compared.

    Raises
    ------
    ParityError
        When a choice differs.
    """
    from training.features import InputFeatures  # torch, needed here only
    from training.policies import FittedInputPolicy

    certificate = fitted.certificate()
    if not isinstance(fitted.policy, FittedInputPolicy) or certificate is None:
        return 0
    import torch

    selector = Selector.load(folder)
    module = InputFeatures(fitted.policy.features, grid=fitted.record.grid).eval()
    for i, image in enumerate(images):
        with torch.inference_mode():
            features = module(torch.tensor(image[np.newaxis])).numpy()
        scores = fitted.policy.scores(features)
        pick = fitted.policy.models[int(fitted.policy.decide(scores, certificate.threshold)[0][0])]
        got = selector.select(image)
        if got.model != pick:
            raise ParityError(
                f"image {i}: expected the bundle to choose {pick!r} as the fit does, got {got.model!r}. "
                "Export again; if it stays, check the versions in constraints.txt."
            )
    return len(images)


def _remove_others(folder: Path, bundle: Bundle, models: Sequence[str] | None) -> None:
    named = {card.file for card in bundle.models if models is None or card.name in models}
    for path in (folder / "models").glob("*.onnx"):
        if path.relative_to(folder).as_posix() not in named:
            path.unlink(missing_ok=True)
    for path in folder.glob("selector-*.onnx"):
        if bundle.selector is None or path.name != bundle.selector.file:
            path.unlink(missing_ok=True)
