"""Export: a fitted selector and its models → a bundle that runs with numpy and ONNX Runtime alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from selector.answering.selector import Selector
from selector.bundle.bundle import BUNDLE_FILE, Bundle
from training.fitting.fitted import Fitted, remove_others
from training.outcomes.outcomes import Outcomes
from zoo.errors import ModelNotFoundError, ParityError, StaleError
from zoo.files import encode_record, read_verified, write_atomic
from zoo.inputs.kind import Item
from zoo.models.card import match_classes
from zoo.models.zoo import Zoo


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

    Examples
    --------
    >>> from training.fitting.export import export_bundle
    >>> bundle = export_bundle(fitted, zoo, "new-bundle", models=["tiny", "small"])
    >>> Selector.load("new-bundle").models
    ('tiny', 'small')
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
    if bundle.drift is not None and fitted.drift is not None:
        write_atomic(target / bundle.drift.file, fitted.drift)
    for file, content in fitted.stage_graphs().items():
        write_atomic(target / file, content)
    write_atomic(target / BUNDLE_FILE, encode_record(bundle))
    _remove_models(target, bundle, models)
    graphs = {graph.file for graph in (bundle.selector, bundle.drift) if graph is not None}
    remove_others(target, graphs | set(fitted.stage_graphs()))
    return bundle


def check_bundle(folder: str | Path, fitted: Fitted, images: Sequence[Item], zoo: Zoo) -> int:
    """Load the bundle as a device would and compare its choices with the simulated policy, image by image.

    Returns
    -------
    int
        How many choices were compared.

    Raises
    ------
    ParityError
        When a choice differs.
    """
    certificate = fitted.certificate()
    if certificate is None:
        return 0
    selector = Selector.load(folder, watch=False)
    outcomes = _outcomes(images, fitted, zoo)
    picks = fitted.policy.simulate(outcomes, certificate.threshold).answered_by
    for i, image in enumerate(images):
        wanted, got = fitted.policy.models[int(picks[i])], selector.select(image).model
        if got != wanted:
            raise ParityError(
                f"image {i}: expected the bundle to choose {wanted!r} as the fit does, got {got!r}. "
                "Export again; if it stays, check the versions in constraints.txt."
            )
    return len(images)


def _outcomes(images: Sequence[Item], fitted: Fitted, zoo: Zoo) -> Outcomes:
    """Outcomes of images whose labels do not matter, with features from torch, not the bundle's graph."""
    from training.features.input_features import InputFeatures
    from training.features.kinds import features_of

    bundle = fitted.record.bundle
    pool, batches = features_of(bundle.kind), [bundle.kind.one(image) for image in images]
    scout = None if fitted.scout is None else pool.scout_from(fitted.scout)
    names = (*pool.names, *(scout.names if scout else ()))
    module = InputFeatures(names, grid=fitted.record.grid, scout=scout, kind=bundle.kind).eval()
    features = np.concatenate([module.of(batch) for batch in batches])
    logits = np.stack(
        [
            np.concatenate([model.run(batch) for batch in batches])[:, order]
            for name in zoo.names
            for model in [zoo.model(name)]
            for order in [match_classes(bundle.classes, model.card.classes, model=name)]
        ],
        axis=1,
    )
    embeddings = {
        name: np.concatenate([model.embedded(batch)[1] for batch in batches])
        for name in zoo.names
        for model in [zoo.model(name)]
        if model.embedding_width is not None
    }
    blank = np.full(len(images), "")
    return Outcomes(
        classes=bundle.classes,
        models=zoo.names,
        ids=blank,
        labels=np.zeros(len(images), np.int64),
        environments=blank,
        groups=blank,
        splits=blank,
        logits=logits,
        features=features,
        feature_names=names,
        embeddings=embeddings,
    )


def _remove_models(folder: Path, bundle: Bundle, models: Sequence[str] | None) -> None:
    named = {card.file for card in bundle.models if models is None or card.name in models}
    for path in (folder / "models").glob("*-*.*"):
        if path.suffix in (".onnx", ".json") and path.relative_to(folder).as_posix() not in named:
            path.unlink(missing_ok=True)
