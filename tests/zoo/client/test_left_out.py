"""Claims about what fails on a device: it holds up itself and what needs it, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.distribution.network import SlowServer
from tests.support.disks import fill, free_bytes, small_disk
from tests.support.small_publisher import Publisher, colour_publisher, mislead
from tests.support.small_releases import bundle_release, index_of, model_release
from zoo.client.client import Client
from zoo.client.rejected import REJECTED_FILE
from zoo.client.trust import Trust
from zoo.client.wanted import to_update, usable
from zoo.errors import BudgetError, FetchError, SelfTestError, StoreFullError, UnreachableError
from zoo.publisher.assignments import sign_assignments
from zoo.publisher.keys import Keys
from zoo.releases.catalogue import index_from_folder
from zoo.releases.release import Assignment, Index
from zoo.store.installed import Installed, InstalledBundle, InstalledModel
from zoo.store.store import Store

if TYPE_CHECKING:
    from tests.support.world import World

OLD = index_of(
    {"tiny": {"a": 50}, "full": {"b": 500}, "owl": {"c": 70}},
    {"birds": ("tiny", "full"), "night": ("owl",)},
)
NEW_MODELS = {name: model_release(name, {f"new {name}": 60}, version=2) for name in OLD.models}
NEW = Index(
    models=NEW_MODELS,
    bundles={
        name: bundle_release(name, tuple(NEW_MODELS[one] for one in release.models))
        for name, release in OLD.bundles.items()
    },
)


def holding(*models: str, bundles: tuple[str, ...] = ()) -> Installed:
    return Installed(
        schema_version=1,
        models=tuple(InstalledModel(release=OLD.models[name]) for name in models),
        bundles=tuple(InstalledBundle(release=OLD.bundles[name]) for name in bundles),
    )


def test_where_nothing_failed_everything_may_be_wanted() -> None:
    assert usable(NEW, holding("tiny", bundles=("birds",)), {}) == (NEW, {})
    assert usable(NEW, holding(), {"gone": "a crash"}) == (NEW, {})


def test_a_new_model_that_failed_is_not_there_and_its_bundle_comes_with_the_others() -> None:
    index, left_out = usable(NEW, holding(), {"full": "a crash"})
    assert left_out == {"full": "a crash"}
    assert index.models.keys() == {"tiny", "owl"}
    assert index.bundles == NEW.bundles


def test_a_bundle_without_another_model_is_left_out_with_it() -> None:
    index, left_out = usable(NEW, holding(), {"owl": "a crash"})
    assert left_out == {"owl": "a crash", "night": "bundle 'night' needs 'owl', which is left out."}
    assert index.bundles.keys() == {"birds"}


def test_what_is_in_use_waits_with_all_that_fits_only_together() -> None:
    held = holding("tiny", "full", "owl", bundles=("birds", "night"))
    index, left_out = usable(NEW, held, {"full": "a crash"})
    assert left_out.keys() == {"full", "birds", "tiny"}
    assert left_out["tiny"] == "model 'tiny' goes with the bundle 'birds', which is left out."
    assert index.models == {**OLD.models, "owl": NEW.models["owl"]}
    assert index.bundles == {"birds": OLD.bundles["birds"], "night": NEW.bundles["night"]}


def test_a_bundle_that_never_used_the_model_does_not_wait() -> None:
    index, left_out = usable(NEW, holding("tiny", bundles=("birds",)), {"full": "a crash"})
    assert left_out.keys() == {"full"}
    assert index.models["tiny"] == NEW.models["tiny"]


@pytest.fixture
def publisher(tmp_path: Path, world: World) -> Publisher:
    return colour_publisher(tmp_path / "publisher", world.zoo)


@pytest.fixture
def client(tmp_path: Path, publisher: Publisher, server: SlowServer) -> Iterator[Client]:
    Trust.pin(tmp_path / "device" / "tuf", publisher.root)
    made = Client(Store.open(tmp_path / "device"), server.url, timeout_s=30)
    yield made
    made.close()


def versions(client: Client) -> dict[str, int]:
    return {item.release.name: item.release.version for item in client.store.installed.models}


def test_of_two_unrelated_releases_the_sound_one_is_installed(
    client: Client, publisher: Publisher, server: SlowServer
) -> None:
    client.install(models=["tiny", "full"])
    publisher.change("tiny")
    publisher.change("full", seed=8)
    publisher.publish()
    mislead(publisher, "full", version=3)
    change = client.update()
    assert change.installed == ("tiny",)
    assert change.left_out.keys() == {"full"}
    assert "expected the publisher's answer" in change.left_out["full"]
    assert versions(client) == {"tiny": 2, "full": 1}
    assert client.store.used_bytes() == sum(client.store.installed.blobs.values())
    server.forget()
    again = client.update()
    assert again.nothing
    assert "failed its test here before" in again.left_out["full"]
    assert server.requests == 2, "root and timestamp"


def test_what_was_named_and_failed_is_raised_after_the_rest_is_installed(
    client: Client, publisher: Publisher
) -> None:
    mislead(publisher, "full")
    with pytest.raises(SelfTestError, match="model 'full' version 2: expected the publisher's answer"):
        client.install(models=["full", "tiny", "small"])
    assert versions(client).keys() == {"tiny", "small"}


def test_what_cannot_be_remembered_on_disk_is_known_until_the_end(
    client: Client, publisher: Publisher, server: SlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mislead(publisher, "full")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("zoo.client.rejected.write_note", fail)
    with pytest.raises(SelfTestError, match="expected the publisher's answer"):
        client.install(models=["full"])
    assert not (client.store.folder / REJECTED_FILE).exists()
    server.forget()
    with pytest.raises(SelfTestError, match="failed its test here before"):
        client.install(models=["full"])
    assert server.requests == 2


NAMES = ("tiny", "full")


def new_blobs(publisher: Publisher, client: Client, name: str) -> list[Path]:
    """Files of the published version of a model that the device does not have."""
    blobs = index_from_folder(publisher.folder).models[name].blobs
    return [publisher.folder / "blobs" / one[:2] / one for one in client.store.missing(blobs)]


def test_what_the_publisher_has_lost_holds_up_nothing_else(
    client: Client, publisher: Publisher, server: SlowServer
) -> None:
    client.install(models=["tiny", "full"])
    publisher.change("tiny")
    publisher.change("full", seed=8)
    publisher.publish()
    lost = new_blobs(publisher, client, "full")[0]
    content = lost.read_bytes()
    lost.unlink()
    change = client.update()
    assert change.installed == ("tiny",)
    assert "status 404" in change.left_out["full"]
    assert versions(client) == {"tiny": 2, "full": 1}
    with pytest.raises(FetchError, match="status 404"):  # nothing else is new
        client.update()
    lost.write_bytes(content)
    assert client.update().installed == ("full",)


def test_an_installed_blob_that_everybody_has_lost_holds_up_nothing_else(
    client: Client, publisher: Publisher
) -> None:
    client.install(models=["tiny", "full"])
    blob = index_from_folder(publisher.folder).models["full"].weights[0].sha256
    for path in (client.store.blobs / blob, publisher.folder / "blobs" / blob[:2] / blob):
        path.unlink()
    publisher.change("tiny")
    publisher.publish()
    (publisher.folder / "blobs" / blob[:2] / blob).unlink(missing_ok=True)
    change = client.update()
    assert change.installed == ("tiny",)
    assert "status 404" in change.left_out["full"]


def test_what_does_not_fit_holds_up_nothing_else(
    client: Client, publisher: Publisher, server: SlowServer
) -> None:
    client.install(models=["tiny", "full"])
    publisher.change("tiny")
    publisher.change("full", seed=8)
    publisher.publish()
    larger = max(sum(one.stat().st_size for one in new_blobs(publisher, client, name)) for name in NAMES)
    client.store.budget_bytes = client.store.used_bytes() + larger + 2
    change = client.update()
    assert len(change.installed) == 1
    assert change.left_out.keys() == {*NAMES} - {*change.installed}
    assert "does not fit into the budget" in next(iter(change.left_out.values()))
    client.store.budget_bytes = client.store.used_bytes()
    with pytest.raises(BudgetError, match="expected a budget of at least"):  # nothing else is new
        client.update()


def lose_record(publisher: Publisher, kind: str, name: str) -> dict[Path, bytes]:
    files = list((publisher.folder / "targets" / kind).glob(f"*.{name}.json"))
    contents = {path: path.read_bytes() for path in files}
    for path in files:
        path.unlink()
    assert contents
    return contents


def test_a_record_that_the_publisher_has_lost_holds_up_nothing_else(
    client: Client, publisher: Publisher
) -> None:
    client.install(models=["tiny", "full"])
    publisher.change("tiny")
    publisher.change("full", seed=8)
    publisher.publish()
    lost = lose_record(publisher, "models", "full")
    change = client.update()
    assert change.installed == ("tiny",)
    assert change.removed == ()
    assert "expected the record models/full.json" in change.left_out["full"]
    assert versions(client) == {"tiny": 2, "full": 1}
    assert client.store.lost() == {}
    assert not client.freshness.stale
    again = client.update()
    assert again.nothing
    assert again.left_out.keys() == {"full"}
    with pytest.raises(
        UnreachableError, match=r"expected the record models/full\.json .* Tell the publisher"
    ):
        client.install(models=["full", "small"])
    assert versions(client) == {"tiny": 2, "full": 1, "small": 1}
    for path, content in lost.items():
        path.write_bytes(content)
    assert client.update().installed == ("full",)


def test_what_is_installed_of_a_lost_record_is_not_taken_as_unpublished() -> None:
    held = holding("tiny", "full", "owl", bundles=("birds", "night"))
    without_full = Index(
        models={name: one for name, one in NEW.models.items() if name != "full"}, bundles=NEW.bundles
    )
    index, left_out = usable(without_full, held, {}, lost={"full": "lost"})
    assert left_out.keys() == {"full", "birds", "tiny"}
    assert index.models == {**OLD.models, "owl": NEW.models["owl"]}
    assert to_update(index, held).dropped == ()
    without_birds = Index(models=NEW.models, bundles={"night": NEW.bundles["night"]})
    index, left_out = usable(without_birds, held, {}, lost={"birds": "lost"})
    assert left_out.keys() == {"birds", "full", "tiny"}
    assert index.bundles == {"birds": OLD.bundles["birds"], "night": NEW.bundles["night"]}
    without_owl = Index(models={"tiny": NEW.models["tiny"]}, bundles=NEW.bundles)
    index, left_out = usable(without_owl, holding(), {}, lost={"owl": "lost"})
    assert left_out == {"owl": "lost", "night": "bundle 'night' needs 'owl', which is left out."}
    assert index.bundles.keys() == {"birds"}


def test_what_does_not_fit_on_the_disk_holds_up_nothing_else(
    tmp_path: Path, publisher: Publisher, server: SlowServer
) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        Trust.pin(disk / "device" / "tuf", publisher.root)
        with Client(Store.open(disk / "device"), server.url, timeout_s=30) as client:
            client.install(models=["tiny", "full"])
            publisher.change("tiny")
            publisher.change("full", seed=8)
            publisher.publish()
            sizes = {
                name: sum(-(-one.stat().st_size // 4096) * 4096 for one in new_blobs(publisher, client, name))
                for name in NAMES
            }
            client.refresh()
            fill(disk / "filler", leave=max(sizes.values()) + min(sizes.values()) - 4096)
            change = client.update()
            assert change.installed, free_bytes(disk)
            assert len(change.installed) == 1
            assert change.left_out.keys() == {*NAMES} - {*change.installed}
            assert "does not fit on the disk" in next(iter(change.left_out.values()))
            assert client.store.verify() == ()
            fill(disk / "more", leave=0)
            with pytest.raises(StoreFullError, match="of room on the disk"):  # nothing else is new
                client.update()
            (disk / "filler").unlink()
            (disk / "more").unlink()
            assert {*client.update().installed} == {*NAMES} - {*change.installed}


def test_each_assigned_model_is_taken_that_fits_beside_those_before_it(
    tmp_path: Path, publisher: Publisher, server: SlowServer
) -> None:
    index = index_from_folder(publisher.folder)
    order = sorted(index.models, key=lambda name: -index.models[name].size_bytes)
    sign_assignments(
        publisher.folder,
        Keys.open(publisher.keys),
        [Assignment(schema_version=1, version=1, group="park", bundles=(), models=tuple(order))],
    )
    budget = index.models[order[0]].size_bytes - 1
    Trust.pin(tmp_path / "member" / "tuf", publisher.root)
    with Client(
        Store.open(tmp_path / "member", budget_bytes=budget), server.url, group="park", timeout_s=30
    ) as member:
        change = member.follow()
        assert order[0] in change.no_room
        assert order[1] in change.installed
        assert change.left_out == {}
        assert member.follow().nothing
