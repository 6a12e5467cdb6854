"""Claims about the self-test: a model that is not what it should be shows in a process of its own."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import zoo.client.selftest
import zoo.client.tested
import zoo.process
from tests.support.small_blobs import Made, blob_of, make_release, put, wide_onnx
from tests.support.small_models import build_onnx
from zoo.client.selftest import Trials, self_test
from zoo.errors import DigestError, ModelError, SelfTestError
from zoo.inputs.reference_image import reference_image
from zoo.process import Ended
from zoo.releases.release import ModelRelease, SelfTest
from zoo.store.store import Store

MIB = 2**20


@pytest.fixture(scope="module")
def good() -> Made:
    """A model with weights beside its graph."""
    return make_release("full", wide_onnx())


@pytest.fixture
def store(tmp_path: Path, good: Made) -> Store:
    """A store with the blobs of the model, which is not installed yet."""
    opened = Store.open(tmp_path / "store")
    put(opened, *good[1])
    return opened


def with_graph(store: Store, release: ModelRelease, content: bytes) -> ModelRelease:
    """The release, but of another graph without weights; its blob is in the store."""
    put(store, content)
    return msgspec.structs.replace(release, graph=blob_of(content), weights=())


def bomb(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> bytes:
    """A model of the contract that does something else on its way to the logits, which it calls ``extra``."""
    proto = onnx.load_from_string(build_onnx())
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    last = proto.graph.node[-1]
    last.output[0] = "plain"
    proto.graph.node.extend([*nodes, helper.make_node("Add", ["plain", "extra"], ["logits"])])
    return bytes(proto.SerializeToString())


def enormous() -> bytes:
    """A tensor of 2**40 elements."""
    return bomb(
        [
            helper.make_node("ConstantOfShape", ["huge"], ["large"]),
            helper.make_node("ReduceMax", ["large", "axes0"], ["extra"], keepdims=0),
        ],
        huge=np.array([2**20, 2**20, 1]),
        axes0=np.array([0, 1]),
    )


def filling() -> bytes:
    """A tensor of 25 GB that is really written; its size shows only when it runs."""
    return bomb(
        [
            helper.make_node("Shape", ["image"], ["s"]),
            helper.make_node("Mul", ["s", "factor"], ["huge"]),
            helper.make_node("Expand", ["one", "huge"], ["large"]),
            helper.make_node("ReduceMax", ["large"], ["extra"], keepdims=0),
        ],
        factor=np.array([2**10, 2**8, 2**7, 1]),
        one=np.ones((1, 1, 1, 1), np.float32),
    )


def never_ending() -> bytes:
    """A loop of 2**60 rounds."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go on"]),
            helper.make_node("Add", ["sum", "sum"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("go on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [1]),
        ],
    )
    return bomb(
        [helper.make_node("Loop", ["rounds", "yes", "zero1"], ["extra"], body=body)],
        rounds=np.array(2**60),
        yes=np.array(True),
        zero1=np.zeros(1, np.float32),
    )


def test_the_image_is_the_same_everywhere() -> None:
    image = reference_image(5, 7)
    assert (image.shape, image.dtype) == ((5, 7, 3), np.uint8)
    assert image[2, 3].tolist() == reference_image(5, 7)[2, 3].tolist()
    assert len(np.unique(reference_image(64, 64))) > 200
    assert reference_image(1, 1).shape == (1, 1, 3)


def test_where_nothing_limits_a_model_that_is_said_once(
    store: Store, good: Made, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = json.dumps({"limited": False, "logits": list(good[0].selftest.logits)}).encode()
    monkeypatch.setattr(Trials, "run", lambda *_, **__: Ended(0, said, ""))  # as a system without limits does
    assert [self_test(store, good[0]).limited for _ in range(2)] == [False, False]
    assert [record.message[:53] for record in caplog.records] == [
        "On this system nothing limits the memory and the proc"
    ]


def test_a_good_model_passes_before_it_is_installed(store: Store, good: Made) -> None:
    passed = self_test(store, good[0])
    assert passed.largest_difference <= good[0].selftest.tolerance
    assert passed.seconds > 0
    assert passed.limited == sys.platform.startswith("linux")
    assert not store.installed.models


def test_wrong_logits_are_told(store: Store, good: Made) -> None:
    logits = (good[0].selftest.logits[0] + 0.5, *good[0].selftest.logits[1:])
    wrong = SelfTest(image=(8, 8), logits=logits, tolerance=0.1)
    with pytest.raises(SelfTestError, match=r"'full' version 1: .*differ by 0\.5, where 0\.1 is allowed"):
        self_test(store, msgspec.structs.replace(good[0], selftest=wrong))


def test_a_blob_that_is_missing_is_told_before_anything_is_started(store: Store, good: Made) -> None:
    (store.blobs / good[0].weights[0].sha256).unlink()
    with pytest.raises(DigestError, match="got 1 fewer"):
        self_test(store, good[0])


def test_a_graph_that_wants_other_files_is_not_started(store: Store, good: Made) -> None:
    proto = onnx.load_from_string(build_onnx())
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(ModelError, match=r"wants '/etc/passwd'"):
        self_test(store, with_graph(store, good[0], proto.SerializeToString()))


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (lambda: b"\x0a\x01x", "expected an ONNX graph that ONNX Runtime"),
        (lambda: build_onnx(only_batch=5), "RESHAPE|[Rr]eshape"),
        (lambda: build_onnx(("a", "b")), r"expected logits \[1, 3\], got \[1, 2\]"),
        (lambda: build_onnx(output_name="scores"), "logits"),
        (lambda: build_onnx(bias=(np.nan, 0, 0)), "3 logits, 2 of them finite"),
        (lambda: build_onnx(bias=(np.inf, 0, 0)), "3 logits, 2 of them finite"),
    ],
)
def test_a_model_that_breaks_the_contract_is_told(
    store: Store, good: Made, graph: Callable[[], bytes], message: str
) -> None:
    with pytest.raises(SelfTestError, match=rf"(?s)'full' version 1: .*{message}.*not used on this device"):
        self_test(store, with_graph(store, good[0], graph()))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory on Linux only")
@pytest.mark.parametrize("graph", [enormous, filling])
def test_a_memory_bomb_goes_off_elsewhere(store: Store, good: Made, graph: Callable[[], bytes]) -> None:
    with pytest.raises(SelfTestError, match=r"wants more than 512 MiB of memory"):
        self_test(store, with_graph(store, good[0], graph()), memory_limit_bytes=512 * MIB)


def test_a_model_that_never_answers_is_ended(store: Store, good: Made) -> None:
    with pytest.raises(SelfTestError, match=r"no answer within 2 seconds"):
        self_test(store, with_graph(store, good[0], never_ending()), timeout_s=2)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os; os.kill(os.getpid(), 11)", r"a crash \(SIGSEGV\)"),
        ("import os; os.kill(os.getpid(), 9)", "the system ended it, mostly for memory"),
        ("import os; os.kill(os.getpid(), 24)", "too much processor time"),
        (
            "import sys, os; sys.stderr.write('std::bad_alloc'); sys.stderr.flush(); os.kill(os.getpid(), 6)",
            "MiB",
        ),
        ("print('hello')", "no answer: not a word"),
        ("raise SystemError('broken')", "no answer: .*SystemError: broken"),
    ],
)
def test_every_end_of_the_process_has_its_words(
    store: Store, good: Made, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    monkeypatch.setattr(zoo.process, "_START", f"import sys; sys.stdin.buffer.read(); {program}")
    with pytest.raises(SelfTestError, match=rf"(?s)got: .*{message}"):
        self_test(store, good[0])


def test_a_device_that_cannot_start_a_process_says_so(
    store: Store, good: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/python")
    with pytest.raises(SelfTestError, match="no process to test it in: No such file"):
        self_test(store, good[0])


def test_a_model_for_a_newer_runtime_is_not_tried(store: Store, good: Made) -> None:
    with pytest.raises(SelfTestError, match=r"expected ONNX Runtime 99\.0 or newer.*pip install -U"):
        self_test(store, msgspec.structs.replace(good[0], min_onnxruntime="99.0"))


def test_a_test_input_that_no_publisher_makes_is_not_made(store: Store, good: Made) -> None:
    huge = msgspec.structs.replace(good[0].selftest, image=(1025, 1024))
    with pytest.raises(SelfTestError, match="a test input of 1025 x 1024, larger than any"):
        self_test(store, msgspec.structs.replace(good[0], selftest=huge))


def test_a_release_cannot_state_itself_half_the_memory_of_a_device(good: Made) -> None:
    device = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    greedy = msgspec.structs.replace(good[0], peak_memory_bytes=2**60)
    assert zoo.client.selftest._memory(greedy) == device // 2
    assert zoo.client.selftest._memory(good[0]) == 200 * MIB + good[0].size_bytes + 256 * MIB


@pytest.mark.parametrize("right", [True, False])
def test_the_tested_process_says_one_line_of_json(
    store: Store, good: Made, monkeypatch: pytest.MonkeyPatch, right: bool
) -> None:
    graph = store.graph(good[0]) if right else build_onnx(("a", "b"))
    monkeypatch.setattr(zoo.client.tested, "limit", lambda *_: False)  # pytest needs its memory
    task = {
        "name": "full",
        "folder": str(store.blobs),
        "classes": 3,
        "feeds": [("image", "uint8", (1, 8, 8, 3))],
        "memory": 1,
        "seconds": 1,
    }
    content = json.dumps(task).encode() + b"\n" + reference_image(8, 8).tobytes() + graph
    answers = io.BytesIO()
    zoo.client.tested.answer(io.BytesIO(content), answers)
    said = json.loads(answers.getvalue())
    assert said["limited"] is False
    assert ("error" in said) != right
    assert not right or said["logits"] == list(good[0].selftest.logits)
