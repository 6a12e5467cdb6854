"""The files of an exported bundle, as far as publishing has to know them.

What is in ``bundle.json`` besides is the selector's business; here it is read for names and digests alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from zoo.errors import CardError, PublishError
from zoo.files import MAX_JSON_BYTES, read_verified
from zoo.models.card import ModelCard
from zoo.releases.input_reference import DriftFeature
from zoo.types import Positive, Sha256

BUNDLE_FILE = "bundle.json"


@dataclass(frozen=True)
class BundleFiles:
    """Content of a bundle without its models."""

    record: bytes  # bundle.json
    files: dict[str, bytes]  # path in the bundle → graph of the selector, of a state, or of what is watched
    models: dict[str, str]  # name → digest of the file that the bundle was made for
    environment: str | None = None  # of the samples that it was certified on; None: a mix
    drift: dict[str, Any] | None = None  # of its drift reference, what devices tell environments by


class _Graph(msgspec.Struct):
    file: str
    sha256: Sha256
    size_bytes: Positive


class _Policy(msgspec.Struct):
    states: tuple[_Graph, ...] = ()


class _Calibration(msgspec.Struct, frozen=True):
    environment: str | None = None


class _Drift(_Graph):
    alpha: float
    features: tuple[DriftFeature, ...]


class _Bundle(msgspec.Struct):
    models: tuple[ModelCard, ...]
    policies: tuple[_Policy, ...]
    selector: _Graph | None = None
    calibration: _Calibration = _Calibration()
    drift: _Drift | None = None


def read_bundle_files(folder: str | Path) -> BundleFiles:
    """The record and the graphs of the bundle in `folder`, verified by the record.

    Raises
    ------
    PublishError
        When there is no bundle, or it names files outside its folder.
    CardError
        When ``bundle.json`` does not validate.
    DigestError
        When a graph is missing or was changed.
    """
    root = Path(folder)
    try:
        with (root / BUNDLE_FILE).open("rb") as stream:
            content = stream.read(MAX_JSON_BYTES)
    except OSError as error:
        raise PublishError(
            f"expected a bundle in {folder}, got no {BUNDLE_FILE} there ({error.strerror}). "
            "Make one with 'zooselect export', or check the path."
        ) from error
    try:
        bundle = msgspec.json.decode(content, type=_Bundle)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CardError(
            f"{root / BUNDLE_FILE}: expected the record of a bundle, got: {error}. Export it again."
        ) from error
    watched = bundle.drift
    drift = None if watched is None else {"alpha": watched.alpha, "features": watched.features}
    graphs = [graph for policy in bundle.policies for graph in policy.states]
    graphs += [graph for graph in (bundle.selector, bundle.drift) if graph is not None]
    for graph in graphs:
        if not (root / graph.file).resolve().is_relative_to(root.resolve()):
            raise PublishError(
                f"{root / BUNDLE_FILE}: expected graphs inside the bundle, got {graph.file!r}. "
                "Export it again."
            )
    return BundleFiles(
        content,
        {graph.file: read_verified(root / graph.file, graph.sha256, graph.size_bytes) for graph in graphs},
        {card.name: card.sha256 for card in bundle.models},
        bundle.calibration.environment,
        drift,
    )
