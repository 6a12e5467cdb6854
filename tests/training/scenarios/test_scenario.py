"""Claims about the scenario: a device notices, fetches, switches and recovers, by itself or led."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.support.small_scenario import SmallScenario
from training.evaluation.timeline import Timeline
from training.reports.timeline_page import render_timeline
from training.scenarios.scenario import Settings, run_scenario
from zoo.errors import DataError
from zoo.publisher.publish import published

INPUTS = 200


def run(small: SmallScenario, folder: Path, *environments: str, server: bool = False) -> Timeline:
    settings = Settings(
        environments=environments,
        inputs=INPUTS,
        budget_bytes=100_000,
        inputs_per_s=500.0,
        precision=0.6,
        server=server,
        update_interval_s=0.1,
        inputs_a_look=20,
    )
    return run_scenario(folder, small.published, settings, say=lambda _: None)


@pytest.fixture(scope="module")
def alone(small_scenario: SmallScenario, tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    """A device that decides itself: into the dark, and on to where nobody has a specialist."""
    return run(small_scenario, tmp_path_factory.mktemp("alone"), "clear", "dark", "noise")


def test_a_device_notices_the_dark_fetches_the_specialist_and_recovers(alone: Timeline) -> None:
    clear, dark, _ = alone.phases
    assert (clear.alarm, clear.switched) == (None, 0)
    assert dark.alarm is not None
    assert dark.switched is not None
    assert dark.alarm < dark.switched < INPUTS
    assert dark.before is not None
    assert dark.after is not None
    assert dark.own is not None
    assert dark.after > dark.before + 0.2
    assert abs(dark.after - dark.own) < 0.02
    assert dark.bytes_moved < clear.bytes_moved


def test_every_input_is_answered_and_the_budget_is_kept(alone: Timeline) -> None:
    assert len(alone.answers) == 3 * INPUTS
    assert max(answer.stored_bytes for answer in alone.answers) <= alone.budget_bytes


def test_where_nobody_has_a_specialist_the_device_says_so_and_certifies_nothing(alone: Timeline) -> None:
    noise = alone.phases[2]
    assert (noise.specialist, noise.switched, noise.own) == (None, None, None)
    assert any(mark.kind == "unknown" for mark in alone.marks)
    assert not any(answer.certified for answer in alone.answers[-INPUTS // 2 :])
    assert alone.reported, "the service was told"


def test_a_server_that_knows_before_has_the_specialist_there(
    small_scenario: SmallScenario, tmp_path: Path
) -> None:
    led = run(small_scenario, tmp_path, "clear", "dark", server=True)
    push = next(mark.at for mark in led.marks if mark.kind == "push")
    fetch = next(mark for mark in led.marks if mark.kind == "fetch")
    assert push <= fetch.at < INPUTS, "before the change"
    assert "objects.dark" in fetch.text
    dark = led.phases[1]
    assert dark.after is not None
    assert dark.before is not None
    assert dark.after > dark.before + 0.2
    assert not any(mark.kind == "fetch" and mark.at >= INPUTS for mark in led.marks), "nothing after it"


def test_what_a_server_assigned_in_an_earlier_run_is_forgotten(
    small_scenario: SmallScenario, tmp_path: Path
) -> None:
    settings = Settings(environments=("clear",), inputs=10, budget_bytes=100_000, inputs_per_s=500.0)
    run_scenario(tmp_path, small_scenario.published, settings, say=lambda _: None)
    assert published(small_scenario.published.repo).assignments == {}


def test_a_timeline_is_one_page_that_needs_nothing_else(alone: Timeline, tmp_path: Path) -> None:
    render_timeline(alone, tmp_path / "scenario.html")
    page = (tmp_path / "scenario.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 4
    assert "http://" not in page.replace("http://www.w3.org", "")
    for phase in alone.phases:
        assert phase.environment in page
    assert msgspec.json.decode(msgspec.json.encode(alone), type=Timeline) == alone


def test_more_inputs_than_there_are_images_are_refused(small_scenario: SmallScenario, tmp_path: Path) -> None:
    settings = Settings(environments=("clear",), inputs=10_000)
    with pytest.raises(DataError, match=r"expected 10000 test images, got \d+. Ask for fewer with --inputs"):
        run_scenario(tmp_path, small_scenario.published, settings)
    with pytest.raises(DataError, match="expected environments"):
        run_scenario(tmp_path, small_scenario.published, Settings(environments=()))
