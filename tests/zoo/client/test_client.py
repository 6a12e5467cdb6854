"""Claims about the client: a device has the old set or the new one, complete, and moves no byte twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.distribution.network import SlowServer
from tests.support.small_models import plain_image
from tests.support.small_publisher import Publisher, colour_publisher, mislead
from zoo.client.client import Client
from zoo.client.selftest import Trials
from zoo.client.trust import Trust
from zoo.errors import (
    BudgetError,
    BundleError,
    ModelNotFoundError,
    SelfTestError,
    TrustError,
    UnreachableError,
    ZooError,
)
from zoo.publisher.assignments import sign_assignments
from zoo.publisher.keys import Keys
from zoo.publisher.publish import remove
from zoo.releases.release import Assignment
from zoo.store.installed import Installed
from zoo.store.store import Store

if TYPE_CHECKING:
    from tests.support.world import World


@pytest.fixture
def publisher(tmp_path: Path, world: World) -> Publisher:
    return colour_publisher(tmp_path / "publisher", world.zoo, bundles={"colours": world.bundles["cascade"]})


def client_of(
    folder: Path,
    publisher: Publisher,
    server: SlowServer,
    *,
    budget_bytes: int | None = None,
    group: str | None = None,
) -> Client:
    Trust.pin(folder / "tuf", publisher.root)
    return Client(Store.open(folder, budget_bytes=budget_bytes), server.url, group=group, timeout_s=30)


@pytest.fixture
def client(tmp_path: Path, publisher: Publisher, server: SlowServer) -> Iterator[Client]:
    made = client_of(tmp_path / "device", publisher, server)
    yield made
    made.close()


def names(installed: Installed) -> set[str]:
    return {release.name for release in installed.releases}


def alone(publisher: Publisher) -> None:
    """Offer models only, so that they can change without a new bundle."""
    remove(publisher.folder, keys=Keys.open(publisher.keys), bundles=["colours"])
    publisher.bundles.clear()


def test_a_task_starts_with_its_most_accurate_model(client: Client) -> None:
    change = client.install(bundles=["colours"])
    assert names(client.store.installed) == {"colours", *change.installed}
    assert len(client.store.installed.models) == 1
    assert client.store.missing(client.store.installed.blobs) == {}
    assert not client.freshness.stale


def test_installing_again_moves_no_blob(client: Client, server: SlowServer) -> None:
    client.install(bundles=["colours"], models=["tiny", "full"])
    server.forget()
    again = client.install(bundles=["colours"], models=["tiny", "full"])
    assert again.nothing
    assert server.requests == 2, "root and timestamp"


def test_the_bytes_on_the_wire_are_those_that_the_server_sent(client: Client, server: SlowServer) -> None:
    change = client.install(models=["tiny"])
    assert change.bytes_on_wire == server.bytes_sent
    assert change.requests == server.requests


def test_an_update_moves_only_what_changed(client: Client, publisher: Publisher, server: SlowServer) -> None:
    alone(publisher)
    client.install(models=["tiny", "full"])
    kept = client.store.installed.models
    publisher.change("tiny")
    publisher.publish()
    change = client.update()
    assert change.installed == ("tiny",)
    versions = {item.release.name: item.release.version for item in client.store.installed.models}
    assert versions == {"tiny": 2, "full": 1}
    assert next(item for item in kept if item.release.name == "full") in client.store.installed.models


def test_what_an_update_replaced_is_no_longer_stored(client: Client, publisher: Publisher) -> None:
    alone(publisher)
    client.install(models=["tiny"])
    publisher.change("tiny")
    publisher.publish()
    client.update()
    assert {path.name for path in client.store.blobs.iterdir()} == set(client.store.installed.blobs)


def test_an_installed_model_answers_as_the_published_file(client: Client, publisher: Publisher) -> None:
    client.install(models=["full"])
    image = plain_image("green")[None]
    ours = client.store.model("full").logits(image)
    assert (ours == publisher.zoo.model("full").logits(image)).all()


@pytest.mark.parametrize(("models", "bundles"), [(["gone"], []), ([], ["gone"])])
def test_what_is_not_published_cannot_be_installed(
    client: Client, models: list[str], bundles: list[str]
) -> None:
    with pytest.raises((ModelNotFoundError, BundleError), match="Published: "):
        client.install(models=models, bundles=bundles)
    assert names(client.store.installed) == set()


def test_beyond_the_budget_nothing_is_fetched(
    tmp_path: Path, publisher: Publisher, server: SlowServer
) -> None:
    client = client_of(tmp_path / "small", publisher, server, budget_bytes=10)
    with pytest.raises(BudgetError, match=r"expected a budget of at least [0-9,]+ bytes"):
        client.install(models=["full"])
    assert client.store.used_bytes() == 0


def test_an_unused_model_makes_room(tmp_path: Path, publisher: Publisher, server: SlowServer) -> None:
    index = client_of(tmp_path / "look", publisher, server).refresh().index
    sizes = {name: release.size_bytes for name, release in index.models.items()}
    budget = sizes["small"] + max(sizes["tiny"], sizes["full"]) + 10
    client = client_of(tmp_path / "small", publisher, server, budget_bytes=budget)
    client.install(models=["tiny"])
    client.install(models=["small"])
    client.store.touch("small")
    change = client.install(models=["full"])
    assert change.evicted == ("tiny",)
    assert names(client.store.installed) == {"small", "full"}
    assert client.store.used_bytes() <= budget


def test_what_an_abandoned_installation_left_makes_room(
    tmp_path: Path, publisher: Publisher, server: SlowServer
) -> None:
    index = client_of(tmp_path / "look", publisher, server).refresh().index
    budget = max(index.models[name].size_bytes for name in ("tiny", "full"))
    client = client_of(tmp_path / "small", publisher, server, budget_bytes=budget)
    client.fetcher.fetch(index.models["tiny"].blobs, client.store)
    assert client.store.used_bytes() > 0
    client.install(models=["full"])
    assert names(client.store.installed) == {"full"}


def test_a_pinned_model_stays(tmp_path: Path, publisher: Publisher, server: SlowServer) -> None:
    index = client_of(tmp_path / "look", publisher, server).refresh().index
    budget = max(index.models[name].size_bytes for name in ("tiny", "full")) + 10
    client = client_of(tmp_path / "small", publisher, server, budget_bytes=budget)
    client.install(models=["tiny"])
    client.pin(["tiny"])
    with pytest.raises(BudgetError):
        client.install(models=["full"])
    assert names(client.store.installed) == {"tiny"}
    client.pin(["tiny"], pinned=False)
    client.install(models=["full"])
    assert names(client.store.installed) == {"full"}


def test_only_what_is_installed_can_be_pinned(client: Client) -> None:
    with pytest.raises(ModelNotFoundError, match=r"not installed: full\. Installed: nothing"):
        client.pin(["full"])


def test_a_task_is_never_without_a_model_while_others_come(
    tmp_path: Path, publisher: Publisher, server: SlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = client_of(tmp_path / "look", publisher, server).refresh().index
    sizes = {name: index.models[name].size_bytes for name in ("tiny", "small", "full")}
    record = index.bundles["colours"].size_bytes
    keys = Keys.open(publisher.keys)
    budget = record + sizes["full"] + min(sizes["tiny"], sizes["small"]) + 10
    client = client_of(tmp_path / "device", publisher, server, budget_bytes=budget, group="park")
    client.install(bundles=["colours"], models=["full"])
    for name in set(names(client.store.installed)) - {"colours", "full"}:
        client.remove([name])
    held: list[set[str]] = []
    real = Store.commit

    def watched(store: Store, installed: Installed) -> None:
        real(store, installed)
        held.append({item.release.name for item in installed.models})

    monkeypatch.setattr(Store, "commit", watched)
    sign_assignments(publisher.folder, keys, [assigned("park", ("colours",), ("small", "tiny"))])
    client.follow()
    assert names(client.store.installed) == {"colours", "small", "tiny"}
    assert all(held), "at each commit there was a model"
    assert client.store.used_bytes() <= budget


def test_what_is_removed_leaves_no_bytes(client: Client) -> None:
    client.install(bundles=["colours"], models=["tiny"])
    removed = client.remove([*names(client.store.installed), "unheard-of"]).removed
    assert set(removed) >= {"colours", "tiny"}
    assert "unheard-of" not in removed
    assert client.store.used_bytes() == 0


def test_a_damaged_blob_is_fetched_again_by_the_next_update(client: Client) -> None:
    client.install(models=["full"])
    path = client.store.blobs / client.store.installed.models[0].release.weights[0].sha256
    path.chmod(0o644)
    path.write_bytes(b"rotten")
    assert client.store.verify() == (path.name,)
    client.update()
    assert client.store.verify() == ()
    assert client.store.model("full") is not None


def test_a_model_that_answers_otherwise_than_published_is_not_installed(
    client: Client, publisher: Publisher
) -> None:
    alone(publisher)
    client.install(models=["tiny"])
    before = client.store.installed
    mislead(publisher, "full")
    with pytest.raises(SelfTestError):
        client.install(models=["full"])
    assert client.store.installed == before
    assert {path.name for path in client.store.blobs.iterdir()} == set(before.blobs)
    with pytest.raises(ZooError, match="failed its test here before"):
        client.install(models=["full"])


def test_what_failed_its_test_is_not_fetched_again_after_a_restart(
    client: Client, publisher: Publisher, server: SlowServer
) -> None:
    alone(publisher)
    mislead(publisher, "full")
    with pytest.raises(SelfTestError):
        client.install(models=["full"])
    with closing(client_of(client.store.folder, publisher, server)) as restarted:
        restarted.refresh()
        server.forget()
        with pytest.raises(SelfTestError, match="failed its test here before"):
            restarted.install(models=["full"])
        assert server.requests == 2  # what is published, and no blob
        mislead(publisher, "full", version=3, by=-1.0)  # mended
        assert restarted.install(models=["full"]).installed == ("full",)


def test_the_process_of_the_test_starts_before_the_publisher_is_asked_and_only_for_news(
    client: Client, server: SlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    prepare = Trials.prepare

    def noted(trials: Trials) -> None:
        started.append(server.requests)
        prepare(trials)

    monkeypatch.setattr(Trials, "prepare", noted)
    client.install(models=["tiny"])
    assert started[0] == 0
    started.clear()
    client.update()
    client.install(models=["tiny"])
    assert started == []


def test_an_unreachable_publisher_leaves_all_as_it_is(
    client: Client, publisher: Publisher, server: SlowServer
) -> None:
    client.install(bundles=["colours"])
    before = client.store.installed
    shutil.move(publisher.folder, publisher.folder.with_name("away"))
    with pytest.raises((UnreachableError, TrustError)):
        client.update()
    assert client.store.installed == before
    assert client.freshness.stale
    assert client.freshness.reason
    assert client.freshness.checked is not None


def test_a_device_follows_its_group(tmp_path: Path, publisher: Publisher, server: SlowServer) -> None:
    keys = Keys.open(publisher.keys)
    client = client_of(tmp_path / "member", publisher, server, group="park")
    sign_assignments(publisher.folder, keys, [assigned("park", ("colours",), ("tiny",))])
    client.follow()
    assert names(client.store.installed) == {"colours", "tiny"}
    sign_assignments(publisher.folder, keys, [assigned("park", ("colours",), ("full", "small"), version=2)])
    change = client.follow()
    assert names(client.store.installed) == {"colours", "full", "small"}
    assert change.removed == ("tiny",)


def test_of_an_assignment_the_first_models_that_fit_are_kept(
    tmp_path: Path, publisher: Publisher, server: SlowServer
) -> None:
    index = client_of(tmp_path / "look", publisher, server).refresh().index
    budget = index.bundles["colours"].size_bytes + index.models["full"].size_bytes + 100
    client = client_of(tmp_path / "member", publisher, server, group="park", budget_bytes=budget)
    sign_assignments(
        publisher.folder, Keys.open(publisher.keys), [assigned("park", ("colours",), ("full", "small"))]
    )
    client.follow()
    assert names(client.store.installed) == {"colours", "full"}


def test_progress_ends_at_the_whole(client: Client) -> None:
    seen: list[tuple[int, int]] = []
    client.install(models=["full"], progress=lambda there, total: seen.append((there, total)))
    assert seen[-1][0] == seen[-1][1] > 0
    assert [there for there, _ in seen] == sorted(there for there, _ in seen)


def assigned(group: str, bundles: tuple[str, ...], models: tuple[str, ...], version: int = 1) -> Assignment:
    return Assignment(schema_version=1, version=version, group=group, bundles=bundles, models=models)
