"""Claims about what fails on a device: it holds up itself and what needs it, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.distribution.network import SlowServer
from tests.support.small_publisher import Publisher, colour_publisher, mislead
from tests.support.small_releases import bundle_release, index_of, model_release
from zoo.client.client import Client
from zoo.client.rejected import REJECTED_FILE
from zoo.client.trust import Trust
from zoo.client.wanted import usable
from zoo.errors import SelfTestError
from zoo.releases.release import Index
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
