"""The tally and its ledger: every accepted report counts once, whatever happens to the process."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path

import msgspec
import pytest

from selector.fleet.ledger import (
    FILE,
    MAX_RECEIVED_BYTES,
    OLD_FILE,
    SCHEMA_VERSION,
    Ledger,
    read_tally,
)
from selector.fleet.tally import MOST_NAMES, MOST_VERSIONS, Received, Tally
from selector.telemetry.demand import AskedDemand
from selector.telemetry.report import Drift, DriftNumber, Held, Report
from tests.support.small_service import demand, full_disk, large_report, report
from zoo.errors import CardError, ServiceError

WRITER = """
import sys
sys.path[:0] = [{root!r}]
from tests.support.small_service import report
from selector.fleet.ledger import Ledger
from selector.fleet.tally import Received
ledger = Ledger({folder!r})
for i in range(1, 10**6):
    ledger.accept([Received(at=1.0, report=report(device=i % 7, sequence=i))])
    print(i, flush=True)
"""


def got(one: Report, at: float = 1000.0) -> Received:
    return Received(at=at, report=one)


def test_a_group_is_the_sum_of_the_newest_report_of_every_device() -> None:
    tally = Tally()
    tally.add(got(report(1, 1, demand=(demand(answers=90, unmet=90),))))
    tally.add(got(report(1, 2, demand=(demand(answers=10, unmet=4),))))
    tally.add(got(report(2, 1, demand=(demand(answers=20, unmet=1),), budget_bytes=100)))
    tally.add(got(report(3, 1, group="phones")))
    found = tally.demand("cameras", since=0)
    birds = found.bundles["birds"]
    assert (found.devices, found.reports, found.window, found.budgets) == (2, 3, 30, (100, 5000))
    assert (birds.devices, birds.unmet, birds.models, found.held) == (2, 5, {"big": 5}, {"small": 2})
    assert found.versions == {"bundles/birds": {"1": 2}, "models/small": {"1": 2}}
    assert found.zooselect == {"0.1.0": 2}
    assert birds.asked == (AskedDemand(kind="precision", level=0.9, answers=30, unmet=5),)


def test_a_repeated_or_older_report_counts_once() -> None:
    tally = Tally()
    assert [tally.add(got(report(1, n))) for n in (5, 5, 4, 6)] == [True, False, False, True]
    assert tally.counts == {"cameras": 2}


def test_another_report_with_a_number_that_was_there_is_of_a_second_device(tmp_path: Path) -> None:
    first, second = report(1, 5), report(1, 5, stored_bytes=7)
    tally = Tally()
    tally.add(got(first))
    verdicts = [tally.verdict(one) for one in (first, second, report(1, 4), report(1, 6))]
    assert verdicts == ["repeated", "in use", "in use", "new"]
    ledger = Ledger(tmp_path)
    assert ledger.accept([got(first), got(second), got(first)]) == ["new", "in use", "repeated"]
    assert ledger.tally.newest() == [got(first)]
    ledger.close()


def test_devices_that_fell_silent_do_not_count() -> None:
    tally = Tally()
    tally.add(got(report(1), at=10))
    tally.add(got(report(2), at=1000))
    assert tally.demand("cameras", since=500).devices == 1
    assert tally.demand("nobody", since=0).devices == 0


def test_devices_of_other_groups_are_other_devices() -> None:
    tally = Tally()
    tally.add(got(report(1, 100, group="phones")))
    assert tally.add(got(report(1, 1)))


def test_memory_is_bounded_by_forgetting_who_was_silent_longest() -> None:
    tally = Tally(most_devices=3)
    for i in (1, 2, 3, 1, 4):
        tally.add(got(report(i, i + 10 if i == 1 and tally.counts else i)))
    tally.add(got(report(1, 99)))
    assert [int(one.report.device, 16) for one in tally.newest()] == [3, 4, 1]


def test_the_budget_is_one_that_nearly_all_devices_have() -> None:
    tally = Tally()
    for i in range(20):
        tally.add(got(report(i, budget_bytes=1 if i == 0 else 1000 + i)))
    found = tally.demand("cameras", since=0)
    assert (found.budget(0.0), found.budget(0.05), found.budget(0.99)) == (1, 1001, 1019)
    tally.add(got(report(99, budget_bytes=None)))
    assert tally.demand("cameras", since=0).budget(0.99) is None
    assert tally.demand("nobody", since=0).budget(0.0) is None


def test_drifted_devices_are_counted() -> None:
    tally = Tally()
    for i, alarm in enumerate((True, False, True)):
        drift = Drift(bundle="birds", numbers=(DriftNumber(name="ks", statistic=0.5, alarm=alarm),))
        tally.add(got(report(i, drift=(drift,))))
    assert tally.demand("cameras", since=0).bundles["birds"].alarms == 2


def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    batch = [got(report(1, 1)), got(report(1, 1)), got(report(2, 1)), got(report(1, 2))]
    assert ledger.accept(batch) == ["new", "repeated", "new", "new"]
    ledger.close()
    again = Ledger(tmp_path)
    assert again.tally.counts == {"cameras": 3}
    assert again.tally.newest() == ledger.tally.newest()
    assert again.accept(batch) == ["in use", "in use", "repeated", "repeated"]
    again.close()


def test_a_damaged_report_costs_no_other(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.accept([got(report(i)) for i in range(4)])
    wrong = (b'{"at": 1}', "text", b" " * (MAX_RECEIVED_BYTES + 1))
    for number, content in enumerate(wrong, 1):
        ledger._database.execute("UPDATE reports SET received = ? WHERE number = ?", (content, number))
    ledger.close()
    ledger = Ledger(tmp_path)
    assert (ledger.damaged, len(ledger.tally.newest()), ledger.tally.counts) == (3, 1, {"cameras": 4})
    ledger.close()


def test_what_was_superseded_or_forgotten_takes_no_room(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, most_devices=3)
    for i in range(1, 500):
        ledger.accept([got(report(i % 7, i))])
    held = "SELECT count(*) FROM reports"
    assert ledger._database.execute(held).fetchone() == (3,)
    kept = ledger.tally.newest()
    ledger.close()
    tally = read_tally(tmp_path)
    assert (tally.counts, tally.newest()) == ({"cameras": 499}, kept)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 100_000


def test_others_read_while_a_service_writes(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for i in range(1, 30):
        ledger.accept([got(report(i))])
        assert read_tally(tmp_path).counts == {"cameras": i}
    ledger.close()


def test_a_full_disk_refuses_the_whole_batch_and_keeps_the_others(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.accept([got(report(1))])
    batch = [got(report(2)), got(large_report(3))]
    with full_disk(ledger), pytest.raises(ServiceError, match="Free some space"):
        ledger.accept(batch)
    assert ledger.tally.counts == read_tally(tmp_path).counts == {"cameras": 1}
    assert ledger.accept(batch) == ["new", "new"]
    ledger.close()
    assert read_tally(tmp_path).counts == {"cameras": 3}


def test_what_is_accepted_is_synced(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    (mode,) = ledger._database.execute("PRAGMA synchronous").fetchone()
    assert mode == 2  # FULL: every transaction, before it counts
    ledger.close()


def test_two_services_do_not_share_a_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with pytest.raises(ServiceError, match="another service"):
        Ledger(tmp_path)
    ledger.close()
    Ledger(tmp_path).close()


@pytest.mark.parametrize("file", [FILE, OLD_FILE])
@pytest.mark.parametrize("content", [b"hello\n", b"x" * 100_000])
def test_another_file_is_not_taken_for_a_ledger(tmp_path: Path, file: str, content: bytes) -> None:
    (tmp_path / file).write_bytes(content)
    for opened in (Ledger, read_tally):
        with pytest.raises(ServiceError, match="Move the file away"):
            opened(tmp_path)
    assert (tmp_path / file).read_bytes() == content


@pytest.mark.parametrize("change", ["PRAGMA application_id = 7", "INSERT INTO groups VALUES ('A/b', 'many')"])
def test_another_database_is_not_taken_for_a_ledger(tmp_path: Path, change: str) -> None:
    Ledger(tmp_path).close()
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        database.execute(change)
    for opened in (Ledger, read_tally):
        with pytest.raises(ServiceError, match="Move the file away"):
            opened(tmp_path)


def test_a_damaged_database_is_told(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.accept([got(report(i)) for i in range(100)])
    ledger.close()
    content = bytearray((tmp_path / FILE).read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ServiceError, match="Move the file away"):
        Ledger(tmp_path)


def test_a_ledger_of_a_newer_zooselect_is_left_alone(tmp_path: Path) -> None:
    Ledger(tmp_path).close()
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    for opened in (Ledger, read_tally):
        with pytest.raises(CardError, match="upgrade"):
            opened(tmp_path)


def test_a_ledger_that_tells_no_tokens_is_taken_over(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.accept([got(report(1))])
    content = msgspec.json.encode({"at": 1000.0, "report": report(1)})
    ledger._database.execute("UPDATE reports SET received = ?", (content,))
    ledger._database.execute("PRAGMA user_version = 2")
    ledger.close()
    assert read_tally(tmp_path).newest() == [got(report(1))]
    ledger = Ledger(tmp_path)
    assert (ledger.damaged, ledger.tally.newest()) == (0, [got(report(1))])
    assert ledger._database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    ledger.close()


def old_ledger(*reports: Report, **counts: int) -> bytes:
    """The file that zooselect 0.1 wrote: a head, then one report a line, each with its checksum."""
    head = {"schema_version": 1, "counts": counts}
    contents = [msgspec.json.encode(one) for one in (head, *(got(one) for one in reports))]
    return b"".join(b"%08x %b\n" % (zlib.crc32(content), content) for content in contents)


def test_an_old_ledger_is_taken_over_once(tmp_path: Path) -> None:
    old = old_ledger(report(1, 1), report(2, 7), report(1, 2), report(1, 2), cameras=40, phones=2)
    (tmp_path / OLD_FILE).write_bytes(old)
    before = read_tally(tmp_path)
    for _ in range(2):
        ledger = Ledger(tmp_path)
        assert ledger.tally.counts == before.counts == {"cameras": 43, "phones": 2}
        assert ledger.tally.newest() == before.newest() == [got(report(2, 7)), got(report(1, 2))]
        assert ledger.accept([got(report(2, 7))]) == ["repeated"]
        ledger.close()
    assert not (tmp_path / OLD_FILE).exists()
    assert (tmp_path / "reports.jsonl.old").read_bytes() == old


def test_a_take_over_that_was_cut_is_ended_without_counting_twice(tmp_path: Path) -> None:
    old = old_ledger(report(1, 1), cameras=5)
    (tmp_path / OLD_FILE).write_bytes(old)
    Ledger(tmp_path).close()
    (tmp_path / OLD_FILE).write_bytes(old + old_ledger(report(1, 2)).splitlines(keepends=True)[1])
    ledger = Ledger(tmp_path)
    assert (ledger.tally.counts, ledger.tally.newest()) == ({"cameras": 7}, [got(report(1, 2))])
    ledger.close()


@pytest.mark.parametrize("cut", [1, 2, 50, 300])
def test_a_torn_last_line_of_an_old_ledger_is_left_out(tmp_path: Path, cut: int) -> None:
    (tmp_path / OLD_FILE).write_bytes(old_ledger(report(1), report(2))[:-cut])
    ledger = Ledger(tmp_path)
    assert (ledger.damaged, ledger.tally.counts) == (0, {"cameras": 1})
    ledger.close()


def test_a_damaged_line_of_an_old_ledger_costs_no_other(tmp_path: Path) -> None:
    lines = old_ledger(report(1), report(2)).splitlines(keepends=True)
    (tmp_path / OLD_FILE).write_bytes(lines[0] + lines[1].replace(b"birds", b"words") + lines[2])
    ledger = Ledger(tmp_path)
    assert (ledger.damaged, ledger.tally.counts) == (1, {"cameras": 1})
    ledger.close()


def test_an_old_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    head = b'{"schema_version":2,"counts":{}}'
    (tmp_path / OLD_FILE).write_bytes(b"%08x %b\n" % (zlib.crc32(head), head))
    with pytest.raises(CardError, match="upgrade"):
        Ledger(tmp_path)
    assert (tmp_path / OLD_FILE).exists()


def test_a_killed_service_has_every_report_that_it_accepted(tmp_path: Path) -> None:
    code = WRITER.format(root=str(Path(__file__).parents[3]), folder=str(tmp_path))
    accepted = 0
    for least in (5, 40, 90):
        command = [sys.executable, "-c", code.replace("range(1,", f"range({accepted + 1},")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for line in writer.stdout:
                accepted = int(line)
                if accepted >= least:
                    os.kill(writer.pid, signal.SIGKILL)
                    break
            accepted = max([accepted, *map(int, writer.stdout.read().split())])
        counted = read_tally(tmp_path).counts["cameras"]
        assert accepted <= counted <= accepted + 1
        accepted = counted


def test_versions_that_devices_make_up_do_not_grow_without_end() -> None:
    tally = Tally()
    for i in range(20):
        made_up = tuple(Held(name=f"model-{i}-{j}", version=1) for j in range(60))
        tally.add(Received(at=1.0, report=report(i, models=(*made_up, Held(name="small", version=i + 1)))))
    versions = tally.demand("cameras", since=0.0).versions
    assert len(versions) == MOST_NAMES
    assert len(versions["models/small"]) == MOST_VERSIONS
