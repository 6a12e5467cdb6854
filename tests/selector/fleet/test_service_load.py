"""A thousand devices at one service: no accepted report is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.distribution.polling import _service, run_load
from zoo.errors import ServiceError


def test_no_report_of_a_thousand_devices_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    result = run_load(devices=1000, reports_each=2, period_s=5.0)
    with capsys.disabled():
        print(f"\n{result.accepted} reports of {result.devices} devices: p95 {result.report_p95_ms:.1f} ms")
    assert result.refused == {}
    assert (result.accepted, result.counted, result.lost) == (2000, 2000, 0)


def test_a_service_that_does_not_start_is_said(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="where it listens"), _service(tmp_path / "no", tmp_path / "data"):
        pass
