"""Bundles for timing: networks with random weights and policies that were not fitted.

How long an answer takes does not depend on what weights are; which way it goes is forced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from selector.bundle.bundle import (
    BUNDLE_FILE,
    Bundle,
    DeviceCosts,
    SelectorGraph,
    version_for,
)
from selector.bundle.calibration import Calibration
from selector.drift.reference import DriftReference
from selector.policies.cascade import CascadePolicy, LookaheadPolicy, LookaheadStage, Stage
from selector.policies.constraint import Constraint
from selector.policies.input import InputPolicy
from selector.policies.policy import Policy
from selector.policies.pool import PoolPolicy, PoolStage
from selector.policies.rules import confidence
from selector.policies.staged import StagedPolicy, State
from training.features.features import NAMES
from training.features.image.features import WATCHED
from training.features.operators import OperatorList
from training.fitting.drift_bins import drift_feature
from training.fitting.drift_reference import ALPHA, drift_graph
from training.policies.state_scores import StageEstimator, statistics
from training.search.selector_graph import selector_graph
from zoo.architectures.cifar_resnet import CIFAR10_CLASSES, CIFAR_RESNET_PREPROCESSING, CifarResNet
from zoo.architectures.convnet import convnet
from zoo.convert.add import add_module
from zoo.convert.int8.add_int8 import add_int8
from zoo.files import encode_record, read_verified, sha256_bytes, write_atomic
from zoo.models.card import ModelCard
from zoo.models.session import open_session
from zoo.models.zoo import Zoo

SIDE = 32  # of the images, in pixels
FEATURES = 6  # of an input policy
_GRID = 32
_CALIBRATION_IMAGES = 32
_REFERENCE_SAMPLES = 600  # of a drift reference


def made_zoo(folder: Path, *, seed: int = 0) -> Zoo:
    """``tiny``, ``small``, ``resnet20-int8``, ``resnet20`` and ``resnet56``, of ten classes."""
    zoo = Zoo.open_or_create(folder)
    torch.manual_seed(seed)
    for name in ("tiny", "small"):
        if name not in zoo.names:
            add_module(zoo, name, *convnet(name, len(CIFAR10_CLASSES)), CIFAR10_CLASSES, source="random")
    for depth in (20, 56):
        if f"resnet{depth}" not in zoo.names:
            network = CifarResNet(depth).eval()
            add_module(
                zoo,
                f"resnet{depth}",
                network,
                CIFAR_RESNET_PREPROCESSING,
                CIFAR10_CLASSES,
                source="random",
            )
    if "resnet20-int8" not in zoo.names:
        add_int8(zoo, "resnet20", made_images(_CALIBRATION_IMAGES, seed=seed), force=True)
    return zoo


def made_images(count: int, *, seed: int = 0, side: int = SIDE) -> list[NDArray[np.uint8]]:
    """Images uint8 ``[side, side, 3]`` of random pixels around a random colour each."""
    rng = np.random.default_rng(seed)
    base = rng.integers(40, 200, (count, 1, 1, 3))
    noise = rng.integers(-40, 41, (count, side, side, 3))
    return list((base + noise).clip(0, 255).astype(np.uint8))


def made_policies(names: Sequence[str], classes: int) -> dict[str, tuple[Policy, dict[str, bytes]]]:
    """A policy of every kind over the same models, by a word for it, with its graphs by file."""
    count = len(names)
    found: dict[str, tuple[Policy, dict[str, bytes]]] = {
        "cascade": (
            CascadePolicy(stages=tuple(Stage(model=name, scale=1.0, offset=0.1) for name in names)),
            {},
        ),
        "lookahead": (
            LookaheadPolicy(
                stages=tuple(
                    LookaheadStage(
                        model=name,
                        scales=(1.0,) * (count - i),
                        offsets=(0.1,) * (count - i),
                        costs_ms=(1.0,) * (count - i - 1),
                    )
                    for i, name in enumerate(names)
                )
            ),
            {},
        ),
        "pool": (
            PoolPolicy(
                stages=tuple(
                    PoolStage(model=name, scale=1.1, bias=(0.1,) * classes, slope=1.0, offset=0.0)
                    for name in names
                ),
                prices=(0.0,),
                settings=((0.5,) * (count - 1),),
            ),
            {},
        ),
        "input": (
            InputPolicy(order=tuple(names), rule="price", costs_ms=tuple(float(i) for i in range(count))),
            {},
        ),
    }
    states, graphs = [], {}
    for i in range(count):
        ran, actions = tuple(names[: i + 1]), ((names[i + 1],),) if i + 1 < count else ()
        content = _state_graph(i + 1, classes, 1 + len(actions))
        file = f"state{i}.onnx"
        graphs[file] = content
        costs = (1.0,) * len(actions)
        states.append(
            State(
                ran=ran,
                actions=actions,
                costs_ms=costs,
                file=file,
                sha256=sha256_bytes(content),
                size_bytes=len(content),
            )
        )
    found["staged"] = (StagedPolicy(states=tuple(states), rule="price", committee=False), graphs)
    return found


def write_bundle(
    folder: Path,
    zoo: Zoo,
    names: Sequence[str],
    policy: Policy,
    graphs: Mapping[str, bytes],
    *,
    costs_ms: Mapping[str, float] | None = None,
) -> Bundle:
    """Write a bundle with a drift reference that answers by `policy` with these models of `zoo`.

    Parameters
    ----------
    costs_ms
        Of each model, by default 1 ms for the first, 2 for the second and so on; a monitor looks at the more
        inputs the longer answers take.
    """
    cards = tuple(zoo.card(name) for name in names)
    files = dict(graphs)
    record = None
    if policy.needs_features:
        content = _selector_graph(len(names))
        record = _selector(content)
        files[record.file] = content
    drift, files["drift.onnx"] = made_reference(zoo, names[:1])
    bundle = Bundle(
        schema_version=version_for(cards),
        task="classification",
        classes=cards[0].classes,
        models=cards,
        by_accuracy=tuple(reversed(names)),
        policies=(policy,),
        default=Constraint(kind="precision", level=0.8),
        certificates=(),
        costs=(_costs(cards, costs_ms),),
        calibration=Calibration(data_sha256="0" * 64, fit=1, tune=1, certify=1),
        selector=record,
        drift=drift,
    )
    for card in cards:
        content = read_verified(zoo.folder / card.file, card.sha256, card.size_bytes)
        write_atomic(folder / card.file, content)
    for file, content in files.items():
        write_atomic(folder / file, content)
    write_atomic(folder / BUNDLE_FILE, encode_record(bundle))
    return bundle


def made_reference(zoo: Zoo, names: Sequence[str], *, seed: int = 0) -> tuple[DriftReference, bytes]:
    """A drift reference of random images with the confidence of models of `zoo` on them, and its graph."""
    content = drift_graph(WATCHED, _GRID)
    images = np.stack(made_images(_REFERENCE_SAMPLES, seed=seed))
    values = open_session(content, name="drift").run(["features"], {"image": images})[0]
    odds = {name: np.array(confidence(zoo.model(name).logits(images))[0], np.float32) for name in names}
    known, counted = slice(0, None, 2), slice(1, None, 2)
    reference = DriftReference(
        alpha=ALPHA,
        features=tuple(
            drift_feature(name, values[known, i], values[counted, i]) for i, name in enumerate(WATCHED)
        ),
        confidence={name: drift_feature(name, some[known], some[counted]) for name, some in odds.items()},
        file="drift.onnx",
        sha256=sha256_bytes(content),
        size_bytes=len(content),
    )
    return reference, content


def _costs(cards: Sequence[ModelCard], costs_ms: Mapping[str, float] | None) -> DeviceCosts:
    times = {card.name: float(i + 1) for i, card in enumerate(cards)} if costs_ms is None else dict(costs_ms)
    return DeviceCosts(device="any", threads=1, image=(SIDE, SIDE), models=times)


def _state_graph(models: int, classes: int, ways: int) -> bytes:
    width = statistics(np.zeros((1, models, classes), np.float32), committee=False).shape[1]
    return StageEstimator(classes, models, False, np.zeros((width + 1, ways))).to_onnx()


def _selector_graph(models: int) -> bytes:
    g = OperatorList()
    odds = g.add("MatMul", "features", g.constant(np.zeros((FEATURES, models))))
    source = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", FEATURES])
    scores = g.to_onnx([source], {"scores": (g.add("Sigmoid", odds), models)})
    return selector_graph(NAMES[:FEATURES], scores, grid=_GRID)


def _selector(content: bytes) -> SelectorGraph:
    return SelectorGraph(
        file="selector.onnx",
        sha256=sha256_bytes(content),
        size_bytes=len(content),
        features=tuple(NAMES[:FEATURES]),
        estimator="logistic regression",
    )
