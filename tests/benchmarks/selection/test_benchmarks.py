"""Claims about the benchmarks: fair to every method, honest about the guarantee, complete on paper."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy.stats import binom
from typer.testing import CliRunner

import benchmarks.selection.answers
import benchmarks.selection.guarantee
import benchmarks.selection.repeated
import benchmarks.selection.suite
import training.features.scout
import training.search.search
from benchmarks.__main__ import app
from benchmarks.distribution.published import shaken
from benchmarks.peers import PEERS
from benchmarks.peers.singles import SingleModels
from benchmarks.result import finish
from benchmarks.selection.adapted import add_children
from benchmarks.selection.answers import precisions
from benchmarks.selection.guarantee import DRAWS, Guarantee, study
from benchmarks.selection.repeated import DELTA, Choices, deal, repeat
from benchmarks.selection.suite import run_suite
from benchmarks.selection.zoos import (
    EVERYTHING,
    SUITES,
    Given,
    Prepared,
    prepare_cifar10,
    prepare_photos,
    unpacked,
)
from selector.policies.cascade import CascadePolicy
from tests.support.colours import colour_zoo
from tests.support.world import colour_images, latency_table, steady
from training.data.environments import under_environments
from training.data.sources import digits
from training.data.splits import CERTIFY, FIT, TEST, TUNE, Splits
from training.networks.family import train_family
from training.outcomes.outcomes import ALL_SPLITS, Outcomes, load_outcomes
from training.outcomes.profile import profile
from training.policies.cascade import FittedCascade, fit_platt
from training.search.candidates import Candidate
from zoo import LatencyTable, Zoo
from zoo.convert.exchange import difference
from zoo.errors import DataError

COSTS = {"tiny": 1.0, "full": 5.0}
IMAGES = 300


def made(
    chances: Sequence[float], count: int = 3000, *, seed: int = 0, environments: Sequence[str] = ("",)
) -> Outcomes:
    """Outcomes of a cheap and a dear model that are right with these chances; the sure are right more often.

    Every original is there once an environment; nothing is dealt out yet.
    """
    rng = np.random.default_rng(seed)
    copies = len(environments)
    right = rng.random((count * copies, 2)) < chances
    labels = rng.integers(0, 3, count).repeat(copies)
    told = np.where(right, labels[:, None], (labels[:, None] + 1) % 3)
    logits = np.zeros((len(labels), 2, 3))
    sure = rng.uniform(0.2, 3.0, right.shape) + 1.5 * right
    np.put_along_axis(logits, told[..., None], sure[..., None], axis=2)
    originals = [f"{i:05d}" for i in range(count) for _ in range(copies)]
    there = list(environments) * count
    return Outcomes(
        classes=("a", "b", "c"),
        models=("tiny", "full"),
        ids=np.array([f"{name}-{place}" for name, place in zip(originals, there, strict=True)]),
        labels=labels,
        environments=np.array(there),
        groups=np.array(originals),
        splits=np.full(len(labels), FIT),
        logits=logits.astype(np.float32),
        features=np.zeros((len(labels), 1), np.float32),
        feature_names=("nothing",),
    )


# Dealing samples out


def test_all_variants_of_an_original_fall_into_one_split() -> None:
    dealt = deal(made((0.6, 0.9), 200, environments=("clear", "dark", "noise")), 3)
    found: dict[str, set[str]] = {}
    for group, split in zip(dealt.groups.tolist(), dealt.splits.tolist(), strict=True):
        found.setdefault(group, set()).add(split)
    assert len(found) == 200
    assert {len(splits) for splits in found.values()} == {1}
    assert set.union(*found.values()) == {FIT, TUNE, CERTIFY, TEST}


@pytest.mark.parametrize(("split", "copies"), [(FIT, 3), (TUNE, 3), (CERTIFY, 1), (TEST, 1)])
def test_certify_and_test_keep_one_environment_of_every_original(split: str, copies: int) -> None:
    part = deal(made((0.6, 0.9), 200, environments=("clear", "dark", "noise")), 3).split(split)
    assert set(np.unique(part.groups, return_counts=True)[1].tolist()) == {copies}
    assert set(part.environments.tolist()) == {"clear", "dark", "noise"}


def test_another_seed_deals_anew_and_the_same_seed_the_same() -> None:
    outcomes = made((0.6, 0.9), 200, environments=("clear", "dark"))
    one, same, other = deal(outcomes, 1), deal(outcomes, 1), deal(outcomes, 2)
    np.testing.assert_array_equal(one.ids, same.ids)
    np.testing.assert_array_equal(one.splits, same.splits)
    both = set(one.split(TEST).groups.tolist()) & set(other.split(TEST).groups.tolist())
    assert len(both) < 0.6 * len(one.split(TEST))


def test_where_specialists_are_far_better_their_precisions_are_asked_for_as_well() -> None:
    outcomes = made((0.9, 0.3), 400, environments=("clear", "dark"))
    dark = outcomes.environments == "dark"
    logits = outcomes.logits.copy()
    logits[dark] = logits[dark][:, ::-1]  # in the dark the other model is the one that knows
    asked = precisions(replace(outcomes, logits=logits), "full")
    assert asked == pytest.approx([0.57, 0.58, 0.59, 0.6, 0.84, 0.86, 0.88], abs=0.04)
    assert len(precisions(made((0.6, 0.63), 400), "full")) == 4


# The guarantee


def candidate(outcomes: Outcomes) -> Candidate:
    """A cascade of the two models, whose cross-validated frontier is the one on fit and tune samples."""
    development = outcomes.split(FIT, TUNE)

    def build() -> FittedCascade:
        policy = CascadePolicy(stages=tuple(fit_platt(development, name) for name in ("tiny", "full")))
        return FittedCascade(policy, COSTS)

    policy = build()
    frontier = policy.frontier(development, policy.thresholds(development))
    return Candidate("cascade", "cascade on raw confidence", policy.models, frontier, build)


def guarantees(
    monkeypatch: pytest.MonkeyPatch, chances: Sequence[float], *, below: float = 0.03, delta: float = DELTA
) -> list[Guarantee]:
    outcomes = deal(made(chances), 0)
    monkeypatch.setattr(benchmarks.selection.guarantee, "BELOW_BEST", (below,))
    monkeypatch.setattr(benchmarks.selection.guarantee, "DELTA", delta)
    return study(Choices([candidate(outcomes)], outcomes.split(FIT, TUNE), COSTS), outcomes)


def test_what_is_truly_good_enough_is_never_counted_as_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = guarantees(monkeypatch, (0.95, 0.95), below=0.06, delta=0.9)
    assert all(row.certified == DRAWS for row in rows)
    assert all(row.violated == 0 and row.price >= 1 for row in rows)


def test_certificates_fail_no_more_often_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = guarantees(monkeypatch, (0.70, 0.95))
    assert max(row.violated for row in rows) <= binom.isf(0.001, DRAWS, DELTA)
    assert max(row.certified for row in rows) == DRAWS


def test_a_broken_guarantee_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = guarantees(monkeypatch, (0.70, 0.95), delta=0.6)
    assert min(row.violated for row in rows) > binom.isf(0.001, DRAWS, DELTA)


def test_the_guarantee_costs_less_with_more_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = guarantees(monkeypatch, (0.70, 0.95))
    assert [row.samples for row in rows] == sorted(row.samples for row in rows)
    assert rows[0].price > rows[-1].price > 1
    assert rows[0].floor > rows[-1].floor > 1


# Repeated splits, and a suite from end to end, on three small real models


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

    def again(self, seeds: int = 1) -> list[dict[str, Any]]:
        """The first repetitions once more, as the result file has them."""
        with quick():
            found = repeat(
                self.prepared.profile,
                self.prepared.zoo,
                self.table,
                named="full",
                seeds=range(seeds),
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
        patch.setattr(training.features.scout, "PASSES", 1)
        yield patch


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The suite ``colours``: two splits, two precisions, a peer that watches."""
    folder = tmp_path_factory.mktemp("benchmarks")
    zoo, data = colour_zoo(folder / "zoo"), colour_images(IMAGES)
    profile(zoo, data, folder / "profile", splits=Splits(**EVERYTHING), progress=False)
    prepared, table = Prepared("Three colours", zoo, data, folder / "profile", "full"), latency_table(zoo)
    printed = io.StringIO()
    with quick() as patch, contextlib.redirect_stdout(printed):
        patch.setitem(SUITES, "colours", lambda given: prepared)  # type: ignore[arg-type]
        patch.setitem(PEERS, "watcher", Watcher)  # type: ignore[arg-type]
        patch.setattr(
            benchmarks.selection.answers, "BELOW", (0.07, -0.05)
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
    assert len(ran.given) == 2
    for seed, (development, test) in enumerate(ran.given):
        dealt = deal(outcomes, seed)
        np.testing.assert_array_equal(development.ids, dealt.split(FIT, TUNE).ids)
        np.testing.assert_array_equal(test.ids, dealt.split(TEST).ids)
        assert any(name.startswith("scout_") for name in development.feature_names)
        delivered = ran.result["repetitions"][seed]["named"]["accuracy"]
        assert ran.result["repetitions"][seed]["frontiers"]["watcher"][-1]["accuracy"] == delivered


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
    before, again = ran.result["repetitions"], ran.again(2)
    assert [row["seed"] for row in again] == [0, 1]
    for one, two in zip(before, again, strict=True):
        assert one["ours"] == two["ours"]
        assert one["certified"] == two["certified"]
        assert all(one["peers"][name] == two["peers"][name] for name in LEARNING)
    assert before[0]["ours"] != before[1]["ours"]


def test_the_line_of_figures_has_every_field(ran: Ran) -> None:
    line = ran.result
    assert set(line["reference"]) == {"model", "accuracy", "mean_ms"}
    fields = {"name", "kind", "precision", "accuracy", "mean_ms", "p95_ms", "certified"}
    assert all(fields <= set(row) for row in line["methods"])
    assert {row["kind"] for row in line["methods"]} == {"ours", "peer", "single", "oracle"}
    assert {"splits", "violated"} <= set(line["violations"])
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
        "splits": len(rows) * DRAWS,
        "violated": sum(row["violated"] for row in rows),
    }


# Around the figures


def test_figures_that_are_not_known_are_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"error": float("nan"), "rows": [{"price": float("inf"), "count": np.int64(3)}]}
    finish("made", figures, seed=0, folder=tmp_path)
    line = json.loads(capsys.readouterr().out)
    assert line["error"] is None
    assert line["rows"] == [{"price": None, "count": 3}]


def test_children_are_made_once_and_a_shaken_model_stands_for_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo = Zoo.create(tmp_path)
    train_family(zoo, digits(), sizes=("tiny",), epochs=1, progress=False)
    dark = under_environments(digits(), ["dark"])
    assert add_children(zoo, ["tiny"], dark, "dark", seed=0) == ["tiny-dark", "tiny-dark-int8"]
    assert "tiny-dark: " in capsys.readouterr().out
    cards = [zoo.card(name) for name in zoo.names]
    add_children(zoo, ["tiny"], dark, "dark", seed=0)
    assert list(zoo.cards) == cards
    content = (tmp_path / zoo.card("tiny").file).read_bytes()
    apart = difference(content, shaken(content, classes=10, seed=1))
    assert 0 < apart.changed_bytes < apart.total_bytes


def test_a_suite_without_its_data_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected --weights, a folder with cifar10-resnet20\.npz"):
        prepare_cifar10(Given(tmp_path))
    with pytest.raises(DataError, match=r"expected --data, a folder with imagenet-600\.zip"):
        prepare_photos(Given(tmp_path))
    with pytest.raises(DataError, match=r"cifar10-test\.zip or a folder .*test, got neither. Check --data"):
        unpacked(Given(tmp_path, tmp_path), "cifar10-test.zip", "test")


def test_archives_are_unpacked_once_and_folders_are_used_as_they_are(tmp_path: Path) -> None:
    given = Given(tmp_path / "work", tmp_path)
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.writestr("test/cat/1.txt", "an image")
    first = unpacked(given, "some.zip", "test")
    assert (first / "cat" / "1.txt").read_text() == "an image"
    (tmp_path / "some.zip").unlink()
    assert unpacked(given, "some.zip", "test") == first == given.work / "test"
    (tmp_path / "test").mkdir()
    assert unpacked(given, "some.zip", "test") == tmp_path / "test"


def test_every_suite_has_a_command_and_an_unknown_peer_is_refused() -> None:
    named = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    assert named == {*SUITES, "answering", "distribution", "drift", "scale", "speed"}
    done = CliRunner().invoke(app, ["digits", "--peers", "single,nonsense"])
    assert done.exit_code == 1
    assert "got nonsense" in done.output
    assert "max-softmax-cascade" in done.output


def test_asking_for_help_imports_nothing_heavy() -> None:
    heavy = {"torch", "onnx", "sklearn", "zoo.convert"}
    code = f"import sys, benchmarks.__main__; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout.strip() == "set()"
