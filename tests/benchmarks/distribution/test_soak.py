"""Claims about the soak: devices answer whatever goes wrong, and what is not right in the end is said."""

from __future__ import annotations

from benchmarks.distribution.soak import run_soak
from benchmarks.distribution.soak_devices import Final
from benchmarks.distribution.soak_run import wrong_in
from tests.support.small_releases import bundle_release, model_release
from zoo.models.zoo import Zoo
from zoo.releases.release import Assignment, Index

LARGE, SMALL = (model_release(name, {name: size}) for name, size in (("large", 900), ("small", 100)))
TASK = bundle_release("objects", (LARGE, SMALL))
INDEX = Index(
    models={"large": LARGE, "small": SMALL},
    bundles={"objects": TASK},
    assignments={
        "cameras": Assignment(
            schema_version=1, version=1, group="cameras", bundles=("objects",), models=("small", "large")
        )
    },
)
PUBLISHED = {LARGE.card.sha256, SMALL.card.sha256}


def held(*models: str, version: int = 1, problem: str | None = None) -> Final:
    """What a device told in the end."""
    return Final(
        folder="device",
        models=dict.fromkeys(models, version),
        bundles={"objects": 1},
        digests={name: INDEX.models[name].card.sha256 for name in models},
        damaged=(),
        problem=problem,
        looks=1,
    )


def wrong(final: Final, *, group: str | None = "cameras", budget: int | None = None) -> list[str]:
    return wrong_in(final, INDEX, group=group, budget=budget, published=PUBLISHED)


def test_a_device_is_right_with_the_assigned_models_that_it_has_room_for() -> None:
    assert wrong(held("small", "large")) == []
    assert wrong(held("small"), budget=500) == []
    assert wrong(held("large"), group=None) == []
    assert wrong(held("large"), budget=150) == [], "the first one does not fit"


def test_what_is_not_right_is_said() -> None:
    assert "assigned are small, large" in wrong(held("small"))[0]
    assert "assigned are small, large" in wrong(held("large"), budget=1000)[0]
    assert wrong(held(), group=None) == ["no model"]
    assert "published are" in wrong(held("small", "large", version=2))[0]
    assert "after 1 looks: it is full" in wrong(held("small", "large", problem="it is full"))[0]


def test_devices_answer_through_kills_full_disks_updates_and_withdrawals(small_zoo: Zoo) -> None:
    found = run_soak(
        minutes=0.04,
        devices=4,
        devices_per_process=2,
        zoo=small_zoo,
        event_interval_s=0.2,
        kinds=("kill", "disk", "update", "head", "refuse", "withdrawal"),
    )
    assert found["broken"] == []
    assert (found["devices_right"], found["failed_answers"], found["lost_reports"]) == (4, 0, 0)
    assert found["answers"] > 0
