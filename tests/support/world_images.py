"""Images and bundles of the world of colours, for claims about answers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from selector import Selector
from selector.policies.input import InputPolicy
from selector.telemetry.demand import Demand
from selector.worth.best_set import TaskWorth
from selector.worth.missed import demand_of
from selector.worth.value import task_worth
from zoo.files import encode_record

if TYPE_CHECKING:
    from tests.support.world import World


def some_images(world: World, count: int = 200) -> list[NDArray[np.uint8]]:
    return [world.data.image(i * 5) for i in range(count)]


def with_subset(world: World, folder: Path, among: tuple[str, ...]) -> Path:
    """The input bundle with a second policy that picks among fewer models, certified for the same."""
    world.copy_bundle("input", folder)
    bundle = Selector.load(folder).bundle
    whole = bundle.policies[0]
    assert isinstance(whole, InputPolicy)
    costs = tuple(whole.costs_ms[whole.order.index(name)] for name in among) if whole.costs_ms else ()
    part = InputPolicy(order=whole.order, among=among, rule=whole.rule, costs_ms=costs)
    bundle = msgspec.structs.replace(bundle, policies=(whole, part))
    added = [
        msgspec.structs.replace(one, policy=1, subject_sha256=bundle.subject(1))
        for one in bundle.certificates
    ]
    bundle = msgspec.structs.replace(bundle, certificates=(*bundle.certificates, *added))
    (folder / "bundle.json").write_bytes(encode_record(bundle))
    return folder


def environment_images(world: World, environment: str, count: int = 150) -> list[NDArray[np.uint8]]:
    """Images of one environment that nothing was fitted on (in no order)."""
    index = {name: i for i, name in enumerate(world.data.ids)}
    return [world.data.image(index[f"{group}-{environment}"]) for group in world.test_groups[:count]]


def recent_demand(selector: Selector) -> Demand:
    """What was asked of a selector lately, and which models were missed."""
    view = selector._view
    return demand_of(
        view.recent.answers(),
        view.bundle,
        view.installed,
        name=getattr(selector, "task_name", "") or "b",
        since=0.0,
    )


def recent_task(selector: Selector) -> TaskWorth:
    """What sets of a selector's models are worth for what was asked of it lately."""
    return task_worth(selector.bundle, selector._view.recent.answers(), name="b", costs=selector._view.costs)


def expected_gain(selector: Selector, models: Iterable[str]) -> float:
    """How much more an answer like the latest would be worth with these models than with the installed."""
    task = recent_task(selector)
    return task.gain(models) - task.gain(selector.models)
