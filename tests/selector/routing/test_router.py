"""A router decides step by step, tells what it can promise, and refuses what makes no sense."""

from __future__ import annotations

import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selector import Router
from selector.routing.evidence import log_odds_of, log_odds_of_each
from selector.routing.record import ScoreScale, read_router
from selector.routing.step import Said
from tests.support.fresh_interpreter import HEAVY, loaded_after
from tests.support.small_router import STORED_ROUTER
from zoo.errors import (
    BundleError,
    CardError,
    DataError,
    DigestError,
    ModelNotFoundError,
    PrecisionError,
    SchemaVersionError,
    UnreachableError,
    ZooError,
)

SURE, UNSURE = 9.0, -9.0


@pytest.fixture
def router() -> Router:
    return Router.load(STORED_ROUTER)


def test_a_sure_answer_counts_and_an_unsure_one_goes_on(router: Router) -> None:
    step = router.start({"length": 30.0}, precision=0.88)
    assert (step.run, step.model, step.certified, step.cost) == ("small", None, True, 0.0)
    sure = step.tell(score=SURE, cost=0.125)
    assert (sure.run, sure.model, sure.path, sure.cost) == (None, "small", ("small",), 0.125)
    unsure = step.tell(score=UNSURE)
    assert unsure.run == "large"
    assert sure.probability > unsure.probability  # type: ignore[operator]
    last = unsure.tell(score=SURE, cost=2.0)
    assert (last.run, last.model, last.path) == (None, "large", ("small", "large"))
    assert last.cost == pytest.approx(2 + router.record.mean_costs["small"])


def test_what_is_not_proven_is_answered_by_the_best_model_alone(router: Router) -> None:
    step = router.start([12.0], precision=0.999)
    assert (step.run, step.certified, step.reason) == ("large", False, "not proven")
    assert step.tell(score=0.0).model == "large"
    assert router.start([12.0], mean_cost=1e-6).run == "small"


def test_a_model_that_the_application_lacks_is_not_asked() -> None:
    router = Router.load(STORED_ROUTER, models=["large"])
    step = router.start([30.0], precision=0.88)
    assert (step.run, step.tell(score=1.0).model) == ("large", "large")
    with pytest.raises(ModelNotFoundError, match="huge"):
        Router.load(STORED_ROUTER, models=["huge"])


def test_after_a_failure_the_best_model_left_goes_on_uncertified(router: Router) -> None:
    step = router.start([30.0], 0.88).failed()
    assert (step.run, step.certified, step.reason) == ("large", False, "model failed")
    with pytest.raises(UnreachableError, match="large, small failed"):
        step.failed()
    step = router.start([30.0], 0.88).tell(score=UNSURE).failed()
    assert (step.run, step.model, step.certified) == (None, "small", False)


def test_callables_are_run_as_they_are_needed(router: Router) -> None:
    ran: list[str] = []

    def model(name: str, score: float) -> Any:
        return lambda: ran.append(name) or Said(name.upper(), score=score, cost=0.5)

    found = router.answer([30.0], {"small": model("small", SURE), "large": model("large", SURE)}, 0.88)
    assert (found.answer, found.step.cost, ran) == ("SMALL", 0.5, ["small"])
    found = router.answer([30.0], {"small": model("small", UNSURE), "large": model("large", SURE)}, 0.88)
    assert (found.answer, found.step.certified, ran) == ("LARGE", True, ["small", "small", "large"])
    with pytest.raises(ModelNotFoundError, match="none for large"):
        router.answer([30.0], {"small": model("small", SURE)})


def test_a_callable_that_raises_is_left_out(router: Router) -> None:
    def broken() -> Said:
        raise TimeoutError("no reply")

    found = router.answer([12.0], {"small": broken, "large": lambda: Said("yes", score=0.0)}, 0.7)
    assert (found.answer, found.step.certified, found.step.path) == ("yes", False, ("large",))
    assert [(name, str(error)) for name, error in found.errors] == [("small", "no reply")]
    with pytest.raises(UnreachableError, match="large, small failed") as caught:
        router.answer([12.0], {"small": broken, "large": broken})
    assert isinstance(caught.value.__cause__, TimeoutError)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ({"size": 1.0}, "features among length, got size"),
        ({"length": "long"}, "a number for every feature"),
        ({"length": math.inf}, "finite number for the feature 'length'"),
        ({"length": None}, "which no sample"),
        (None, "which no sample"),
        ([1.0, 2.0], "expected 1 features"),
    ],
)
def test_features_that_were_not_in_the_table_are_refused(router: Router, features: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        router.start(features)


@pytest.mark.parametrize(
    "told",
    [{}, {"score": math.nan}, {"score": "sure"}, {"score": 1.0, "cost": -1}, {"score": 1, "cost": "x"}],
)
def test_what_a_model_cannot_have_said_is_refused(router: Router, told: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="expected"):
        router.start([30.0], 0.88).tell(**told)


def test_a_step_that_has_ended_takes_nothing_more(router: Router) -> None:
    done = router.start([30.0], 0.88).tell(score=SURE)
    with pytest.raises(DataError, match=r"router\.start"):
        done.tell(score=SURE)


@pytest.mark.parametrize(
    "asked", [{"precision": 2.0}, {"max_drop": 3}, {"mean_cost": -1}, {"precision": [1]}]
)
def test_constraints_that_are_none_are_refused(router: Router, asked: dict[str, Any]) -> None:
    with pytest.raises(PrecisionError, match="expected"):
        router.start([12.0], **asked)
    with pytest.raises(PrecisionError, match="one constraint"):
        router.start([12.0], 0.9, mean_cost=1.0)


def test_inputs_unlike_those_of_the_table_end_the_promise() -> None:
    router = Router.load(STORED_ROUTER, watch=True)
    for _ in range(200):
        router.start([500.0], 0.88).tell(score=SURE)
    assert router.drift is not None
    assert router.drift.alarm
    assert "length" in router.drift.moved
    step = router.start([500.0], 0.88)
    assert (step.run, step.certified, step.reason) == ("large", False, "inputs have changed")


def test_many_threads_get_the_same_answers(router: Router) -> None:
    def path(score: float) -> tuple[str, ...]:
        step = router.start([30.0], 0.88)
        while step.run:
            step = step.tell(score=score)
        return step.path

    scores = np.linspace(-9, 9, 400).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(path, scores)) == [path(score) for score in scores]


def test_a_scale_says_the_same_of_one_score_as_of_many() -> None:
    rng = np.random.default_rng(0)
    points, odds = np.unique(rng.normal(size=20)), np.sort(rng.normal(size=20))
    scale = ScoreScale(scores=tuple(points.tolist()), log_odds=tuple(odds.tolist()))
    scores = np.concatenate([rng.normal(size=500) * 3, points])
    assert [log_odds_of(scale, score) for score in scores.tolist()] == log_odds_of_each(
        scale, scores
    ).tolist()


def changed(folder: Path, **fields: Any) -> Path:
    shutil.copytree(STORED_ROUTER, folder)
    record = json.loads((folder / "router.json").read_text())
    (folder / "router.json").write_text(json.dumps(record | fields))
    return folder


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"schema_version": 99}, SchemaVersionError),
        ({"unit": 3}, CardError),
        ({"by_accuracy": ["large"]}, CardError),
        ({"policies": []}, CardError),
        ({"evidence": "logits"}, CardError),
        ({"strange": 1}, CardError),
    ],
)
def test_a_record_that_does_not_fit_together_is_refused(
    tmp_path: Path, fields: dict[str, Any], error: type[ZooError]
) -> None:
    with pytest.raises(error):
        Router.load(changed(tmp_path / "r", **fields))


def test_a_folder_without_a_router_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="zooselect outcomes"):
        read_router(tmp_path)


def test_a_certificate_for_something_else_does_not_count(tmp_path: Path) -> None:
    models = json.loads((STORED_ROUTER / "router.json").read_text())["models"]
    models[0]["scale"]["scores"][0] -= 1
    router = Router.load(changed(tmp_path / "r", models=models))
    assert router.certificate() is None
    assert router.certified_precisions == ()


def test_routing_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom selector import Router\nstep = Router.load(sys.argv[1]).start([30.0], 0.88)\n"
        "assert step.tell(score=9.0).model == 'small'"
    )
    assert not loaded_after(program, str(STORED_ROUTER)) & {*HEAVY, "PIL.Image", "typer"}


def test_a_graph_that_was_changed_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tests.support.small_router import routed

    made = routed(tmp_path, precision=0.8, policy="input")
    (graph,) = made.glob("scores-*.onnx")
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    with pytest.raises(DigestError):
        Router.load(made).start([12.0], 0.8)
