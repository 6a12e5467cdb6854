"""Claims about a suite from end to end, on three small real models: fair to all, complete on paper."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import benchmarks.selection.answers
import benchmarks.selection.guarantee
import benchmarks.selection.repeated
import benchmarks.selection.suite
import training.features.scout_network
import training.search.search
from benchmarks.peers import PEERS
from benchmarks.peers.singles import SingleModels
from benchmarks.selection.guarantee import DRAWS
from benchmarks.selection.repeated import AS_DELIVERED, deal, repeat
from benchmarks.selection.suite import run_suite
from benchmarks.selection.zoos import (
    ALL_FIT,
    SUITES,
    Given,
    Prepared,
)
from tests.support.world import colour_images, colour_zoo, latency_table, steady
from training.data.splits import CERTIFY, FIT, TEST, TUNE, Splits
from training.outcomes.outcomes import ALL_SPLITS, Outcomes, load_outcomes
from training.outcomes.profile import profile
from zoo import LatencyTable

IMAGES = 300


DELIVERED = ("small", "full")
LEARNING = ("max-softmax-cascade", "knn-premodel")


class Watcher(SingleModels):
    """A peer that remembers which samples it was given."""

    name = "watcher"
    given: ClassVar[list[tuple[Outcomes, Outcomes]]] = []

    def fit(self, development: Outcomes, *arguments: Any, **named: Any) -> None:
        self._development = development
        super().fit(development, *arguments, **named)

    def frontier(self, outcomes: Outcomes) -> list[Any]:
        self.given.append((self._development, outcomes))
        return super().frontier(outcomes)


@dataclass(frozen=True)
class Ran:
    """A suite that was run, with what it printed and wrote."""

    result: dict[str, Any]
    printed: str
    folder: Path
    prepared: Prepared
    table: LatencyTable
    given: list[tuple[Outcomes, Outcomes]]

    def again(self) -> list[dict[str, Any]]:
        """The first repetition once more, as the result file has it."""
        with quick():
            found = repeat(
                self.prepared.profile,
                self.prepared.zoo,
                self.table,
                named="full",
                seeds=range(1),
                jobs=1,
                peers=LEARNING,
            )
        rows = [asdict(replace(item, seconds={})) for item in found]
        written: list[dict[str, Any]] = json.loads(json.dumps(rows))
        return written


@contextlib.contextmanager
def quick() -> Iterator[pytest.MonkeyPatch]:
    """Suites inside measure no costs, and their scouts hardly learn."""
    with steady(scout=True) as patch:
        patch.setattr(training.features.scout_network, "SAMPLES_SHOWN", 1)
        yield patch


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The suite ``colours``: two splits, two precisions, a peer that watches."""
    folder = tmp_path_factory.mktemp("benchmarks")
    zoo, data = colour_zoo(folder / "zoo"), colour_images(IMAGES)
    profile(zoo, data, folder / "profile", splits=Splits(**ALL_FIT), progress=False)
    table = latency_table(zoo)
    prepared = Prepared("Three colours", zoo, data, folder / "profile", "full", delivered=DELIVERED)
    printed = io.StringIO()
    with quick() as patch, contextlib.redirect_stdout(printed):
        patch.setitem(SUITES, "colours", lambda given: prepared)  # type: ignore[arg-type]
        patch.setitem(PEERS, "watcher", Watcher)  # type: ignore[arg-type]
        patch.setattr(
            benchmarks.selection.answers, "PRECISION_DROPS", (0.07, -0.05)
        )  # the second would be more than certainty
        patch.setattr(benchmarks.selection.suite, "measure", lambda *_, **__: table)
        result = run_suite(
            "colours",
            Given(folder / "work"),
            splits=2,
            jobs=1,
            rounds=1,
            peers=(*LEARNING, "watcher", "oracle"),
            results=folder / "results",
        )
    return Ran(result, printed.getvalue(), folder / "results", prepared, table, Watcher.given)


def test_every_peer_gets_the_samples_that_ours_is_fitted_to_and_judged_on(ran: Ran) -> None:
    outcomes = load_outcomes(ran.prepared.profile, zoo=ran.prepared.zoo, splits=ALL_SPLITS)
    assert len(ran.given) == 4  # two splits, on our models and on those as delivered
    for place, (development, test) in enumerate(ran.given):
        seed, as_delivered = place // 2, place % 2 == 1
        dealt = deal(outcomes, seed)
        np.testing.assert_array_equal(development.ids, dealt.split(FIT, TUNE).ids)
        np.testing.assert_array_equal(test.ids, dealt.split(TEST).ids)
        assert development.models == (DELIVERED if as_delivered else ran.prepared.zoo.names)
        assert as_delivered or any(name.startswith("scout_") for name in development.feature_names)
        accuracy = ran.result["repetitions"][seed]["named"]["accuracy"]
        label = "watcher" + AS_DELIVERED * as_delivered
        assert ran.result["repetitions"][seed]["frontiers"][label][-1]["accuracy"] == accuracy


def test_peers_on_models_as_delivered_are_told_apart(ran: Ran) -> None:
    named = {item["peer"] for item in ran.result["against_peers"]}
    assert {"max-softmax-cascade", f"max-softmax-cascade{AS_DELIVERED}"} <= named
    assert f"oracle{AS_DELIVERED}" not in ran.result["repetitions"][0]["peers"]
    assert not ran.result["strongest_peer"]["peer"].endswith(AS_DELIVERED)
    assert ran.result["strongest_peer_as_delivered"]["peer"].endswith(AS_DELIVERED)


def test_nothing_is_chosen_by_the_labels_of_certify_or_test_samples(
    ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    def garbled(*arguments: Any, **named: Any) -> Outcomes:
        outcomes = load_outcomes(*arguments, **named)
        dealt = deal(outcomes, 0)
        held = np.isin(outcomes.ids, dealt.split(CERTIFY, TEST).ids)
        return replace(outcomes, labels=np.where(held, (outcomes.labels + 1) % 3, outcomes.labels))

    monkeypatch.setattr(benchmarks.selection.repeated, "load_outcomes", garbled)
    plain, other = ran.result["repetitions"][0], ran.again()[0]
    for name in ("levels", "kinds"):
        assert other[name] == plain[name]
    for name in ("ours", "at_reference"):
        assert times(other[name]) == times(plain[name])
    for name in LEARNING:
        assert times(other["peers"][name]) == times(plain["peers"][name])
    accuracies = [[point["accuracy"] for point in one["ours"]] for one in (other, plain)]
    assert max(accuracies[0]) < 0.3 < min(accuracies[1])


def times(points: Sequence[dict[str, float] | None]) -> list[float | None]:
    return [None if point is None else point["mean_ms"] for point in points]


def test_repetitions_are_reproducible_by_seed(ran: Ran) -> None:
    (before, other), (again,) = ran.result["repetitions"], ran.again()
    assert (again["seed"], other["seed"]) == (0, 1)
    assert before["ours"] == again["ours"] != other["ours"]
    assert before["certified"] == again["certified"]
    assert all(before["peers"][name] == again["peers"][name] for name in LEARNING)


def test_the_line_of_figures_has_every_field(ran: Ran) -> None:
    line = ran.result
    assert set(line["reference"]) == {"model", "accuracy", "mean_ms"}
    fields = {"name", "kind", "precision", "accuracy", "mean_ms", "p95_ms", "certified"}
    assert all(fields <= set(row) for row in line["methods"])
    assert {row["kind"] for row in line["methods"]} == {"ours", "peer", "single", "oracle"}
    assert {"draws", "issued", "violated"} <= set(line["violations"])
    assert line["suite"] == "colours"
    for name in ("speedup_at_reference_accuracy", "gain_at_60_percent_time", "selector_us", "selector_share"):
        assert isinstance(line[name], float), name
    assert all(ratio > 0 for ratio in line["wall_clock_over_simulated"].values())
    assert line["versions"]["onnxruntime"]
    assert line["seed"] == 0


def test_what_is_printed_is_what_is_written(ran: Ran) -> None:
    (written,) = ran.folder.glob("colours-*.json")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    last = ran.printed.splitlines()[-1]
    assert json.loads(written.read_text()) == ran.result
    line = json.loads(last, parse_constant=refuse)
    assert line == {name: ran.result[name] for name in line}
    assert set(ran.result) - set(line) == {"repetitions", "guarantee"}


def test_the_report_stands_alone_and_names_the_peers(ran: Ran) -> None:
    page = (ran.folder / "colours.html").read_text()
    assert "Three colours" in page
    assert "max-softmax-cascade" in page
    assert 'src="http' not in page
    assert "<link" not in page


def test_our_rows_are_answers_timed_for_real(ran: Ran) -> None:
    ours = [row for row in ran.result["methods"] if row["kind"] == "ours"]
    assert len(ours) == 2
    assert all(row["wall_clock"] for row in ours)
    assert [row["certified"] for row in ours] == [True, False]
    assert ours[1]["precision"] == 0.99


def test_the_violations_are_those_at_the_number_of_samples_that_there_are(ran: Ran) -> None:
    splits = Splits().assign([f"{i:04d}" for i in range(IMAGES)])
    rows = [row for row in ran.result["guarantee"] if row["samples"] == (splits == CERTIFY).sum()]
    assert rows
    assert ran.result["violations"] == {
        "draws": len(rows) * DRAWS,
        "issued": sum(row["certified"] for row in rows),
        "violated": sum(row["violated"] for row in rows),
    }
