"""The same server on Ray Serve: replicas in processes of their own, on one machine or on many."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from selector.bundle.bundle import BUNDLE_FILE, read_bundle
from selector.serving.questions import Limits
from selector.serving.served import open_served, tails_of
from zoo.errors import MissingExtraError, ServiceError
from zoo.extras import install_command
from zoo.files import read_verified
from zoo.models.cuts import PARTS_FILE, parts_folder
from zoo.models.zoo import MANIFEST_FILE, Zoo

if TYPE_CHECKING:
    from starlette.applications import Starlette

LOCAL = "local"
APPLICATION = "zooselect"
PER_REPLICA = 64  # requests that a replica has at once, to put together


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What every replica is told."""

    name: str | None = None
    threads: int = 1
    token: str | None = None
    limits: Limits = Limits()


@contextlib.contextmanager
def serving_on_ray(
    folder: str | Path,
    options: Options | None = None,
    *,
    address: str = LOCAL,
    replicas: int = 1,
    host: str = "127.0.0.1",
    port: int = 8000,
) -> Iterator[str]:
    """Serve a zoo or a bundle on a cluster as long as the context lasts; yields the URL.

    Ray spreads requests over the replicas and starts one again that dies; within a replica, requests that
    wait are answered together as in :class:`selector.serving.batcher.Batcher`. The files go to every node
    once, through Ray's object store, and are verified where they are opened.

    Parameters
    ----------
    address
        Of a cluster; ``local`` starts one on this machine and ends it afterwards.
    replicas
        Processes that answer, each with the cores that its threads need.

    Raises
    ------
    MissingExtraError
        Without Ray.
    ServiceError
        When the cluster cannot be reached, or the replicas do not start.
    CardError, BundleError, DigestError
        For a folder that cannot be served.
    """
    try:
        import ray
        from ray import serve
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"--ray needs the package {error.name!r}: {install_command('ray,serve')}"
        ) from error

    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # which tells of each start and end
    told = options or Options()
    files = packed(folder)
    more: dict[str, Any] = {}
    if address == LOCAL:
        cores = max(os.cpu_count() or 1, replicas * told.threads)
        more = {"num_cpus": cores, "include_dashboard": False}
    try:
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False, **more)
    except Exception as error:  # Ray and gRPC raise many kinds
        raise ServiceError(
            f"--ray: expected a cluster at {address!r}, got: {error}. Start one with 'ray start --head', or "
            "use --ray local."
        ) from error
    try:
        shipped = ray.put(files)
        serve.start(
            proxy_location="EveryNode", http_options={"host": host, "port": port}, logging_config=_quiet()
        )
        serve.run(
            _application(shipped, told, replicas), name=APPLICATION, route_prefix="/", logging_config=_quiet()
        )
        yield f"http://{host}:{port}"
    except RuntimeError as error:
        raise ServiceError(f"expected replicas that start, got: {error}. See the logs of Ray.") from error
    finally:
        with contextlib.suppress(Exception):
            serve.delete(APPLICATION)
            if address == LOCAL:
                stop: Any = serve.shutdown  # which has no types
                stop()
        ray.shutdown()


def packed(folder: str | Path) -> dict[str, bytes]:
    """All files that serving a zoo or a bundle needs, verified: path in the folder → content."""
    root = Path(folder)
    records = [MANIFEST_FILE]
    if (root / BUNDLE_FILE).is_file():
        records, bundle = [BUNDLE_FILE], read_bundle(root)
        held = [card for card in bundle.models if (root / card.file).is_file()]
        named = [(one.file, one.sha256, one.size_bytes) for one in (*bundle.graphs, *held)]
    else:
        zoo = Zoo.open(root)
        named = [(card.file, card.sha256, card.size_bytes) for card in zoo.cards]
        for parts in tails_of(zoo).values():
            where = parts_folder("", parts.model)
            named.append((f"{where / parts.tail.file}", parts.tail.sha256, parts.tail.size_bytes))
            records.append(f"{where / PARTS_FILE}")
    files = {file: read_verified(root / file, sha256, size) for file, sha256, size in named}
    return {record: (root / record).read_bytes() for record in records} | files


def _application(shipped: Any, options: Options, replicas: int) -> Any:
    from ray import serve

    def build() -> Starlette:
        return _app(shipped, options)

    deployment = serve.deployment(
        name=APPLICATION,
        num_replicas=replicas,
        max_ongoing_requests=PER_REPLICA,
        max_queued_requests=options.limits.batch.waiting_images,
        ray_actor_options={"num_cpus": options.threads},
    )
    return deployment(serve.ingress(build)()).bind()


def _app(shipped: Any, options: Options) -> Starlette:
    """The application of one replica."""
    import ray

    from selector.serving.app import Server, make_app

    files: dict[str, bytes] = ray.get(shipped)
    folder = tempfile.TemporaryDirectory(prefix="zooselect-")
    for file, content in files.items():
        path = Path(folder.name) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    served = open_served(folder.name, name=options.name, threads=options.threads)
    app = make_app(Server(served, token=options.token, limits=options.limits))
    app.state.folder = folder  # is removed with the application
    return app


def _quiet() -> dict[str, Any]:
    return {"log_level": "WARNING", "enable_access_log": False}
