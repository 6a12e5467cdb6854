"""Claims about the files of a device's store: each heals when it is damaged, or is named with what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from benchmarks.distribution.network import SlowServer, serving
from selector.commands.device import commands
from selector.device.device import Device
from selector.device.reporter import IDENTITY_FILE, _next_identity
from selector.device.settings import CONFIG_FILE, TOKEN_FILE, read_token, write_token
from selector.device.variants import ACTIVE_FILE
from tests.support.disks import fill, free_bytes, small_disk
from tests.support.small_models import plain_image
from tests.support.small_publisher import Publisher
from zoo.client.rejected import REJECTED_FILE, Rejected
from zoo.client.trust import ROOT_FILE
from zoo.errors import ZooError
from zoo.store.installed import INSTALLED_FILE
from zoo.store.reserve import reserved
from zoo.store.usage import USAGE_FILE


@pytest.fixture(scope="module")
def template(
    tmp_path_factory: pytest.TempPathFactory, publisher: Publisher
) -> Iterator[tuple[Path, SlowServer]]:
    """A device with every file that a device may have."""
    folder = tmp_path_factory.mktemp("template") / "device"
    with serving(publisher.folder) as server:
        with Device.set_up(folder, server.url, publisher.root) as device:
            device.install("colours")
            device.predict(plain_image("red"))
            device.use("colours")
            device.store.measured(1e9)
            release = device.store.installed.models[0].release
            other = msgspec.structs.replace(release, version=9)
            Rejected(folder / REJECTED_FILE).add(other, "a reason")
            _next_identity(device.store)
        write_token(folder, "secret")
        yield folder, server


def folder(path: Path) -> None:
    (path / "inside").mkdir(parents=True)
    (path / "inside" / "file").write_bytes(b"x")


WAYS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "a folder": folder,
    "no byte": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"\xff\x00garbage" * 9),
    "another type": lambda path: path.write_bytes(b"[1, 2]"),
    "a link to nothing": lambda path: path.symlink_to(path.parent / "nowhere"),
}
FILES = (
    *(INSTALLED_FILE, CONFIG_FILE, REJECTED_FILE, ACTIVE_FILE, IDENTITY_FILE, USAGE_FILE, TOKEN_FILE),
    "lock",
    *(f"tuf/{name}" for name in ("root.json", "timestamp.json", "snapshot.json", "targets.json", ROOT_FILE)),
    *("tuf/root_history", "tuf/targets", "tuf/targets/models%2Ftiny.json"),
)
NEEDED = {INSTALLED_FILE, CONFIG_FILE}  # without them there is no device


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_heals_or_is_named_with_what_to_do(
    template: tuple[Path, SlowServer], tmp_path: Path, name: str
) -> None:
    for i, (way, attack) in enumerate(WAYS.items()):
        store = Path(shutil.copytree(template[0], tmp_path / f"{i}", symlinks=True))
        path = store / name
        assert path.exists(), name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        attack(path)
        told, stopped = [], False
        try:
            with Device.open(store) as device:
                if name not in NEEDED:
                    assert device.predict(plain_image("green")).label == "green", way
                problem = device.look(timeout_s=60).problem
                told = [] if problem is None else [str(problem)]
                told += [] if device.store.unwritable is None else [str(device.store.unwritable)]
                assert _next_identity(device.store).sequence > 0
                read_token(store)
                if name not in NEEDED:
                    assert device.predict(plain_image("blue")).label == "blue", way
        except ZooError as error:
            told, stopped = [str(error)], True
        assert not stopped or name in {*NEEDED, TOKEN_FILE}, (way, told)
        assert all(name in one or f"{path.parent}, got none" in one for one in told), (way, told)
        shown = CliRunner().invoke(commands, ["status", str(store)])
        assert shown.exception is None or isinstance(shown.exception, (ZooError, SystemExit)), (way, shown)


def test_a_device_is_set_up_anew_on_a_full_disk(
    tmp_path: Path, publisher: Publisher, server: SlowServer
) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        with Device.set_up(disk / "device", server.url, publisher.root) as device:
            device.install("colours")
        fill(disk / "filler")
        assert free_bytes(disk) == 0
        with Device.set_up(
            disk / "device", server.url, publisher.root, budget_bytes=10_000_000, mode="local"
        ) as device:
            assert device.predict(plain_image("green")).label == "green"
        with Device.open(disk / "device") as device:
            assert (device.config.budget_bytes, device.config.mode) == (10_000_000, "local")
        (disk / "filler").unlink()
        Device.open(disk / "device").close()
        assert reserved(disk / "device")
