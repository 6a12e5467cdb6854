"""Specialists: one task in several environments, from training to what a publisher offers of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selector.bundle.bundle import read_bundle_files
from selector.serving.served import VERSION_DIGITS
from training.data.environments import under_environments
from training.data.images import LabelledImages
from training.data.splits import TEST, Splits
from training.fitting.export import export_bundle
from training.networks.adapt import adapt
from training.outcomes.outcomes import load_outcomes
from training.outcomes.profile import held_out_images, profile
from training.scenarios.reused import DEVICE, Say, fit_of, has_int8, latency_of, timed
from training.scenarios.surroundings import Surroundings
from zoo.convert.foreign.add_remote import add_remote
from zoo.convert.int8.add_int8 import add_int8
from zoo.errors import DataError
from zoo.models.zoo import Zoo
from zoo.publisher.keys import Keys, create_keys
from zoo.publisher.publish import publish
from zoo.remote.network import Network

TASK = "objects"
CALIBRATION_IMAGES = 200
LATENCY_RUNS = 100


@dataclass(frozen=True)
class Material:
    """What specialists are made of."""

    title: str
    parents: tuple[str, ...]  # models of the zoo that know the first environment
    learn: LabelledImages  # originals that models may learn from
    judge: LabelledImages  # originals that selectors are fitted to and judged on; may hold the same ones
    severity: float
    splits: Splits
    budget_bytes: int  # of a device for which room is scarce
    precision: float  # that most of the models reach
    int8: tuple[str, ...] = ()  # parents whose 8-bit version joins them
    there: tuple[str, ...] = ()  # further models, which a server holds for the device
    adapt: Mapping[str, Any] = field(default_factory=dict)  # options of training.networks.adapt.adapt


@dataclass(frozen=True)
class Published:
    """A task with a variant for every environment, as devices find it."""

    title: str
    repo: Path
    keys: Path
    bundles: dict[str, Path]  # environment → folder of its bundle; the first is where the task begins
    material: Material
    seed: int

    @property
    def root(self) -> bytes:
        """What devices are given to trust."""
        return (self.repo / "metadata" / "1.root.json").read_bytes()

    def name(self, environment: str) -> str:
        """The published name of a variant."""
        return bundle_name(environment, next(iter(self.bundles)))

    def test_images(self, environment: str) -> LabelledImages:
        """What nothing was chosen on, under any environment, also one without a specialist."""
        first, bundle = next(iter(self.bundles.items()))
        held = set(held_out_images(bundle.parent / "profile", self._under(first)).groups)
        shown = self._under(environment)
        return shown.subset([i for i, group in enumerate(shown.groups) if group in held])

    def _under(self, environment: str) -> LabelledImages:
        made_of = self.material
        return under_environments(made_of.judge, [environment], seed=self.seed, severity=made_of.severity)


def bundle_name(environment: str, first: str) -> str:
    """The task's own name in the environment where it begins, else with the environment behind a dot."""
    return TASK if environment == first else f"{TASK}.{environment}"


def make_specialists(
    root: Path,
    zoo: Zoo,
    material: Material,
    environments: Sequence[str],
    *,
    precision: float,
    seed: int = 0,
    around: Surroundings | None = None,
    network: Network | None = None,
    progress: bool = True,
    say: Say = print,
) -> Published:
    """Adapt the parents to every environment but the first, fit a selector in each, and publish all of it.

    What an earlier call left in `root` and is still valid is used again.

    Parameters
    ----------
    around
        With the server that holds those models of the material which are not for the device.
    network
        That policies are fitted for; None: as the server is reached from here.

    Raises
    ------
    DataError
        When environments repeat or are unknown.
    """
    if len(set(environments)) != len(environments) or not environments:
        raise DataError(f"expected distinct environments, got {', '.join(environments) or 'none'}.")
    bundles: dict[str, Path] = {}
    accuracy: dict[str, float] = {}
    tables: dict[str, dict[str, float]] = {DEVICE: {}}
    for environment in environments:
        shown = under_environments(material.learn, [environment], seed=seed, severity=material.severity)
        first = environment == environments[0]
        with timed(f"models for {environment}", say):
            made_for = None if first else environment
            names = _models(zoo, material, shown, made_for, seed, progress)
            names += _asked_there(zoo, material, shown, made_for, around, progress)
        work = root / environment
        some = zoo.only(names)
        data = under_environments(material.judge, [environment], seed=seed, severity=material.severity)
        with timed(f"profile, fit and export for {environment}", say):
            profile(some, data, work / "profile", splits=material.splits, restart=True, progress=progress)
            table = latency_of(some, data, work / "latency.json", runs=LATENCY_RUNS, progress=progress)
            asked = {"precision": precision, "policy": "cascade", "environment": environment, "seed": seed}
            fitted, is_new = fit_of(work, some, table, network=network, progress=progress, **asked)
            if is_new or not (work / "bundle").is_dir():
                export_bundle(fitted, some, work / "bundle")
        bundles[environment] = work / "bundle"
        accuracy |= load_outcomes(work / "profile", zoo=some, splits=(TEST,)).accuracy()
        tables[DEVICE] |= table.costs_ms(some)
    with timed("publish", say):
        if not (root / "keys").exists():
            create_keys(root / "keys")
        publish(
            root / "published",
            zoo.only(list(accuracy)),
            keys=Keys.open(root / "keys"),
            bundles={
                bundle_name(name, environments[0]): read_bundle_files(path) for name, path in bundles.items()
            },
            accuracy=accuracy,
            latency_ms=tables,
        )
    return Published(material.title, root / "published", root / "keys", bundles, material, seed)


def _models(
    zoo: Zoo,
    material: Material,
    shown: LabelledImages,
    environment: str | None,
    seed: int,
    progress: bool,
) -> list[str]:
    """Names of the models for an environment; those that the zoo lacks are made."""
    names = []
    for parent in material.parents:
        name = _child(zoo, material, parent, shown, environment, progress)
        names.append(name)
        if parent in material.int8:
            if not has_int8(zoo, name):
                add_int8(zoo, name, _calibration(zoo, name, shown), force=True)
            names.append(f"{name}-int8")
    return names


def _asked_there(
    zoo: Zoo,
    material: Material,
    shown: LabelledImages,
    environment: str | None,
    around: Surroundings | None,
    progress: bool,
) -> list[str]:
    """Names of the models that a server holds for an environment, where the zoo knows them as remote ones."""
    if around is None or not material.there:
        return []
    held = [_child(zoo, material, parent, shown, environment, progress) for parent in material.there]
    found = []
    for name in held:
        there, version = f"{name}-there", zoo.card(name).sha256[:VERSION_DIGITS]
        known = zoo.card(there).remote if there in zoo.names else None
        if known is None or (known.address, known.version) != (around.address, version):
            around.server.started()  # with what the zoo holds by now
            add_remote(zoo, around.address, name, version=version, name=there, force=True)
        found.append(there)
    return found


def _child(
    zoo: Zoo,
    material: Material,
    parent: str,
    shown: LabelledImages,
    environment: str | None,
    progress: bool,
) -> str:
    """Name of a parent's version for an environment, which is made where the zoo lacks it."""
    name = parent if environment is None else f"{parent}-{environment}"
    if environment is not None and not _is_child(zoo, name, parent):
        adapt(zoo, parent, shown, environment, keep=True, force=True, progress=progress, **material.adapt)
    return name


def _is_child(zoo: Zoo, name: str, parent: str) -> bool:
    """Whether the zoo holds the specialist, of the parent as it is now."""
    if name not in zoo.names:
        return False
    adapted = zoo.card(name).adapted
    return adapted is not None and adapted.parent_sha256 == zoo.card(parent).sha256


def _calibration(zoo: Zoo, name: str, shown: LabelledImages) -> list[Any]:
    parts = [one for one in zoo.card(name).learned_from if one.data_sha256 == shown.originals_sha256]
    learned = Splits(seed=parts[0].seed, train=parts[0].share).training_part(shown) if parts else shown
    step = max(1, len(learned) // CALIBRATION_IMAGES)
    return [learned.image(i) for i in range(0, len(learned), step)][:CALIBRATION_IMAGES]
