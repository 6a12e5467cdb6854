"""Claims about all that runs on Ray, on one cluster of two nodes of this machine.

Profiling is bit-equal to a local run, whatever dies, and nothing runs twice; the server answers as the models
do. The tests are in one file, and in this order, because starting clusters takes longer than all of them.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.inference_client import Inference, answered, refused
from tests.support.small_models import plain_image
from tests.support.world import COLOUR_SPLITS, World, colour_images
from zoo import Zoo
from zoo.errors import StaleError, ZooError

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray"),
    pytest.mark.filterwarnings("ignore"),
]
CORES = 2  # of a node, and of a worker of a profile: one on each node
TOKEN = "a-token-of-this-test"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes, of which the second may leave; this process is connected."""
    from ray.cluster_utils import Cluster

    from training.cluster import connection

    connection.load_ray()
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": CORES, "include_dashboard": False})
    leaving = started.add_node(num_cpus=CORES)
    with connection.connected(started.address):
        yield started, leaving
    started.shutdown()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from training.outcomes import profile, shards

    monkeypatch.setattr(profile, "PART_ROWS", 32)
    monkeypatch.setattr(shards, "SHARD_BYTES", 4000)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(world: World, images: int, folder: Path, **options: Any) -> None:
    from training.outcomes.profile import profile

    how = {"splits": COLOUR_SPLITS, "threads": CORES, "progress": False, "batch_size": 5}
    profile(world.zoo, colour_images(images), folder, **how, **options)


def double(offset: int) -> Any:
    return lambda value: 2 * value + offset


def deadly(path: str) -> Any:
    """Ends its process once, at the third task; in earnest, without a word. The last task is refused."""

    def work(value: int) -> int:
        if value == 3 and not Path(path).exists():
            Path(path).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if value == 20:
            raise StaleError("expected numpy 1, got 2.")
        return value

    return work


def always_deadly() -> Any:
    return lambda value: os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_die_lose_nothing_and_their_errors_arrive(tmp_path: Path, cluster: Any) -> None:
    from training.cluster.pool import Usage, spread

    usage, done = Usage(), []
    tasks = ((i, (i,)) for i in range(21))
    with pytest.raises(StaleError, match=r"expected numpy 1, got 2"):
        done.extend(spread(deadly, [str(tmp_path / "dead")], tasks, most=1, usage=usage))
    assert dict(done) == {i: i for i in range(20)}
    assert usage.deaths == 1


def test_what_cannot_be_done_ends_with_an_error_of_ours(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.cluster import pool
    from training.cluster.pool import spread

    monkeypatch.setattr(pool, "MAX_DEATHS", 1)
    with pytest.raises(ZooError, match="got 1 that ended over some task"):
        list(spread(always_deadly, [], [("some task", (1,))], most=1))
    with pytest.raises(ZooError, match="3 free cores for a worker, got no node has as many"):
        list(spread(double, [0], [(0, (1,))], most=1, cores=CORES + 1))


def test_a_cluster_continues_a_local_run_and_a_node_that_leaves_in_the_middle_loses_nothing(
    world: World, tmp_path: Path, small_parts: None, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.outcomes import spread as spreading

    whole, (nodes, leaves), removed = spreading.spread, cluster, []
    run(world, 90, tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    parts = sorted((tmp_path / "there" / "outputs").rglob("part-*.parquet"))
    lost = [path for number, path in enumerate(parts) if number % 4]
    kept = {path: path.stat().st_mtime_ns for path in parts if path not in lost}
    for path in lost:
        path.unlink()

    def leaving(*arguments: Any, **options: Any) -> Iterator[Any]:
        for count, item in enumerate(whole(*arguments, **options)):
            if count == 2:
                removed.append(nodes.remove_node(leaves, allow_graceful=False))
            yield item

    monkeypatch.setattr(spreading, "spread", leaving)
    run(world, 90, tmp_path / "there", ray=nodes.address)
    assert removed
    assert files(tmp_path / "there") == files(tmp_path / "here")
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())


def test_two_replicas_answer_as_the_models_do(small_zoo: Zoo, cluster: Any) -> None:
    pytest.importorskip("ray.serve", reason="needs Ray Serve, of the extra ray", exc_type=ImportError)
    import ray

    from selector.serving.on_ray import Options, serving_on_ray

    ray.shutdown()  # the server connects itself
    red = plain_image("red")[np.newaxis]
    images = np.random.default_rng(0).integers(0, 256, (32, 6, 6, 3), dtype=np.uint8)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    options, address = Options(token=TOKEN), cluster[0].address
    with serving_on_ray(small_zoo.folder, options, address=address, replicas=2, port=port) as url:
        client = Inference(url, TOKEN)
        with ThreadPoolExecutor(8) as many:
            answers = list(many.map(lambda one: answered(client.infer("full", one[np.newaxis])), images))
        logits = np.concatenate([one["logits"] for one in answers])
        assert np.allclose(logits, small_zoo.model("full").logits(images), atol=1e-5)
        assert client.ask("GET", "/v2/models/full").json["parameters"]["classes"] == ["red", "green", "blue"]
        refused(client.infer("full", red.astype(np.float32)), 400)
        refused(client.infer("none", red), 404)
        client.token = "another"
        refused(client.infer("full", red), 401)
