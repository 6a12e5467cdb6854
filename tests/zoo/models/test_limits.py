"""Claims about limits of a run: what takes too much is ended, and nothing else is slower or poorer for it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.bombs import Bomb, bomb_onnx
from tests.support.fresh_interpreter import loaded_after
from tests.support.small_models import COLOURS, build_onnx, plain_image
from zoo.errors import LimitError, ModelError, ZooError
from zoo.models import limits as limits_module
from zoo.models.card import ModelCard
from zoo.models.limits import MAX_LOST_RUNS, RunLimits
from zoo.models.model import Model

CARD = ModelCard(
    name="odd", file="models/odd.onnx", sha256="0" * 64, size_bytes=1, classes=COLOURS,
    task="classification", resolution=(8, 8), parameters=1, macs=1,
)  # fmt: skip
USUAL = plain_image("red")[np.newaxis]


def rows(count: int) -> np.ndarray:
    return plain_image("red", (count, 8))[np.newaxis]


@pytest.mark.parametrize("kind", ["endless", "dense"])
def test_a_run_ends_when_its_time_is_up(kind: Bomb) -> None:
    limits = RunLimits(timeout_s=0.05)
    model = Model(CARD, bomb_onnx(kind), limits=limits)
    for _ in range(2):
        assert model.logits(USUAL).argmax() == 0
        with pytest.raises(LimitError, match=r"odd': expected .* none within 0\.05 seconds") as caught:
            model.logits(rows(12))
        assert caught.value.part == "odd"


def test_a_run_that_takes_too_much_memory_fails_alone() -> None:
    model = Model(CARD, bomb_onnx("greedy"), limits=RunLimits(memory_bytes=2**27))
    with pytest.raises(LimitError, match=r"a run that takes more memory than 134,217,728 bytes"):
        model.logits(rows(9))
    assert model.logits(USUAL).argmax() == 0
    free = Model(CARD, build_onnx(work=1))
    assert free.logits(np.zeros((1, 4000, 4000, 3), np.uint8)).shape == (1, 3)  # 192 MB, without a limit


def test_runs_that_do_not_end_are_bounded_in_number() -> None:
    limits, held = RunLimits(timeout_s=0.01), threading.Event()
    for worker in limits_module._lost:  # of other tests
        worker.join(10)
    options = type("Options", (), {"terminate": False})()
    for _ in range(MAX_LOST_RUNS + 1):
        with pytest.raises(TimeoutError, match="does not end"):
            limits.run(held.wait, options)
    with pytest.raises(TimeoutError, match="2 runs before it do not end"):
        limits.run(held.wait, options)
    held.set()
    for worker in limits_module._lost:
        worker.join(10)
    assert limits.run(lambda: 3, options) == 3


def test_errors_of_a_run_stay_what_they_are() -> None:
    model = Model(CARD, build_onnx(only_batch=2), limits=RunLimits(timeout_s=10.0))
    with pytest.raises(ModelError, match="failed on images") as caught:
        model.logits(USUAL)
    assert not isinstance(caught.value, LimitError)


def test_threads_end_with_their_limits() -> None:
    limits = RunLimits(timeout_s=10.0)
    model = Model(CARD, build_onnx(), limits=limits)
    before = threading.active_count()
    assert model.logits(USUAL).shape == (1, 3)
    assert threading.active_count() == before + 1
    del model, limits
    end = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize(("time_s", "memory"), [(0.0, None), (float("nan"), None), (None, 0)])
def test_limits_that_nothing_keeps_are_refused(time_s: float | None, memory: int | None) -> None:
    with pytest.raises(ZooError, match="expected a limit of"):
        RunLimits(time_s, memory)


LARGE = """
import sys, numpy as np
from pathlib import Path
from zoo.models import limits as limits_module
from zoo.models.card import ModelCard
from zoo.models.model import Model

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

card = ModelCard(
    name="odd", file="models/odd.onnx", sha256="0" * 64, size_bytes=1, classes=("a", "b", "c"),
    task="classification", resolution=(8, 8), parameters=1, macs=1,
)
usual, large = (np.zeros((1, side, side, 3), np.uint8) for side in (64, 1600))
for first in (usual, large):
    model = Model(card, Path(sys.argv[1]).read_bytes())
    before = held()
    for images in (first, large, usual):
        model.logits(images)
    assert held() - before < 15_000_000, held() - before
    for _ in range(2):
        model.logits(large)
    assert held() - before > 40_000_000  # asked again and again: kept
    model.logits(usual)
    assert held() - before < 15_000_000, held() - before
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_large_image_leaves_no_memory_behind(tmp_path: Path) -> None:
    (tmp_path / "odd.onnx").write_bytes(build_onnx(work=1))
    loaded_after(LARGE, str(tmp_path / "odd.onnx"))
