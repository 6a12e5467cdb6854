"""Claims about published bundles with a model on a server: a device asks only servers that it was allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.distribution.network import SlowServer
from benchmarks.distribution.network import serving as serving_files
from selector.bundle.bundle import read_bundle, read_bundle_files
from selector.device.device import Device
from selector.device.settings import read_config
from tests.support.colours import latency_table
from tests.support.command_line import CommandLine
from tests.support.served_zoo import ModelServer, model_server, served_zoo
from tests.support.world import CANDIDATES, World, fit_in_memory
from training.fitting.export import export_bundle
from zoo.errors import CardError, PublishError
from zoo.publisher.keys import Keys, create_keys
from zoo.publisher.publish import publish, published

pytest.importorskip("tuf")


class Made:
    """A publisher of a bundle with the model ``full`` on a server."""

    def __init__(self, folder: Path, server: ModelServer, world: World) -> None:
        self.server, self.repo = server, folder / "repo"
        self.zoo = served_zoo(folder / "zoo", server.address)
        fitted = fit_in_memory(
            world.outcomes.split("fit", "tune", "certify"), self.zoo, latency_table(self.zoo),
            only=CANDIDATES["cascade"], policy="cascade", max_remote=0.4,
        )  # fmt: skip
        self.bundle = folder / "bundle"
        export_bundle(fitted, self.zoo, self.bundle)
        create_keys(folder / "keys")
        self.keys = Keys.open(folder / "keys")
        publish(self.repo, self.zoo, keys=self.keys, bundles={"colours": read_bundle_files(self.bundle)})

    @property
    def root(self) -> bytes:
        return (self.repo / "metadata" / "1.root.json").read_bytes()


@pytest.fixture(scope="module")
def made(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("published")
    with model_server(folder / "server") as server:
        yield Made(folder, server, world)


@pytest.fixture
def files(made: Made) -> Iterator[SlowServer]:
    with serving_files(made.repo) as running:
        yield running


def test_a_model_on_a_server_is_published_in_its_bundle_and_not_alone(made: Made) -> None:
    index = published(made.repo)
    assert set(index.models) == {"tiny", "small"}
    release = index.bundles["colours"]
    assert set(release.models) == {"tiny", "small"}
    assert made.zoo.card("full").file in release.files
    with pytest.raises(PublishError, match="expected models that run on devices, got full"):
        publish(made.repo, made.zoo, keys=made.keys, models=["full"])


def test_a_device_sends_inputs_only_to_servers_that_it_was_allowed(
    made: Made, files: SlowServer, world: World, tmp_path: Path
) -> None:
    images = [world.data.image(i) for i in range(80)]
    with Device.set_up(tmp_path / "careful", files.url, made.root) as careful:
        careful.install("colours")
        found = [careful.predict(image) for image in images]
    assert made.server.asked == 0
    assert {one.model for one in found} <= {"tiny", "small"}
    allowed = [made.server.address + "/"]
    with Device.set_up(tmp_path / "open", files.url, made.root, servers=allowed) as device:
        device.install("colours")
        for name in ("tiny", "small"):
            device.client.install(models=[name])
        device.selector().update()
        answers = [device.predict(image, max_remote=0.4) for image in images]
        assert device.update().left_out == {}
        assert {one.release.name for one in device.store.installed.models} == {"tiny", "small"}
    assert any(one.model == "full" for one in answers)
    assert all(one.certified for one in answers)
    assert made.server.asked > 0


def test_settings_without_servers_keep_their_format_and_what_is_no_address_is_refused(
    made: Made, files: SlowServer, tmp_path: Path
) -> None:
    Device.set_up(tmp_path / "one", files.url, made.root).close()
    assert read_config(tmp_path / "one").schema_version == 1
    assert "servers" not in json.loads((tmp_path / "one" / "device.json").read_bytes())
    Device.set_up(tmp_path / "two", files.url, made.root, servers=["https://models.example.org/"]).close()
    config = read_config(tmp_path / "two")
    assert (config.schema_version, config.asked) == (2, ("https://models.example.org",))
    with pytest.raises(CardError, match="expected an address such as https://"):
        Device.set_up(tmp_path / "three", files.url, made.root, servers=["file:///tmp/x"])


def test_the_command_line_allows_a_server_and_says_what_is_published_how(
    made: Made, files: SlowServer, tmp_path: Path, zooselect: CommandLine
) -> None:
    root, store = made.repo / "metadata" / "1.root.json", tmp_path / "device"
    zooselect(
        "device", "init", store, "--url", files.url, "--root", root, "--model-server", made.server.address
    )
    assert f"may be asked at: {made.server.address}" in zooselect("device", "status", store).out
    again = zooselect("publish", made.repo, "--zoo", made.zoo.folder, "--keys", made.repo.parent / "keys")
    assert "published only in the bundles that name them: full" in again.err


def test_bundles_that_cannot_answer_alone_or_name_files_of_this_machine_are_refused(made: Made) -> None:
    whole = read_bundle_files(made.bundle)
    only = replace(whole, models={})
    with pytest.raises(PublishError, match="a model that runs on the device, got only models on servers"):
        publish(made.repo, made.zoo, keys=made.keys, bundles={"colours": only})
    with pytest.raises(PublishError, match="expected tokens in environment variables"):
        publish(
            made.repo, made.zoo, keys=made.keys,
            bundles={"colours": replace(whole, token_files=("full",))},
        )  # fmt: skip
    assert read_bundle(made.bundle).on_servers([made.server.address]) == {"full"}
