"""The tally and its ledger: every accepted report counts once, whatever happens to the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from selector.fleet.ledger import FILE, Ledger, read_tally
from selector.fleet.tally import MOST_NAMES, MOST_VERSIONS, Received, Tally
from selector.telemetry.demand import AskedDemand
from selector.telemetry.report import Drift, DriftNumber, Held, Report
from tests.support.small_service import demand, report
from zoo.errors import CardError, ServiceError

WRITER = """
import sys
sys.path[:0] = [{root!r}]
from tests.support.small_service import report
from selector.fleet.ledger import Ledger
from selector.fleet.tally import Received
ledger = Ledger({folder!r}, compact_bytes=20_000)
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
    assert ledger.accept(batch) == [True, False, True, True]
    ledger.close()
    again = Ledger(tmp_path)
    assert again.tally.counts == {"cameras": 3}
    assert again.tally.newest() == ledger.tally.newest()
    assert again.accept(batch) == [False] * 4
    again.close()


def test_a_torn_line_is_dropped_and_the_next_report_is_whole(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.accept([got(report(1)), got(report(2))])
    ledger.close()
    content = (tmp_path / FILE).read_bytes()
    for cut in range(1, 60):
        (tmp_path / FILE).write_bytes(content[:-cut])
        ledger = Ledger(tmp_path)
        assert ledger.tally.counts == {"cameras": 1}
        assert ledger.accept([got(report(3))]) == [True]
        ledger.close()
        assert read_tally(tmp_path).counts == {"cameras": 2}


def test_a_damaged_line_costs_no_other(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.accept([got(report(i)) for i in range(3)])
    ledger.close()
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"birds", b"words")
    (tmp_path / FILE).write_bytes(b"".join(lines))
    ledger = Ledger(tmp_path)
    assert (ledger.damaged, ledger.tally.counts) == (1, {"cameras": 2})
    ledger.close()


def test_compaction_keeps_counts_and_newest_reports(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, compact_bytes=5000)
    for i in range(1, 200):
        ledger.accept([got(report(i % 3, i))])
    ledger.close()
    assert (tmp_path / FILE).stat().st_size < 8000
    tally = read_tally(tmp_path)
    assert tally.counts == {"cameras": 199}
    assert sorted(one.report.sequence for one in tally.newest()) == [197, 198, 199]
    grown = Ledger(tmp_path, compact_bytes=100)  # one that is over its size is rewritten at once
    assert grown.tally.counts == {"cameras": 199}
    grown.close()


def test_compaction_that_cannot_write_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path, compact_bytes=1000)

    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("zoo.files.tempfile.mkstemp", no_space)
        for i in range(1, 30):
            ledger.accept([got(report(1, i))])
    ledger.accept([got(report(1, 50))])
    ledger.close()
    assert read_tally(tmp_path).counts == {"cameras": 30}


def test_a_full_disk_refuses_the_report_and_keeps_the_others(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.accept([got(report(1))])
    file = ledger._stream
    with Path("/dev/full").open("r+b", buffering=0) as full:
        ledger._stream = full
        with pytest.raises(ServiceError, match="Free some space"):
            ledger.accept([got(report(2))])
    ledger._stream = file
    assert ledger.accept([got(report(2))]) == [True]
    ledger.close()
    assert read_tally(tmp_path).counts == {"cameras": 2}


def test_two_services_do_not_share_a_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with pytest.raises(ServiceError, match="another service"):
        Ledger(tmp_path)
    ledger.close()
    Ledger(tmp_path).close()


@pytest.mark.parametrize("content", [b"", b"hello\n", b"x" * 100_000])
def test_another_file_is_not_taken_for_a_ledger(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ServiceError, match="Move the file away"):
        Ledger(tmp_path)


def test_a_ledger_of_a_newer_zooselect_is_left_alone(tmp_path: Path) -> None:
    import zlib

    head = b'{"schema_version":2,"counts":{}}'
    (tmp_path / FILE).write_bytes(b"%08x %b\n" % (zlib.crc32(head), head))
    with pytest.raises(CardError, match="upgrade"):
        Ledger(tmp_path)


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
