"""Claims about signing: standard clients accept it, keys can be replaced, nobody else gets a word in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.exceptions import ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Metadata, TargetFile, Targets

import zoo.publisher.signing
from tests.support.small_models import add_colours, build_onnx
from tests.support.standard_client import StandardClient, served
from zoo import Zoo
from zoo.errors import KeysError, PublishError, TrustError
from zoo.extras import install_command
from zoo.publisher.assignments import sign_assignments
from zoo.publisher.keys import ROLES, Keys, RoleName, create_keys
from zoo.publisher.publish import publish
from zoo.publisher.rotation import rotate
from zoo.publisher.signing import Expiry, Signing, locked, refresh
from zoo.releases.release import Assignment

NOW = datetime.now(UTC)


@dataclass
class Site:
    """A publisher with one model, its keys, and a device."""

    repo: Path
    keys: Path
    device: StandardClient

    def open(self, *roles: RoleName) -> Keys:
        """The keys of some roles only; without names, all."""
        if not roles:
            return Keys.open(self.keys)
        part = self.keys.parent / "-".join(("keys", *roles))
        part.mkdir(exist_ok=True, mode=0o700)
        for role in roles:
            for path in self.keys.glob(f"{role}-*.pem"):
                shutil.copy(path, part)
        return Keys.open(part)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    zoo = Zoo.create(folder / "zoo")
    add_colours(zoo, "tiny", build_onnx())
    publish(folder / "repo", zoo, keys=create_keys(folder / "keys"))
    return folder


@pytest.fixture
def site(made: Path, tmp_path: Path) -> Iterator[Site]:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    root = (tmp_path / "repo" / "metadata" / "1.root.json").read_bytes()
    with served(tmp_path / "repo") as url:
        yield Site(tmp_path / "repo", tmp_path / "keys", StandardClient(tmp_path / "device", root, url))


def assignment(group: str = "shops", models: tuple[str, ...] = ("tiny",)) -> Assignment:
    return Assignment(schema_version=1, version=1, group=group, bundles=(), models=models)


def test_a_standard_client_accepts_what_is_published(site: Site) -> None:
    release = site.device.model("tiny")
    assert release is not None
    assert release.version == 1
    assert site.device.model("nothing") is None
    assert site.device.assignment("shops") is None


@pytest.mark.parametrize("role", ROLES)
def test_a_device_notices_nothing_when_keys_are_replaced(site: Site, role: RoleName) -> None:
    site.device.refreshed()
    done = rotate(site.repo, site.open(), role)
    assert site.device.model("tiny") is not None  # one that has seen the old keys
    site.device.forget()
    assert site.device.model("tiny") is not None  # and one that comes along later
    (retired,) = done.retired
    next(site.keys.glob(f"{role}-{retired[:16]}.pem")).unlink()
    sign_assignments(site.repo, site.open(), [assignment()])
    assert site.device.assignment("shops") is not None


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
def test_between_new_signatures_and_the_new_root_devices_go_on(site: Site, role: RoleName) -> None:
    rotate(site.repo, site.open(), role)
    (site.repo / "metadata" / "2.root.json").unlink()  # as if killed before it was written
    assert site.device.model("tiny") is not None
    rotate(site.repo, site.open(), role)
    assert site.device.model("tiny") is not None


def test_keys_are_replaced_again_and_again(site: Site) -> None:
    for role in (*ROLES, *ROLES):
        rotate(site.repo, site.open(), role)
        assert site.device.model("tiny") is not None


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp", "assignments"])
def test_a_lost_key_is_replaced(site: Site, role: RoleName) -> None:
    site.device.refreshed()
    next(site.keys.glob(f"{role}-*.pem")).unlink()
    with pytest.raises(KeysError, match=f"keys of '{role}'"):
        rotate(site.repo, site.open(), role)
    rotate(site.repo, site.open(), role, lost=True)
    sign_assignments(site.repo, site.open(), [assignment()])
    assert site.device.assignment("shops") is not None


def test_without_the_root_key_nothing_is_replaced_and_no_key_is_made(site: Site) -> None:
    for path in site.keys.glob("root-*.pem"):
        path.unlink()
    before = sorted(site.keys.iterdir())
    with pytest.raises(KeysError, match="keys of 'root'"):
        rotate(site.repo, site.open(), "timestamp")
    with pytest.raises(KeysError, match="over a way that you trust"):
        rotate(site.repo, site.open(), "root", lost=True)
    assert sorted(site.keys.iterdir()) == before


def test_a_root_of_several_keys_needs_as_many_as_were_asked_for(tmp_path: Path) -> None:
    keys = create_keys(tmp_path / "keys", root_keys=3)
    Signing(tmp_path / "repo", keys, root_threshold=2).commit("targets")
    one, *_ = sorted((tmp_path / "keys").glob("root-*.pem"))
    one.unlink()
    rotate(tmp_path / "repo", Keys.open(tmp_path / "keys"), "timestamp")
    for path in sorted((tmp_path / "keys").glob("root-*.pem"))[1:]:
        path.unlink()
    with pytest.raises(KeysError, match="expected 2 of the keys of 'root'"):
        rotate(tmp_path / "repo", Keys.open(tmp_path / "keys"), "timestamp")


@pytest.mark.parametrize("threshold", [0, 4])
def test_a_threshold_that_cannot_be_met_is_refused(tmp_path: Path, threshold: int) -> None:
    keys = create_keys(tmp_path / "keys", root_keys=3)
    with pytest.raises(KeysError, match="between 1 and 3"):
        Signing(tmp_path / "repo", keys, root_threshold=threshold)
    assert not (tmp_path / "repo").exists()


def test_cron_needs_the_online_keys_only(site: Site) -> None:
    online = site.open("snapshot", "timestamp")
    assert refresh(site.repo, online).roles == ("timestamp",)
    later = refresh(site.repo, online, now=NOW + timedelta(days=4))
    assert later.roles == ("snapshot", "timestamp")
    assert later.warnings == ()
    assert site.device.model("tiny") is not None


def test_what_is_due_is_signed_with_the_keys_at_hand_and_else_warned_about(site: Site) -> None:
    soon = NOW + timedelta(days=70)
    warned = refresh(site.repo, site.open("snapshot", "timestamp"), now=soon).warnings
    assert [text.split()[0] for text in warned] == ["targets", "assignments"]
    assert "expired" in warned[1]
    done = refresh(site.repo, site.open(), now=soon)
    assert set(done.roles) == {"targets", "assignments", "snapshot", "timestamp"}
    assert done.warnings == ()
    done = refresh(site.repo, site.open(), now=NOW + timedelta(days=340))
    assert set(done.roles) == set(ROLES)
    assert site.device.model("tiny") is not None
    assert (site.repo / "metadata" / "2.root.json").is_file()


def test_a_standard_client_refuses_what_has_expired_until_it_is_refreshed(site: Site) -> None:
    refresh(site.repo, site.open(), now=NOW - timedelta(days=2))
    with pytest.raises(ExpiredMetadataError):
        site.device.refreshed()
    refresh(site.repo, site.open())
    site.device.refreshed()


@pytest.mark.parametrize("days", [0, -1, float("nan"), 1e9])
def test_odd_times_of_expiry_are_refused(days: float) -> None:
    with pytest.raises(PublishError, match="days until it expires"):
        Expiry(timestamp=days)


def test_a_service_assigns_with_its_own_keys(site: Site) -> None:
    service = site.open("assignments", "snapshot", "timestamp")
    done = sign_assignments(site.repo, service, [assignment("shops"), assignment("homes")])
    assert done.changed == ("shops", "homes")
    assert site.device.assignment("shops") == done.assignments["shops"]
    files = sorted((site.repo / "metadata").iterdir())
    assert sign_assignments(site.repo, service, [assignment("homes")]).changed == ()
    assert sorted((site.repo / "metadata").iterdir()) == files


def test_versions_of_assignments_count_on_after_one_was_removed(site: Site) -> None:
    sign_assignments(site.repo, site.open(), [assignment()])
    assert sign_assignments(site.repo, site.open(), [], remove=["shops", "nobody"]).changed == ("shops",)
    assert site.device.assignment("shops") is None
    again = sign_assignments(site.repo, site.open(), [assignment()])
    assert again.assignments["shops"].version == 2
    assert site.device.assignment("shops") == again.assignments["shops"]


def test_only_what_is_published_is_assigned(site: Site, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match=r"huge\. Published: tiny"):
        sign_assignments(site.repo, site.open(), [assignment("shops", ("huge",))])
    with pytest.raises(PublishError, match="nothing published"):
        sign_assignments(tmp_path / "empty", site.open(), [assignment()])


def test_the_key_of_assignments_cannot_publish_models(site: Site) -> None:
    content = b"{}"
    signing = Signing(site.repo, site.open())
    signing.assignments.signed.targets["models/evil.json"] = TargetFile.from_data("models/evil.json", content)
    signing.commit("assignments")
    assert site.device.model("evil") is None


def test_what_others_have_signed_is_not_signed_again(site: Site, tmp_path: Path) -> None:
    """A thief of the server without our keys makes a root of their own that names ours as well."""
    thief = create_keys(tmp_path / "thief")
    for role in ("snapshot", "timestamp"):
        for path in site.keys.glob(f"{role}-*.pem"):
            shutil.copy(path, tmp_path / "thief")
    shutil.rmtree(site.repo / "metadata")
    both = Keys.open(tmp_path / "thief", site.keys)
    signing = Signing(site.repo, both)
    signing.commit("targets")
    for name in ("1.targets.json", "1.assignments.json"):
        path = site.repo / "metadata" / name
        forged = Metadata[Targets].from_bytes(path.read_bytes())
        forged.signatures = {
            key.keyid: forged.signatures[key.keyid]
            for key in (*thief.public("targets"), *thief.public("assignments"))
            if key.keyid in forged.signatures
        }
        path.write_bytes(forged.to_bytes())
    with pytest.raises(TrustError, match="only others have"):
        Signing(site.repo, site.open()).commit("targets")
    with pytest.raises(TrustError, match="only others have"):
        sign_assignments(site.repo, site.open(), [assignment(models=())])


@pytest.mark.parametrize("file", ["1.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"])
@pytest.mark.parametrize("how", ["truncated", "edited", "missing", "swapped", "huge"])
def test_damaged_metadata_is_refused_and_nothing_is_written(
    site: Site, file: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = site.repo / "metadata" / file
    content = path.read_bytes()
    if how == "missing":
        (site.repo / "metadata" / "2.snapshot.json").touch()  # more than a first attempt leaves behind
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "edited":
        path.write_bytes(content.replace(b'"expires":"2', b'"expires":"3'))
    elif how == "swapped":
        other = "1.assignments.json" if file != "1.targets.json" else "1.snapshot.json"
        path.write_bytes((site.repo / "metadata" / other).read_bytes())
    else:
        monkeypatch.setattr("zoo.releases.published.MAX_METADATA_BYTES", len(content) - 1)
    before = {item: item.read_bytes() for item in sorted((site.repo / "metadata").iterdir())}
    with pytest.raises(TrustError, match="Restore the folder"):
        refresh(site.repo, site.open())
    assert {item: item.read_bytes() for item in sorted((site.repo / "metadata").iterdir())} == before


def test_an_older_root_is_not_taken_for_a_newer_one(site: Site) -> None:
    metadata = site.repo / "metadata"
    shutil.copy(metadata / "1.root.json", metadata / "2.root.json")
    with pytest.raises(TrustError, match="expected root 2, got 1"):
        refresh(site.repo, site.open())


def test_a_standard_client_refuses_what_another_key_has_signed(site: Site, tmp_path: Path) -> None:
    create_keys(tmp_path / "other")
    shutil.rmtree(site.repo / "metadata")
    Signing(site.repo, Keys.open(tmp_path / "other")).commit("targets")
    with pytest.raises(RepositoryError):
        site.device.refreshed()


def test_nothing_is_refreshed_or_rotated_where_nothing_is_published(tmp_path: Path) -> None:
    keys = create_keys(tmp_path / "keys")
    with pytest.raises(PublishError, match="nothing published"):
        refresh(tmp_path / "repo", keys)
    with pytest.raises(PublishError, match="nothing published"):
        rotate(tmp_path / "repo", keys, "timestamp")


def test_two_that_publish_wait_for_each_other(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo.publisher.signing, "LOCK_TIMEOUT_S", 0.1)
    with locked(site.repo), pytest.raises(PublishError, match="alone"):
        refresh(site.repo, site.open())
    refresh(site.repo, site.open())


@pytest.mark.parametrize("role", ROLES)
def test_the_first_publication_needs_a_key_of_every_role(tmp_path: Path, role: RoleName) -> None:
    keys = create_keys(tmp_path / "keys", roles=[other for other in ROLES if other != role])
    with pytest.raises(KeysError, match=f"expected a key of '{role}'"):
        Signing(tmp_path / "repo", keys)


@pytest.mark.parametrize("package", ["tuf", "cryptography"])
def test_a_missing_package_is_named_with_the_way_to_get_it(package: str) -> None:
    program = f"import sys; sys.modules[{package!r}] = None\nimport zoo.publisher.signing"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "."},
        timeout=100,
    )
    assert "MissingExtraError" in done.stderr
    assert install_command("publish") in done.stderr


def test_metadata_is_consistent_with_what_it_names(site: Site) -> None:
    stamp = json.loads((site.repo / "metadata" / "timestamp.json").read_bytes())["signed"]
    version = stamp["meta"]["snapshot.json"]["version"]
    snapshot = json.loads((site.repo / "metadata" / f"{version}.snapshot.json").read_bytes())["signed"]
    assert sorted(snapshot["meta"]) == ["assignments.json", "targets.json"]
    for name, entry in snapshot["meta"].items():
        assert (site.repo / "metadata" / f"{entry['version']}.{name}").is_file()
