"""Claims about drift references: small, plain, and consistent or refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.small_releases import bundle_release, model_release
from zoo.releases.input_reference import DriftFeature, InputReference

GOOD = {"name": "light", "edges": [0.0, 1.5], "counts": [3, 4, 5]}


def test_a_reference_survives_its_way_to_a_device() -> None:
    made = msgspec.convert({"alpha": 0.01, "features": [GOOD]}, InputReference)
    assert msgspec.json.decode(msgspec.json.encode(made), type=InputReference) == made
    assert made.names == ("light",)


@pytest.mark.parametrize(
    "change",
    [
        {"edges": [1.0, 1.0]},
        {"edges": [2.0, 1.0]},
        {"edges": []},
        {"edges": [0.0, 1e39]},
        {"counts": [1, 2]},
        {"counts": [1, 2, -3]},
        {"name": "<b>"},
        {"edges": [float(i) for i in range(64)], "counts": [1] * 65},
        {"more": 1},
    ],
)
def test_bins_that_are_none_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(GOOD | change, DriftFeature)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0])
def test_a_rate_of_false_alarms_lies_between_0_and_1(alpha: float) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"alpha": alpha, "features": [GOOD]}, InputReference)


def test_features_have_distinct_names() -> None:
    with pytest.raises(msgspec.ValidationError, match="expected distinct names"):
        msgspec.convert({"alpha": 0.01, "features": [GOOD, GOOD]}, InputReference)


@pytest.mark.parametrize(
    ("name", "environment", "task"),
    [
        ("birds", None, "birds"),
        ("birds", "clear", "birds"),
        ("birds.dark", "dark", "birds"),
        ("birds.v2.dark", "dark", "birds.v2"),
        ("birds.v2", None, "birds.v2"),
    ],
)
def test_the_task_of_a_bundle_is_its_name_without_its_environment(
    name: str, environment: str | None, task: str
) -> None:
    release = bundle_release(name, (model_release("net", {"w": 1}),), environment=environment)
    assert release.task == task
