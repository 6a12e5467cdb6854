"""Small real things for the tests: contract-conforming ONNX models, a zoo on disk, the real data sets."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Unpack

# Before torch: on a busy machine, threads that wait for each other in small networks take minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnx
import pytest
from hypothesis import settings
from onnx import TensorProto, helper, numpy_helper
from small_device import device as device
from small_device import publisher as publisher
from small_device import server as server
from small_repo import keys as keys
from small_repo import quick_peak as quick_peak
from small_repo import repo as repo
from small_scenario import small_scenario as small_scenario

import training.consider
import training.fit
import training.input
import zoo.build.offer
from training.candidates import Candidate
from training.costs import FeatureCosts
from training.data import ArrayImages
from training.export import export_bundle
from training.features import NAMES
from training.fitted import Fitted
from training.options import Options, PolicyKind, fit_options
from training.outcomes import ALL_SPLITS, Outcomes, load_outcomes
from training.profile import profile
from training.splits import Splits
from zoo import LatencyTable, Zoo
from zoo.build.peak import Measured
from zoo.latency import Machine, ModelLatency, summarise

# The same examples in every run, however slow the machine; '--hypothesis-profile default' looks for others.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

COLOURS = ("red", "green", "blue")


def build_onnx(
    classes: Sequence[str] = COLOURS,
    *,
    bias: Sequence[float] | None = None,
    channels: Sequence[int] | None = None,
    noise: float = 0.0,
    seed: int = 0,
    work: int = 0,
    input_name: str = "image",
    input_type: int = TensorProto.UINT8,
    input_shape: Sequence[int | str] = ("N", "H", "W", 3),
    output_name: str = "logits",
    extra_input: bool = False,
    only_batch: int | None = None,
) -> bytes:
    """ONNX bytes of a linear classifier of the mean colour; class k answers to channel k modulo 3.

    Parameters
    ----------
    bias
        Added to the logits: a large one makes a model that always gives the same answer.
    channels
        Which channel each class answers to, where it is not k modulo 3.
    noise, seed
        Standard deviation of a repeatable disturbance of the weights, which are 0 and 1 without it.
    work
        Matrix products over the whole image that change nothing but the running time.
    input_name, input_type, input_shape, output_name, extra_input
        Ways to break the contract that show in the signature.
    only_batch
        Hide the shape of the output, and fail on batches of another size (0: on none).
    """
    count = len(classes)
    weights = np.eye(3, dtype=np.float32)[np.arange(count) % 3 if channels is None else list(channels)]
    weights = weights + np.random.default_rng(seed).normal(0, noise, weights.shape).astype(np.float32)
    constants: dict[str, np.ndarray] = {
        "scale": np.float32(10 / 255).reshape(1),
        "same": np.eye(3, dtype=np.float32),
        "axes": np.array([1, 2], dtype=np.int64),
        "weights": weights.T.copy(),
        "shape": np.array([only_batch or -1, count], dtype=np.float32),
        "zero": np.float32(0).reshape(1),
        "bias": np.zeros(count, np.float32) if bias is None else np.asarray(bias, np.float32),
    }
    nodes = [
        helper.make_node("Cast", [input_name], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["work0"]),
        *(helper.make_node("MatMul", [f"work{i}", "same"], [f"work{i + 1}"]) for i in range(work)),
        helper.make_node("ReduceMean", [f"work{work}", "axes"], ["colour"], keepdims=0),
    ]
    if only_batch is None:
        nodes.append(helper.make_node("Gemm", ["colour", "weights", "bias"], [output_name]))
    else:  # a shape that depends on the data is one that nothing can infer
        nodes += [
            helper.make_node("Gemm", ["colour", "weights", "bias"], ["scores"]),
            helper.make_node("ReduceMean", ["scores"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
            helper.make_node("Add", ["shape", "nothing"], ["any shape"]),
            helper.make_node("Cast", ["any shape"], ["final shape"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["scores", "final shape"], [output_name]),
        ]
    inputs = [helper.make_tensor_value_info(input_name, input_type, input_shape)]
    if extra_input:
        inputs.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1]))
    graph = helper.make_graph(
        nodes,
        "colours",
        inputs,
        [
            helper.make_tensor_value_info(
                output_name, TensorProto.FLOAT, ["N", "C" if only_batch == 0 else count]
            )
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def add_colours(zoo: Zoo, name: str, content: bytes, classes: tuple[str, ...] = COLOURS) -> None:
    """Add a model made by :func:`build_onnx` to `zoo`."""
    zoo.add(name, content, classes=classes, resolution=(8, 8), parameters=12, macs=9)


def plain_image(colour: str, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    """A uint8 image ``[H, W, 3]`` of one of the three colours."""
    image = np.full((*size, 3), 40, np.uint8)
    image[..., COLOURS.index(colour)] = 220
    return image


@pytest.fixture(scope="session", autouse=True)
def peaks_are_measured_once() -> Iterator[None]:
    """Publishing measures each model in a process; the same one again takes what was measured."""
    measure = zoo.build.offer.measure_peak
    known: dict[tuple[bytes, tuple[int, int], str], Measured] = {}

    def once(graph: bytes, weights: Path, image: tuple[int, int], *, name: str) -> Measured:
        key = (graph, image, name)  # the graph names its weights by their digests
        if key not in known:
            known[key] = measure(graph, weights, image, name=name)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo.build.offer, "measure_peak", once)
        yield


@pytest.fixture(scope="session")
def tiny_onnx() -> Callable[..., bytes]:
    """The function :func:`build_onnx`."""
    return build_onnx


@pytest.fixture
def small_zoo(tmp_path: Path) -> Zoo:
    """Three real models of the classes red, green and blue: ``full`` is right, the others less so."""
    zoo = Zoo.create(tmp_path / "zoo")
    add_colours(zoo, "tiny", build_onnx(bias=(9.0, 0.0, 0.0)))
    add_colours(zoo, "small", build_onnx(noise=0.6, seed=3, work=2))
    add_colours(zoo, "full", build_onnx(work=6))
    return zoo


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets and weights; tests that need it are skipped without it."""
    folder = os.environ.get("ZOOSELECT_DATA")
    if not folder:
        pytest.skip("set ZOOSELECT_DATA to the folder of the real data sets to run this test")
    if not Path(folder).is_dir():
        pytest.fail(f"ZOOSELECT_DATA should name a folder, got {folder}")
    return Path(folder)


COSTS_MS = {"tiny": 0.1, "small": 0.3, "full": 1.0}
STAGE_MS, CONFIDENCE_MS, SELECTOR_MS = 0.004, 0.002, 0.01
COLOUR_SPLITS = Splits(fit=0.35, tune=0.1, certify=0.3, test=0.25)
Kind = Literal["input", "cascade", "lookahead", "learned", "probe"]
KINDS: tuple[Kind, ...] = ("input", "cascade", "lookahead", "learned", "probe")
KIND_OF_POLICY: dict[Kind, PolicyKind] = {
    "input": "input",
    "cascade": "cascade",
    "lookahead": "cascade",
    "learned": "cascade",
    "probe": "probe",
}
CANDIDATES: dict[Kind, Callable[[Candidate], bool]] = {
    "input": lambda one: one.kind == "input" and len(one.models) == 3,
    "cascade": lambda one: one.label in ("cascade on raw confidence", "one model"),
    "lookahead": lambda one: one.label == "cascade on raw confidence, look-ahead" and len(one.models) == 3,
    "learned": lambda one: one.label.startswith("learned") and len(one.models) == 3,
    "probe": lambda one: one.label == "probe, committee, input features",
}


def colour_images(count: int = 800, *, seed: int = 0, size: tuple[int, int] = (12, 12)) -> ArrayImages:
    """Images of a more or less strong colour, each under three environments; one in fifty is mislabelled."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    images, ids, groups, environments = [], [], [], []
    for i, label in enumerate(labels):
        clear = np.full((*size, 3), rng.uniform(60, 150))
        clear[..., label if rng.random() > 0.02 else (label + 1) % 3] += rng.uniform(2, 90)
        clear += rng.normal(0, 8, clear.shape)
        variants = {"clear": clear, "dark": clear * 0.35, "noise": clear + rng.normal(0, 30, clear.shape)}
        for name, image in variants.items():
            images.append(image.clip(0, 255).astype(np.uint8))
            ids.append(f"{i:04d}-{name}")
            groups.append(f"{i:04d}")
            environments.append(name)
    return ArrayImages(
        np.stack(images), COLOURS, ids, labels.repeat(3), groups=groups, environments=environments
    )


def colour_zoo(folder: Path) -> Zoo:
    """Three models that differ in how often they are right; ``small`` has its classes in another order."""
    zoo = Zoo.create(folder)
    add_colours(zoo, "tiny", build_onnx(noise=0.15, seed=1))
    turned = ("blue", "red", "green")
    add_colours(zoo, "small", build_onnx(turned, channels=(2, 0, 1), noise=0.06, seed=0, work=3), turned)
    add_colours(zoo, "full", build_onnx(work=8))
    return zoo


def latency_table(zoo: Zoo, costs_ms: dict[str, float] | None = None) -> LatencyTable:
    """A latency table with the given times, so that no choice depends on the machine of the tests."""
    costs = costs_ms or COSTS_MS
    return LatencyTable(
        schema_version=1,
        device="bench-top",
        threads=1,
        image=(12, 12),
        machine=Machine(processor="p", cores=1, system="s", python="3", onnxruntime="1"),
        models={
            card.name: ModelLatency(sha256=card.sha256, latency=summarise([costs[card.name]] * 20))
            for card in zoo.cards
        },
    )


class GivenCosts(FeatureCosts):
    """Costs of features that are not measured: half a microsecond each."""

    def of(self, names: Sequence[str]) -> float:
        return 0.5 * len(set(names))

    def shares_us(self, names: Sequence[str]) -> list[float]:
        return [0.5] * len(names)


@contextmanager
def steady(
    only: Callable[[Candidate], bool] = lambda _: True, *, scout: bool = False, watch: bool = False
) -> Iterator[pytest.MonkeyPatch]:
    """Fits inside choose among candidates that are `only` of some kind, and measure nothing.

    What a fit measures is given, so that no choice depends on the machine of the tests. A scout takes seconds
    to train; without it, features are those of the pool. Unless inputs are to be watched, bundles have no
    drift reference: most tests ask for the same few images over and over, which is a change.
    """
    every = training.consider.all_candidates

    def some(*arguments: Any, **named: Any) -> list[Candidate]:
        return [one for one in every(*arguments, **named) if only(one)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.consider, "all_candidates", some)
        patch.setattr(training.consider, "decision_costs_ms", lambda *_, **__: (STAGE_MS, CONFIDENCE_MS))
        patch.setattr(training.input, "selector_cost_ms", lambda *_, **__: SELECTOR_MS)
        patch.setattr(
            training.input, "measure_costs", lambda grid, **_: GivenCosts(grid, dict.fromkeys(NAMES, 0.5), {})
        )
        if not watch:
            patch.setattr(training.fit, "drift_fit", lambda *_, **__: None)
        if not scout:
            patch.setattr(training.fit, "has_pixels", lambda _: False)
        yield patch


def fit_colours(
    folder: Path,
    zoo: Zoo,
    table: LatencyTable,
    *,
    only: Callable[[Candidate], bool] = lambda _: True,
    watch: bool = False,
    **options: Unpack[Options],
) -> Fitted:
    """A :func:`steady` fit to a profile."""
    with steady(only, watch=watch):
        return training.fit.fit(folder, zoo, table, **options)


def fit_in_memory(
    outcomes: Outcomes,
    zoo: Zoo,
    table: LatencyTable,
    *,
    only: Callable[[Candidate], bool] = lambda _: True,
    **options: Unpack[Options],
) -> Fitted:
    """A :func:`steady` fit to outcomes that may have been changed."""
    with steady(only):
        return training.fit.fit_outcomes(
            outcomes,
            zoo,
            table,
            fit_options(options),
            grid=32,
            data_sha256="0" * 64,
            inputs_sha256="0" * 64,
        )


@dataclass(frozen=True)
class World:
    """A zoo of colour models with all that follows from it, made once; whoever changes files copies first."""

    folder: Path
    zoo: Zoo
    data: ArrayImages
    table: LatencyTable
    profile_name: str = "profile"

    @property
    def profile(self) -> Path:
        """Folder of the profile."""
        return self.folder / self.profile_name

    @cached_property
    def outcomes(self) -> Outcomes:
        """All outcomes, the test split included."""
        return load_outcomes(self.profile, zoo=self.zoo, splits=ALL_SPLITS)

    def fit(self, kind: Kind, *, watch: bool = False, **options: Unpack[Options]) -> Fitted:
        """A fit in which nothing but one kind of policy is allowed."""
        asked: Options = {"policy": KIND_OF_POLICY[kind], **options}
        return fit_colours(self.profile, self.zoo, self.table, only=CANDIDATES[kind], watch=watch, **asked)

    @cached_property
    def fits(self) -> dict[Kind, Fitted]:
        """A fit of each kind of policy."""
        return {kind: self.fit(kind, precision=0.9) for kind in KINDS}

    @cached_property
    def bundles(self) -> dict[Kind, Path]:
        """An exported bundle of each kind of policy."""
        for kind, fitted in self.fits.items():
            export_bundle(fitted, self.zoo, self.folder / f"{kind}-bundle")
        return {kind: self.folder / f"{kind}-bundle" for kind in self.fits}

    @cached_property
    def watched(self) -> dict[Kind, Path]:
        """Bundles that notice when images are not like the clear ones any more."""
        for kind in KINDS:
            fitted = self.fit(kind, watch=True, precision=0.8, environment="clear")
            export_bundle(fitted, self.zoo, self.folder / f"watched-{kind}-bundle")
        return {kind: self.folder / f"watched-{kind}-bundle" for kind in KINDS}

    def copy_bundle(self, kind: Kind, target: Path) -> Path:
        """A copy of a bundle that may be changed."""
        shutil.copytree(self.bundles[kind], target)
        return target


def edit_bundle(bundle: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change ``bundle.json`` in the folder `bundle`, which is returned."""
    path = bundle / "bundle.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    return bundle


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world of colours: zoo, images, profile, latency table, fits and bundles."""
    folder = tmp_path_factory.mktemp("world")
    made = World(folder, colour_zoo(folder / "zoo"), colour_images(), latency_table(Zoo.open(folder / "zoo")))
    profile(made.zoo, made.data, made.profile, splits=COLOUR_SPLITS, progress=False)
    return made
