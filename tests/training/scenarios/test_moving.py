"""Claims about the scenario over networks: whatever becomes of network and server, the device answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.small_scenario import SPLITS
from training.data.environments import under_environments
from training.data.sources import digits
from training.evaluation.timeline import NOT_REACHED, Timeline
from training.networks.family import train_family
from training.scenarios.scenario import Settings, run_scenario
from training.scenarios.specialists import Material, make_specialists
from training.scenarios.surroundings import earlier_address, network_of, surroundings
from zoo.errors import DataError
from zoo.models.zoo import Zoo

NETWORKS = ("wifi", "none", "wifi")
INPUTS, PER_S = 40, 50.0


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Timeline, Path]:
    """A device in the light with a network that learned little, and a better one on a server."""
    pytest.importorskip("tuf")
    root = tmp_path_factory.mktemp("moved")
    zoo = Zoo.open_or_create(root / "zoo")
    shown = under_environments(digits(), ["clear"], severity=1.0)
    train_family(zoo, shown, sizes=("tiny",), share=0.4, epochs=3, progress=False)
    train_family(zoo, shown, sizes=("small",), share=0.4, epochs=12, progress=False)
    material = Material(
        title="On the move", parents=("tiny",), there=("small",), learn=digits(), judge=digits(),
        severity=1.0, splits=SPLITS, budget_bytes=100_000, precision=0.85,
    )  # fmt: skip
    settings = Settings(
        environments=("clear",) * 3, networks=NETWORKS, inputs=INPUTS, inputs_per_s=PER_S,
        budget_bytes=100_000, precision=0.85, deadline_s=0.3,
    )  # fmt: skip
    with surroundings(zoo, earlier_address(zoo)) as around:
        published = make_specialists(
            root, zoo, material, ("clear",), precision=0.85, around=around, network=network_of("4g"),
            progress=False, say=lambda _: None,
        )  # fmt: skip
        with pytest.raises(DataError, match="a network for each environment"):
            run_scenario(root, published, Settings(environments=("clear",), networks=("wifi", "4g")))
        return run_scenario(root, published, settings, around=around, say=lambda _: None), root


def test_hard_inputs_are_sent_while_there_is_a_network_and_none_without(
    moved: tuple[Timeline, Path],
) -> None:
    timeline, _ = moved
    wifi, none, _ = timeline.phases
    assert len(timeline.answers) == 3 * INPUTS
    assert (wifi.network, none.network) == ("wifi", "none")
    assert wifi.asked > 0.1
    assert wifi.sent_bytes > 0
    assert (none.asked, none.not_reached > 0.5) == (0.0, True)


def test_a_server_that_is_killed_costs_no_answer_and_is_started_again(moved: tuple[Timeline, Path]) -> None:
    timeline, _ = moved
    happened = [mark.text for mark in timeline.marks if mark.kind == "server"]
    assert happened[:2] == ["killed", "started again"]
    killed = next(mark.at for mark in timeline.marks if mark.text == "killed")
    after = timeline.answers[killed : killed + INPUTS // 4]
    assert not any(one.asked for one in after)
    assert all(one.reason == NOT_REACHED or one.certified for one in after)


def test_what_a_server_holds_is_published_in_the_bundle_and_takes_no_room(
    moved: tuple[Timeline, Path],
) -> None:
    timeline, root = moved
    assert {name for one in timeline.answers for name in one.installed} == {"tiny"}
    assert any(one.model == "small-there" for one in timeline.answers)
    assert earlier_address(Zoo.open(root / "zoo")) is not None
