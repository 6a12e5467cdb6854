"""Claims about stored fits: what is stored comes back, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from selector.policies.staged import StagedPolicy
from tests.support.colours import KINDS, Kind
from tests.support.world import World
from training.fitting.fitted import FitRecord, load_fit, save_fit
from training.outcomes.outcomes import load_outcomes
from training.policies.staged import FittedStaged
from zoo.errors import CardError, DataError, DigestError


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_fit_comes_back_and_decides_the_same(world: World, tmp_path: Path, kind: Kind) -> None:
    fitted = world.fits[kind]
    save_fit(fitted, tmp_path)
    again = load_fit(tmp_path)
    assert again.record == fitted.record
    test = load_outcomes(world.profile, splits=("test",))
    for i in range(len(fitted.policies)):
        for threshold in (2.0, 0.9, 0.7, 0.0):
            one, other = (item.policies[i].simulate(test, threshold) for item in (fitted, again))
            np.testing.assert_array_equal(one.answered_by, other.answered_by)
            np.testing.assert_array_equal(one.cost_ms, other.cost_ms)


def test_storing_another_fit_leaves_no_old_graph(world: World, tmp_path: Path) -> None:
    for kind in ("probe", "input", "learned", "cascade"):
        fitted = world.fits[kind]
        save_fit(fitted, tmp_path)
        held = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.onnx")}
        named = set(fitted.stage_graphs())
        named |= {item.file for item in (fitted.record.bundle.selector, fitted.record.scores) if item}
        assert held == named
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["fit.json"]


def test_a_damaged_graph_of_a_stage_is_refused(world: World, tmp_path: Path) -> None:
    save_fit(world.fits["learned"], tmp_path)
    assert isinstance(load_fit(tmp_path).policy, FittedStaged)
    graph = next(tmp_path.glob("graphs/stage-*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    with pytest.raises(DigestError, match=r"stage-\w+\.onnx: expected SHA-256"):
        load_fit(tmp_path)
    graph.unlink()
    with pytest.raises(DigestError, match="expected a file of"):
        load_fit(tmp_path)


def test_states_that_share_a_graph_share_its_file(world: World) -> None:
    policy = world.fits["probe"].policy.policy
    assert isinstance(policy, StagedPolicy)
    assert set(world.fits["probe"].stage_graphs()) == {state.file for state in policy.states}


def test_a_damaged_fit_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"got no fit\.json there\. Run 'zooselect fit'"):
        load_fit(tmp_path)
    save_fit(world.fits["input"], tmp_path)
    graph = next(tmp_path.glob("scores-*.onnx"))
    content = graph.read_bytes()
    graph.write_bytes(content[:-1])
    with pytest.raises(DigestError, match="truncated or replaced"):
        load_fit(tmp_path)
    graph.write_bytes(content)
    record = msgspec.structs.replace(world.fits["input"].record, scores=None)
    (tmp_path / "fit.json").write_bytes(msgspec.json.encode(record))
    with pytest.raises(DataError, match="an input policy needs its score graph"):
        load_fit(tmp_path)
    (tmp_path / "fit.json").write_text("{}")
    with pytest.raises(CardError, match="missing required field"):
        load_fit(tmp_path)


def test_the_record_is_json_without_nan(world: World) -> None:
    for fitted in world.fits.values():
        content = msgspec.json.encode(fitted.record)
        assert b"NaN" not in content
        assert msgspec.json.decode(content, type=FitRecord) == fitted.record
