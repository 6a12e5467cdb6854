"""Claims about trust: a device believes what was signed, and nothing that is older than what it has seen."""

from __future__ import annotations

import shutil
import threading
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from tuf.api.metadata import TargetFile

from benchmarks.distribution.network import SlowServer
from tests.support.small_publisher import Publisher, colour_publisher
from tests.support.stopped_clock import at
from zoo import Zoo
from zoo.client.trust import Trust
from zoo.errors import TrustError, UnreachableError
from zoo.publisher.keys import Keys
from zoo.publisher.rotation import rotate
from zoo.publisher.signing import Expiry, Signing


@pytest.fixture
def publisher(tmp_path: Path, small_zoo: Zoo) -> Publisher:
    return colour_publisher(tmp_path / "publisher", small_zoo)


@pytest.fixture
def trust(tmp_path: Path, publisher: Publisher, server: SlowServer) -> Trust:
    Trust.pin(tmp_path / "tuf", publisher.root)
    return Trust(tmp_path / "tuf", server.url, timeout_s=30)


def metadata_of(publisher: Publisher, into: Path) -> Path:
    """A copy of what is served."""
    return Path(shutil.copytree(publisher.folder, into))


def restore(publisher: Publisher, copy: Path, *names: str) -> None:
    for name in names:
        shutil.copy(copy / "metadata" / name, publisher.folder / "metadata" / name)


def test_a_device_learns_all_that_is_published(trust: Trust, publisher: Publisher) -> None:
    index = trust.refresh().index
    assert sorted(index.models) == sorted(publisher.zoo.names)
    assert all(index.models[card.name].card == card for card in publisher.zoo.cards)


def test_a_look_with_nothing_new_takes_two_requests(trust: Trust, server: SlowServer) -> None:
    news: list[int] = []
    first = trust.refresh(news=lambda: news.append(server.requests))
    assert news == [2]  # after root and timestamp, before the rest
    server.forget()
    again = trust.refresh(news=lambda: news.append(0))
    assert news == [2]
    assert again.index == first.index
    assert (again.requests, server.requests) == (2, 2)
    assert again.bytes_on_wire < 2000


def test_root_and_timestamp_are_under_way_together(
    trust: Trust, server: SlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust.refresh()
    both, count = threading.Barrier(2), server.count

    def counted(requests: int, sent: int) -> None:
        if requests:
            both.wait(20)  # breaks where the second one comes only after the first was answered
        count(requests, sent)

    monkeypatch.setattr(server, "count", counted)
    assert trust.refresh().requests == 2


def test_after_a_new_root_the_timestamp_is_asked_for_again(
    trust: Trust, publisher: Publisher, server: SlowServer
) -> None:
    trust.refresh()
    rotate(publisher.folder, Keys.open(publisher.keys), "timestamp")
    server.forget()
    trust.refresh()
    assert server.requests == 4, "two roots, two timestamps"


def test_a_key_that_a_new_root_has_replaced_is_not_believed(
    tmp_path: Path, trust: Trust, publisher: Publisher
) -> None:
    trust.refresh()
    old = metadata_of(publisher, tmp_path / "old")
    for _ in range(2):
        rotate(publisher.folder, Keys.open(publisher.keys), "timestamp")
    restore(publisher, old, "timestamp.json")
    with pytest.raises(TrustError, match="timestamp was signed by 0/1 keys"):
        trust.refresh()


def test_a_root_that_is_refused_ends_the_look(trust: Trust, publisher: Publisher, server: SlowServer) -> None:
    trust.refresh()
    (publisher.folder / "metadata" / "2.root.json").write_bytes(publisher.root)
    server.forget()
    with pytest.raises(TrustError, match="not to be trusted"):
        trust.refresh()
    assert server.requests <= 2, "the root, and the timestamp that was asked for with it"


def test_a_new_version_is_seen(trust: Trust, publisher: Publisher) -> None:
    assert trust.refresh().index.models["tiny"].version == 1
    publisher.change("tiny")
    publisher.publish()
    assert trust.refresh().index.models["tiny"].version == 2


def test_only_what_is_known_is_kept(trust: Trust, publisher: Publisher) -> None:
    trust.refresh()
    for seed in range(3):
        publisher.change("tiny", seed=seed)
        publisher.publish()
        trust.refresh()
    assert len(list((trust.folder / "targets").iterdir())) == len(publisher.zoo.names)


def test_a_device_without_a_root_asks_for_one(tmp_path: Path) -> None:
    with pytest.raises(TrustError, match=r"expected the publisher's root .* got none.*1\.root\.json"):
        Trust(tmp_path / "nothing", "http://127.0.0.1:1")


@pytest.mark.parametrize("content", [b"", b"<html>login</html>", b"{}", b'{"signed": {}, "signatures": []}'])
def test_what_is_no_root_is_not_pinned(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(TrustError, match="expected root metadata"):
        Trust.pin(tmp_path / "tuf", content)
    assert not (tmp_path / "tuf").exists()


def test_a_root_that_its_own_keys_did_not_sign_is_not_pinned(tmp_path: Path, publisher: Publisher) -> None:
    changed = publisher.root.replace(b'"version": 1', b'"version": 9').replace(b'"version":1', b'"version":9')
    assert changed != publisher.root
    with pytest.raises(TrustError, match="expected root metadata"):
        Trust.pin(tmp_path / "tuf", changed)


def test_a_device_does_not_change_its_publisher(tmp_path: Path, small_zoo: Zoo, trust: Trust) -> None:
    other = colour_publisher(tmp_path / "other", small_zoo)
    with pytest.raises(TrustError, match="trusts another publisher already"):
        Trust.pin(trust.folder, other.root)


def test_metadata_of_other_keys_is_refused(
    tmp_path: Path, small_zoo: Zoo, trust: Trust, publisher: Publisher
) -> None:
    before = trust.refresh().index
    other = colour_publisher(tmp_path / "other", small_zoo)
    other.change("tiny")
    other.publish()
    shutil.rmtree(publisher.folder)
    shutil.copytree(other.folder, publisher.folder)
    with pytest.raises(TrustError, match=r"not to be trusted.*Nothing was changed"):
        trust.refresh()
    assert before.models["tiny"].version == 1


def test_an_older_state_is_refused(tmp_path: Path, trust: Trust, publisher: Publisher) -> None:
    old = metadata_of(publisher, tmp_path / "old")
    publisher.change("tiny")
    publisher.publish()
    trust.refresh()
    restore(publisher, old, "timestamp.json")
    with pytest.raises(TrustError, match="not to be trusted"):
        trust.refresh()


def test_targets_of_another_version_than_the_snapshot_says_are_refused(
    tmp_path: Path, trust: Trust, publisher: Publisher
) -> None:
    old = metadata_of(publisher, tmp_path / "old")
    publisher.change("tiny")
    publisher.publish()
    newest = max(
        (publisher.folder / "metadata").glob("*.targets.json"), key=lambda p: int(p.name.split(".")[0])
    )
    first = min((old / "metadata").glob("*.targets.json"), key=lambda p: int(p.name.split(".")[0]))
    shutil.copy(first, newest)
    with pytest.raises(TrustError, match="not to be trusted"):
        trust.refresh()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_single_changed_byte_is_noticed(trust: Trust, publisher: Publisher, role: str) -> None:
    folder = publisher.folder / "metadata"
    path = folder / "timestamp.json" if role == "timestamp" else next(folder.glob(f"*.{role}.json"))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"20", b"21", 1))
    with pytest.raises(TrustError):
        trust.refresh()


def test_withheld_news_show_after_the_timestamp_has_expired(trust: Trust, publisher: Publisher) -> None:
    trust.refresh()
    expired = publisher.expires("timestamp") + timedelta(seconds=1)
    with at(expired), pytest.raises(TrustError, match=r"expired.*Check the clock"):
        trust.refresh()


def test_a_timestamp_that_is_signed_on_hides_news_no_longer_than_the_snapshot_is_valid(
    trust: Trust, publisher: Publisher
) -> None:
    publisher.change("tiny")
    publisher.publish(expiry=Expiry(timestamp=60))
    trust.refresh()
    snapshot = publisher.expires("snapshot")
    assert snapshot < publisher.expires("timestamp")
    with at(snapshot + timedelta(seconds=1)), pytest.raises(TrustError, match=r"snapshot\.json is expired"):
        trust.refresh()


def test_a_clock_two_days_ahead_takes_nothing_new_and_one_behind_loses_nothing(
    trust: Trust, publisher: Publisher
) -> None:
    now = publisher.expires("timestamp") - timedelta(days=1)
    with at(now + timedelta(days=2)), pytest.raises(TrustError, match="Check the clock"):
        trust.refresh()
    with at(now - timedelta(days=2)):
        assert sorted(trust.refresh().index.models) == ["full", "small", "tiny"]


def test_a_login_page_instead_of_metadata_is_refused(trust: Trust, publisher: Publisher) -> None:
    before = trust.refresh().index
    path = publisher.folder / "metadata" / "timestamp.json"
    good = path.read_bytes()
    path.write_bytes(b"<html><body>Please accept our terms</body></html>")
    with pytest.raises(TrustError, match="not to be trusted"):
        trust.refresh()
    path.write_bytes(good)
    assert trust.refresh().index == before


def test_endless_metadata_is_not_read_to_the_end(
    trust: Trust, publisher: Publisher, server: SlowServer
) -> None:
    path = publisher.folder / "metadata" / "timestamp.json"
    path.write_bytes(path.read_bytes() + b" " * 50_000_000)
    with pytest.raises((TrustError, UnreachableError)):
        trust.refresh()


def test_without_a_server_the_reason_is_said(tmp_path: Path, publisher: Publisher) -> None:
    Trust.pin(tmp_path / "alone", publisher.root)
    with pytest.raises(UnreachableError, match=r"expected the published metadata at http://127\.0\.0\.1:9/"):
        Trust(tmp_path / "alone", "http://127.0.0.1:9", timeout_s=0.5).refresh()


def test_a_record_under_another_name_is_refused(trust: Trust, publisher: Publisher) -> None:
    full = trust.refresh().index.models["full"]
    signing = Signing(publisher.folder, Keys.open(publisher.keys))
    content = msgspec.json.encode(full)
    target = TargetFile.from_data("models/tiny.json", content, ["sha256"])
    signing.targets.signed.targets["models/tiny.json"] = target
    folder = publisher.folder / "targets" / "models"
    (folder / f"{target.hashes['sha256']}.tiny.json").write_bytes(content)
    signing.commit("targets")
    with pytest.raises(TrustError, match="expected the record of 'tiny', got that of 'full'"):
        trust.refresh()


def test_damaged_files_of_the_device_are_fetched_again(trust: Trust) -> None:
    before = trust.refresh().index
    for path in [trust.folder / "targets.json", trust.folder / "timestamp.json"]:
        path.write_bytes(b"nothing")
    for path in (trust.folder / "targets").iterdir():
        path.write_bytes(b"nothing")
    assert trust.refresh().index == before


def test_short_lived_signatures_are_possible(tmp_path: Path, small_zoo: Zoo) -> None:
    made = colour_publisher(tmp_path / "short", small_zoo, expiry=Expiry(timestamp=0.5))
    assert made.expires("timestamp") < made.expires("snapshot") < made.expires("root")


@pytest.mark.parametrize("name", ["timestamp.json", "root.json", "targets.json", "targets", "root_history"])
def test_what_cannot_be_metadata_is_fetched_again(trust: Trust, name: str) -> None:
    index = trust.refresh().index
    path = trust.folder / name
    if path.is_dir():
        shutil.rmtree(path)
        path.write_bytes(b"garbage")
    else:
        path.unlink()
        (path / "inside").mkdir(parents=True)
    assert trust.refresh().index == index


@pytest.mark.parametrize("way", ["folder", "empty", "garbage"])
def test_the_first_root_is_never_replaced_by_itself(trust: Trust, publisher: Publisher, way: str) -> None:
    path = trust.folder / "first-root.json"
    path.unlink()
    path.mkdir() if way == "folder" else path.write_bytes(b"" if way == "empty" else b"{}")
    for attempt in (trust.refresh, lambda: Trust.pin(trust.folder, publisher.root)):
        with pytest.raises(TrustError, match=r"was given in .*first-root\.json.*move what is there away"):
            attempt()
