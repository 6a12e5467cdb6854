"""Claims about fits to zoos with a model on a server: budgets of what is sent, and what holds without it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from selector.answering.selector import Selector
from selector.policies.constraint import Constraint
from tests.support.colours import latency_table
from tests.support.command_line import CommandLine
from tests.support.served_zoo import UPLINK_BYTES, served_zoo
from tests.support.world import CANDIDATES, World, fit_in_memory
from training.evaluation.evaluate import evaluate_outcomes
from training.fitting.export import export_bundle
from training.fitting.fitted import Fitted, load_fit, save_fit
from training.fitting.network import over_network
from training.reports.method_table import table
from training.reports.page import render
from training.search.candidates import Candidate
from zoo import Pixels, Zoo
from zoo.errors import LatencyError, PrecisionError
from zoo.remote.network import PRESETS, Network

ADDRESS = "http://127.0.0.1:9"  # nothing is asked while fitting


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return served_zoo(tmp_path_factory.mktemp("served"), ADDRESS)


def _fit(world: World, zoo: Zoo, **asked: Any) -> Fitted:
    outcomes = world.outcomes.split("fit", "tune", "certify")
    return fit_in_memory(
        outcomes, zoo, latency_table(zoo), only=CANDIDATES["cascade"], policy="cascade", **asked
    )


@pytest.mark.parametrize(
    "asked", [{"max_remote": 0.3}, {"mean_uplink_kb": 0.3 * UPLINK_BYTES / 1e3}], ids=str
)
def test_a_budget_of_what_is_sent_is_proven_and_kept(world: World, served: Zoo, asked: Any) -> None:
    fitted = _fit(world, served, **asked)
    proven = fitted.certificate()
    assert proven is not None
    assert proven.p_value <= 0.05
    test = world.outcomes.split("test")
    found = fitted.policy.simulate(test, proven.threshold)
    sent = sum(found.answered_by == fitted.policy.models.index("full")) / len(test)
    assert 0.1 < sent < 0.3 * 1.15
    assert proven.remote_share < 0.3
    assert proven.uplink_kb == pytest.approx(proven.remote_share * UPLINK_BYTES / 1e3)
    accuracy = test.accuracy()
    assert accuracy["small"] + 0.01 < found.accuracy
    assert all(row.mean_ms < 2 for row in fitted.record.comparisons)  # times, whatever they were charged


def test_what_is_sent_is_said_of_a_precision_and_a_policy_without_servers_is_certified_too(
    world: World, served: Zoo, tmp_path: Path
) -> None:
    fitted = _fit(world, served, precision=0.9)
    bundle = fitted.record.bundle
    proven = fitted.certificate()
    assert proven is not None
    assert 0 <= proven.remote_share <= 1
    assert "sent to a server" in proven.sends
    offline = [i for i, one in enumerate(bundle.policies) if set(one.models) <= bundle.local]
    assert offline
    index = bundle.policy_for(bundle.local)
    assert index == offline[0]
    mine = [one for one in bundle.certificates if one.policy == index]
    assert {"precision", "max_remote", "mean_uplink_kb"} <= {one.constraint.kind for one in mine}
    assert all(one.remote_share == one.uplink_kb == 0 for one in mine)
    save_fit(fitted, tmp_path / "fit")
    again = load_fit(tmp_path / "fit")
    assert again.record == fitted.record
    assert bundle.schema_version == 6
    export_bundle(again, served, tmp_path / "bundle")
    selector = Selector.load(tmp_path / "bundle")
    assert selector.bundle == bundle
    assert selector.certified_levels("max_remote") != ()


def test_a_zoo_without_servers_keeps_its_format_and_has_nothing_to_send(world: World) -> None:
    bundle = _fit(world, world.zoo, precision=0.9).record.bundle
    assert bundle.schema_version == 5
    assert b"remote" not in msgspec.json.encode(bundle)
    assert b"uplink" not in msgspec.json.encode(bundle)
    with pytest.raises(PrecisionError, match="expected a zoo with a remote model"):
        _fit(world, world.zoo, max_remote=0.2)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"encoding": "png", "input_layout": "bytes"}, "sent as png"),
        ({"pixels": Pixels()}, "in the size that they come in"),
        ({"uplink_bytes": 0}, "were not measured"),
    ],
)
def test_bytes_that_vary_prove_nothing(world: World, tmp_path: Path, how: Any, words: str) -> None:
    zoo = served_zoo(tmp_path, ADDRESS, **how)
    with pytest.raises(PrecisionError, match=words):
        _fit(world, zoo, mean_uplink_kb=0.2)
    if words == "sent as png":
        fitted = _fit(world, zoo, max_remote=0.3)
        assert fitted.certificate() is not None
        assert fitted.certified_levels("mean_uplink_kb") == []


def test_budgets_of_what_is_sent_are_checked() -> None:
    for kind, level in (("max_remote", 0.0), ("max_remote", 1.0), ("mean_uplink_kb", 0.0)):
        with pytest.raises(ValueError, match=f"expected a {kind} strictly between"):
            Constraint(kind=kind, level=level)
    with pytest.raises(ValueError, match="never_remote"):
        Constraint(kind="max_remote", level=0.0)


def _sending(candidate: Candidate) -> bool:
    return CANDIDATES["cascade"](candidate) and candidate.models in (("small",), ("small", "full"))


def _network(**changed: Any) -> Network:
    facts = {
        "name": "slow",
        "rtt_ms": 50.0,
        "uplink_mbps": 1.0,
        "downlink_mbps": 2.0,
        "server_ms": {"full": 2.0},
    }
    return Network(**(facts | changed))


def test_a_network_table_says_what_a_server_takes_in_the_mean(world: World, served: Zoo) -> None:
    table, zoo = over_network(latency_table(served), served, _network())
    expected = 50 + 700 * 8 / 1e3 + 300 * 8 / 2e3 + 2
    assert table.costs_ms(zoo)["full"] == pytest.approx(expected)
    outcomes = world.outcomes.split("fit", "tune", "certify")
    fitted = fit_in_memory(outcomes, zoo, table, only=_sending, policy="cascade", mean_ms=20.0)
    proven = fitted.certificate()
    assert proven is not None
    assert 1 < proven.mean_ms < 20  # some are sent
    assert {"full"} < set(fitted.policy.models)
    assert fitted.certified_levels("p95_ms") == []
    with pytest.raises(LatencyError, match="nothing of the slowest answers"):
        fit_in_memory(outcomes, zoo, table, only=_sending, policy="cascade", p95_ms=70.0)


def test_without_a_network_only_the_device_counts(served: Zoo) -> None:
    known, _ = over_network(
        latency_table(served), served, PRESETS["4g"]
    )  # the server's time as it was measured
    assert known.costs_ms(served)["full"] == pytest.approx(60 + 700 * 8 / 4.5e3 + 300 * 8 / 10e3 + 1.0)
    _, zoo = over_network(latency_table(served), served, PRESETS["none"])
    assert zoo.names == ("tiny", "small")
    with pytest.raises(LatencyError, match="expected a model that runs without a network"):
        over_network(latency_table(served), served.only(["full"]), PRESETS["none"])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"uplink_mbps": 0.0}, "uplink_mbps above 0, got 0.0"),
        ({"downlink_mbps": -1.0}, "downlink_mbps above 0"),
        ({"rtt_ms": float("nan")}, "rtt_ms of at least 0"),
    ],
)
def test_bad_network_tables_are_refused(served: Zoo, wrong: Any, words: str) -> None:
    with pytest.raises(LatencyError, match=words):
        over_network(latency_table(served), served, _network(**wrong))


def test_the_page_says_what_is_sent_and_what_counts_without_a_server(
    world: World, served: Zoo, tmp_path: Path
) -> None:
    fitted = _fit(world, served, max_remote=0.3)
    evaluation = evaluate_outcomes(fitted, world.outcomes.split("test"))
    facts = dict(evaluation.facts)
    assert "sent to a server" in facts["Certificate"]
    assert "at most 0.01 of the inputs sent to a server" in facts["Without a server"]
    render(evaluation, tmp_path / "page.html")
    assert re.search(r"sent\W+≤\W+30", (tmp_path / "page.html").read_text())
    sent = {row.name: (row.sent_share, row.sent_kb) for row in evaluation.rows if row.kind == "single"}
    assert sent == {"tiny": (0, 0), "small": (0, 0), "full": (1, UPLINK_BYTES / 1e3)}
    ours = evaluation.ours
    assert ours.sent_share is not None
    assert 0.1 < ours.sent_share < 0.3 * 1.15
    assert ours.sent_kb == pytest.approx(ours.sent_share * UPLINK_BYTES / 1e3)
    head, row = (line for line in table(evaluation).splitlines() if line.startswith(("method", "full")))
    assert "kB sent" in head
    assert "100.0 %     0.70" in row


def test_where_the_image_must_stay_a_model_that_is_sent_it_is_left_out(
    served: Zoo, zooselect: CommandLine
) -> None:
    said = zooselect("fit", "--zoo", served.folder, "--models", "full", "--raw-stays", code=1).err
    assert "keeps the image on the device, got only full" in said
