"""Claims about variants: a device goes on with the bundle that its inputs look like, and always answers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from benchmarks.distribution.network import SlowServer
from selector.commands.device import commands
from selector.device.device import Device
from selector.device.variants import ACTIVE_FILE
from tests.support.disks import read_only, small_disk
from tests.support.small_device import until
from tests.support.small_publisher import Publisher, colour_publisher
from tests.support.small_service import running
from tests.support.world import CANDIDATES, World, fit_colours
from tests.support.world_images import environment_images
from training.fitting.export import export_bundle
from zoo.errors import BundleError, PublishError, ZooError


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory, world: World) -> Publisher:
    """The task ``colours`` for clear images, and its variant for dark ones, of two of the models."""
    folder = tmp_path_factory.mktemp("variants")
    bundles = {"colours": world.watched["cascade"], "colours.dark": folder / "dark"}
    zoo = world.zoo.only(("small", "full"))
    fitted = fit_colours(
        world.profile, zoo, world.table, only=CANDIDATES["cascade"], watch=True,
        policy="cascade", precision=0.8, environment="dark",
    )  # fmt: skip
    export_bundle(fitted, zoo, bundles["colours.dark"])
    return colour_publisher(folder / "p", world.zoo, bundles=bundles)


@pytest.fixture
def device(tmp_path: Path, publisher: Publisher, server: SlowServer) -> Iterator[Device]:
    made = Device.set_up(tmp_path / "device", server.url, publisher.root)
    made.install("colours")
    yield made
    made.close()


def ask(device: Device, inputs: Iterable[NDArray[np.uint8]]) -> None:
    for image in inputs:
        assert device.predict(image).label


def test_a_device_names_tasks_and_knows_their_variants(device: Device) -> None:
    device.install("colours.dark")
    assert device.tasks == ("colours",)
    assert [(one.bundle, one.environment) for one in device.variants()] == [
        ("colours", "clear"),
        ("colours.dark", "dark"),
    ]
    assert device.variant("colours").bundle == "colours"


def test_a_variant_that_is_used_by_hand_is_remembered(device: Device, world: World) -> None:
    device.install("colours.dark")
    assert device.use("colours", "dark").bundle == "colours.dark"
    again = Device.open(device.folder)
    assert again.variant().environment == "dark"
    assert again.predict(environment_images(world, "dark", 1)[0]).certified
    assert again.use("colours").bundle == "colours"
    assert Device.open(device.folder).variant().bundle == "colours"


def test_what_is_not_installed_cannot_be_used(device: Device) -> None:
    with pytest.raises(BundleError, match=r"variant of 'colours' for 'dark', got: colours\. Install it"):
        device.use("colours", "dark")
    with pytest.raises(BundleError, match="expected an installed task, got 'birds'; installed: colours"):
        device.variant("birds")


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema_version": 1, "tasks": {"colours": "gone"}}'])
def test_without_its_notes_a_device_begins_with_the_bundle_of_the_tasks_name(
    device: Device, content: bytes, world: World
) -> None:
    device.install("colours.dark")
    (device.folder / ACTIVE_FILE).write_bytes(content)
    again = Device.open(device.folder)
    assert again.variant().bundle == "colours"
    ask(again, environment_images(world, "clear", 1))


def test_an_installed_variant_takes_over_without_the_network(
    device: Device, world: World, server: SlowServer
) -> None:
    device.install("colours.dark")
    server.forget()
    ask(device, environment_images(world, "dark"))
    until(lambda: device.variant().bundle == "colours.dark")
    assert json.loads((device.folder / ACTIVE_FILE).read_text())["tasks"] == {"colours": "colours.dark"}
    assert device.predict(environment_images(world, "dark", 1)[0]).certified
    assert server.requests == 0


def test_on_a_read_only_disk_a_device_answers_with_what_fits_and_says_what_is_not_kept(
    tmp_path: Path, publisher: Publisher, server: SlowServer, world: World
) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        Device.set_up(disk / "device", server.url, publisher.root).install("colours.dark")
        with read_only(disk):
            device = Device.open(disk / "device")
            with pytest.raises(
                ZooError, match=r"'colours\.dark' from now on, but not after a restart.*Read-only"
            ):
                device.use("colours", "dark")
            assert device.variant().bundle == "colours.dark"
            ask(device, environment_images(world, "dark", 1))
            assert "Read-only file system" in str(device.look().problem)
            done = CliRunner().invoke(commands, ["status", str(device.folder)])
            assert done.exit_code == 0
            assert "It answers, but nothing can be kept or updated" in done.stderr
            device.close()


def test_a_folder_in_the_place_of_the_notes_is_replaced(device: Device) -> None:
    device.install("colours.dark")
    (device.folder / ACTIVE_FILE).mkdir()
    assert device.use("colours", "dark").bundle == "colours.dark"
    assert Device.open(device.folder).variant().bundle == "colours.dark"


def test_a_variant_that_is_not_installed_is_fetched_and_used_and_the_way_back_needs_nothing(
    device: Device, world: World, server: SlowServer
) -> None:
    ask(device, environment_images(world, "dark"))
    assert device.variant().bundle == "colours"
    assert not device.predict(environment_images(world, "dark", 1)[0]).certified
    found = device.look()
    assert found.problem is None
    assert found.change is not None
    assert "colours.dark" in found.change.installed
    assert device.variant().bundle == "colours.dark"
    assert device.predict(environment_images(world, "dark", 1)[0]).certified
    server.forget()
    ask(device, environment_images(world, "clear"))
    until(lambda: device.variant().bundle == "colours")
    assert server.requests == 0


def test_in_the_background_all_of_this_happens_by_itself(device: Device, world: World) -> None:
    device.start(every_s=600)
    until(lambda: device.last is not None)
    ask(device, environment_images(world, "clear", 30))
    stream = environment_images(world, "dark")
    ask(device, stream[:100])
    until(lambda: device.variant().bundle == "colours.dark")
    until(lambda: device.predict(stream[-1]).certified)


def test_what_looks_like_no_variant_stays_with_the_reference_model_and_is_told(
    device: Device, world: World
) -> None:
    ask(device, environment_images(world, "noise"))
    found = device.look()
    assert found.unknown == ("colours",)
    assert device.variant().bundle == "colours"
    answer = device.predict(environment_images(world, "noise", 1)[0])
    assert (answer.certified, answer.path) == (False, (device.selector().reference,))


def test_a_stream_of_identical_images_is_an_unknown_environment(device: Device, world: World) -> None:
    ask(device, environment_images(world, "clear", 1) * 400)
    status = device.drift()
    assert status is not None
    assert status.alarm
    assert device.look().unknown == ("colours",)
    assert device.predict(environment_images(world, "clear", 1)[0]).label


def test_when_an_unknown_environment_is_over_the_certificates_count_again(
    device: Device, world: World
) -> None:
    ask(device, environment_images(world, "noise"))
    assert device.selector().drifted
    for image in environment_images(world, "clear", 200) * 2:
        device.selector().predict(image)  # not by the device: a thread of its own might begin anew among them
    device.look()
    assert device.variant().bundle == "colours"
    assert not device.selector().drifted


def test_answers_go_on_when_the_variant_in_use_is_taken_away(device: Device, world: World) -> None:
    device.install("colours.dark")
    device.use("colours", "dark")
    device.client.remove(("colours.dark",))
    device.selector()._look_at = float("inf")  # nobody has noticed yet
    ask(device, environment_images(world, "clear", 3))
    device._variants.follow()
    assert device.variant().bundle == "colours"
    ask(device, environment_images(world, "clear", 3))


def test_the_commands_show_and_change_which_variant_answers(
    tmp_path: Path, publisher: Publisher, server: SlowServer, world: World
) -> None:
    def run(*arguments: object) -> str:
        done = CliRunner().invoke(commands, [str(part) for part in arguments])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    folder, root = tmp_path / "cli", publisher.folder / "metadata" / "1.root.json"
    shown = run("init", folder, "--url", server.url, "--root", root)
    assert "colours.dark" not in shown, "a variant comes when inputs ask for it"
    with contextlib.closing(Device.open(folder)) as device:
        device.install("colours.dark")
    assert "task colours.dark, version 1, answers now" in run(
        "use", folder, "colours", "--environment", "dark"
    )
    assert json.loads(run("status", folder, "--json"))["answering"] == {"colours": "colours.dark"}
    fog = tmp_path / "fog"
    fog.mkdir()
    for i, image in enumerate(environment_images(world, "noise")):
        Image.fromarray(image).save(fog / f"{i:03d}.png")
    assert "look like those of no published variant" in run("predict", folder, fog)


def test_the_service_hears_of_the_alarm_and_of_what_the_inputs_are_like(
    tmp_path: Path, publisher: Publisher, server: SlowServer, world: World
) -> None:
    with running(tmp_path / "service") as (client, service), contextlib.closing(
        Device.set_up(
            tmp_path / "device", server.url, publisher.root,
            group="cameras", service=client.url, token=client.token,
        )
    ) as device:  # fmt: skip
        device.install("colours")
        device.install("colours.dark")
        ask(device, environment_images(world, "dark"))
        until(lambda: device.variant().bundle == "colours.dark")
        assert device.look().problem is None
        demand = service.ledger.tally.demand("cameras", since=0.0)
        report = service.ledger.tally.newest()[0].report
        assert demand.bundles["colours"].alarms == 1
        drift = {one.bundle: one for one in report.drift}
        numbers = {one.name: one for one in drift["colours"].numbers}
        assert numbers["inputs"].alarm
        assert numbers["like colours.dark"].statistic < numbers["like colours"].statistic
        assert len(numbers) <= 16


def test_a_variant_is_published_under_its_task_and_environment(publisher: Publisher) -> None:
    publisher.bundles["colours.noise"] = publisher.bundles["colours.dark"]
    with pytest.raises(PublishError, match=r"samples of 'dark'. Publish it as colours\.dark"):
        publisher.publish()
    del publisher.bundles["colours.noise"]
