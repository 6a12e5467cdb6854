"""Claims about answers with a model on a server: whatever it does, an answer comes in time and says so."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from selector.answering.reach import LONGEST_PAUSE_S, Reach
from selector.answering.recent import Recalled
from selector.answering.selector import Selector
from selector.bundle.bundle import Bundle
from selector.telemetry.report import decode_report, encode_report, version_for
from selector.worth.missed import demand_of
from tests.support.colours import latency_table
from tests.support.command_line import CommandLine
from tests.support.served_zoo import Mode, ModelServer, model_server, served_zoo
from tests.support.small_device import until
from tests.support.small_service import report as a_report
from tests.support.world import CANDIDATES, World, fit_in_memory
from training.fitting.export import export_bundle
from training.fitting.one_file.write import write_one_file
from zoo.errors import BundleError, PrecisionError, UnreachableError


@pytest.fixture(scope="module")
def bundle(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, ModelServer]]:
    folder = tmp_path_factory.mktemp("served")
    with model_server(folder / "server") as server:
        zoo = served_zoo(folder / "zoo", server.address)
        fitted = fit_in_memory(
            world.outcomes.split("fit", "tune", "certify"),
            zoo,
            latency_table(zoo),
            only=CANDIDATES["cascade"],
            policy="cascade",
            max_remote=0.4,
        )
        export_bundle(fitted, zoo, folder / "bundle")
        yield folder / "bundle", server


@pytest.fixture
def server(bundle: tuple[Path, ModelServer]) -> Iterator[ModelServer]:
    yield bundle[1]
    bundle[1].mode = "answer"
    bundle[1].released.set()


@pytest.fixture
def selector(bundle: tuple[Path, ModelServer], server: ModelServer) -> Selector:
    server.released.clear()
    return Selector.load(bundle[0])


@pytest.fixture(scope="module")
def images(world: World) -> np.ndarray:
    return np.stack([world.data.image(i) for i in range(120)])


def _hard(selector: Selector, images: np.ndarray) -> np.ndarray:
    """An image that is sent."""
    sent = [i for i, one in enumerate(selector.predict_batch(images)) if one.model == "full"]
    assert 0 < len(sent) < len(images)
    return images[sent[0]]


def test_one_file_takes_no_model_on_a_server(selector: Selector, images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(
        BundleError, match="expected a policy whose models run in one file, got full on a server"
    ):
        write_one_file(selector.folder, tmp_path / "f.onnx")
    write_one_file(selector.folder, tmp_path / "f.onnx", never_remote=True, images=list(images[:5]))
    file = Selector.load(tmp_path / "f.onnx")
    wanted = selector.predict(images[0], never_remote=True)
    assert file.predict(images[0]).path == wanted.path
    assert "full" not in file.models


def test_hard_inputs_are_sent_and_batches_answer_as_single_calls_do(
    selector: Selector, images: np.ndarray, server: ModelServer
) -> None:
    many = selector.predict_batch(images)
    assert all(one.certified and one.reason is None for one in many)
    alone = [selector.predict(image) for image in images]
    assert [one.path for one in alone] == [one.path for one in many]
    np.testing.assert_allclose(
        [one.probabilities for one in alone], [one.probabilities for one in many], atol=1e-5
    )
    sent = sum("full" in one.path for one in many)
    reach = selector._view.reach
    assert reach.inputs == 2 * sent
    assert reach.failures == 0
    assert reach.sent_bytes > 2 * sent * 12 * 12 * 3


def test_private_inputs_are_never_sent(selector: Selector, images: np.ndarray, server: ModelServer) -> None:
    before = server.asked
    found = selector.predict_batch(images, never_remote=True)
    assert selector.predict(images[0], never_remote=True).label == found[0].label
    assert selector.select(images[0], never_remote=True).model != "full"
    assert server.asked == before
    home = selector.certificate(never_remote=True)
    assert home is not None
    assert home.remote_share == 0
    assert home.policy != selector.certificate().policy
    assert all(one.certified and one.reason is None and one.model != "full" for one in found)
    strict = selector.predict(images[0], 0.9999, never_remote=True)
    assert (strict.certified, strict.model) == (False, "small")


@pytest.mark.parametrize("mode", ["hang", "refuse", "nan", "reset"])
def test_a_server_that_fails_costs_no_answer(
    selector: Selector, images: np.ndarray, server: ModelServer, mode: Mode
) -> None:
    hard = _hard(selector, images)
    server.mode = mode
    start = time.monotonic()
    failed = selector.predict(hard, remote_deadline_s=0.25)
    assert time.monotonic() - start < 10
    # which inputs are sent depends on how hard they are: nothing is proven for those alone
    assert (failed.certified, failed.reason) == (False, "server not reached")
    reach, asked = selector._view.reach, server.asked
    reach._next_probe = math.inf
    later = selector.predict_batch(images)  # the server is left alone for a while
    assert server.asked == asked
    private = selector.predict_batch(images, never_remote=True)
    assert [one.label for one in later] == [one.label for one in private]
    assert {(one.certified, one.reason) for one in later} == {(True, "server not reached")}
    assert reach.failures == 1
    server.mode = "answer"
    proven = selector.certified_levels("precision")
    level = next(one for one in proven if selector.certificate(one, never_remote=True) is None)
    assert selector.predict(hard, level).reason == "server not reached"  # and none on the device is missing
    assert server.asked == asked
    reach._next_probe = -math.inf  # the while is over
    assert selector.predict(hard).reason == "server not reached"  # which begins a probe, and does not wait
    server.released.set()
    until(lambda: not reach.away)
    again = selector.predict(hard)
    assert (again.model, again.certified, again.reason) == ("full", True, None)


def test_a_server_that_is_away_is_tried_every_few_seconds() -> None:
    reach = Reach()
    reach.failed()
    for _ in range(8):
        reach._look(lambda _: (_ for _ in ()).throw(UnreachableError("away")), 0.0)
    assert reach.away
    assert 0 < reach._next_probe - time.monotonic() <= LONGEST_PAUSE_S


def test_a_deadline_that_leaves_no_time_asks_nobody(
    selector: Selector, images: np.ndarray, server: ModelServer
) -> None:
    hard = _hard(selector, images)
    asked = server.asked
    found = selector.predict(hard, remote_deadline_s=1e-9)
    assert (found.certified, found.reason, found.model) == (False, "server not reached", "small")
    assert server.asked == asked
    assert selector.predict(hard).model == "full"  # the server is not to blame


def test_without_a_model_on_the_device_there_are_errors_of_ours(
    bundle: tuple[Path, ModelServer], images: np.ndarray, server: ModelServer
) -> None:
    only = Selector.load(bundle[0], models=["full"])
    assert only.predict(images[0]).model == "full"
    with pytest.raises(BundleError, match="expected a model on this device"):
        only.predict(images[0], never_remote=True)
    server.mode = "refuse"
    with pytest.raises(UnreachableError):
        only.predict(images[0], remote_deadline_s=0.5)


def test_what_contradicts_itself_is_refused(selector: Selector, images: np.ndarray) -> None:
    for deadline in (0, -1.0, math.nan, math.inf, True, "1"):
        with pytest.raises(PrecisionError, match="remote_deadline_s"):
            selector.predict(images[0], remote_deadline_s=deadline)
    with pytest.raises(PrecisionError, match="got both"):
        selector.predict_batch(images, remote_deadline_s=1.0, never_remote=True)
    with pytest.raises(PrecisionError, match="never_remote to be True or False"):
        selector.predict(images[0], never_remote="no")
    with pytest.raises(PrecisionError, match="expected one constraint"):
        selector.predict(images[0], max_remote=0.1, mean_uplink_kb=2.0)


def test_the_command_line_keeps_private_images_here(
    bundle: tuple[Path, ModelServer],
    images: np.ndarray,
    server: ModelServer,
    zooselect: CommandLine,
    tmp_path: Path,
) -> None:
    for i, image in enumerate(images[:30]):
        Image.fromarray(image).save(tmp_path / f"{i:02d}.png")
    asked = server.asked
    done = zooselect("predict", bundle[0], tmp_path, "--never-remote", "--max-remote", 0.4, "--json")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert len(rows) == 30
    assert all(row["certified"] and row["model"] != "full" for row in rows)
    assert server.asked == asked
    done = zooselect("predict", bundle[0], tmp_path, "--remote-deadline-ms", 5000, "--json")
    assert "full" in {json.loads(line)["model"] for line in done.out.splitlines()}
    for wrong in (["--remote-deadline-ms", 0], ["--remote-deadline-ms", 10, "--never-remote"]):
        assert "--remote-deadline-ms above 0" in zooselect("predict", bundle[0], tmp_path, *wrong, code=1).err
    both = zooselect("predict", bundle[0], tmp_path, "--max-remote", 0.1, "--mean-uplink-kb", 1, code=1).err
    assert "expected one of these options, got --mean-uplink-kb and --max-remote" in both


def test_reports_count_what_was_sent(selector: Selector, images: np.ndarray, server: ModelServer) -> None:
    hard = _hard(selector, images)
    server.mode = "refuse"
    selector.predict(hard)
    view = selector._view
    used = view.reach.used()
    assert used.failures == 1
    assert used.inputs > 0
    assert used.sent_bytes > used.inputs * 12 * 12 * 3
    recalled = view.recent.recalled("colours", "0" * 64, remote=used)
    again = msgspec.json.decode(msgspec.json.encode(recalled), type=Recalled)
    told = demand_of(
        again.answers, selector.bundle, selector.models, name="colours", since=0.0, remote=again.remote
    )
    assert (told.schema_version, told.remote) == (2, used)
    report = a_report(demand=(told,), schema_version=version_for([told]))
    assert decode_report(encode_report(report)) == report
    older = demand_of(again.answers[:0], selector.bundle, selector.models, name="colours", since=0.0)
    assert version_for([older]) == 1
    assert b"remote" not in msgspec.json.encode(older)


def test_the_monitor_goes_on_with_and_without_servers(selector: Selector) -> None:
    assert isinstance(selector.bundle, Bundle)
    selector.warm_up(12, 12)
    selector.open()
    assert selector._view.at_home().engine._models is selector._view.engine._models
