"""The command ``zoo serve``: models and bundles behind the Open Inference Protocol."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Annotated

import typer

from selector.commands.options import ThreadsOption
from selector.commands.say import say
from zoo.errors import DataError, MissingExtraError, ServiceError
from zoo.extras import install_command
from zoo.files import open_file
from zoo.private_files import require_private

TOKEN = "ZOOSELECT_SERVE_TOKEN"
MAX_TOKEN_BYTES = 4096
HERE = ("127.0.0.1", "::1", "localhost")


def serve_models(
    folder: Annotated[Path, typer.Argument(help="Folder of a zoo or of a bundle.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on. Others reach it over a proxy with TLS.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any that is free.")] = 8000,
    name: Annotated[
        str | None, typer.Option(help="Name of the bundle for clients. Default: that of its folder.")
    ] = None,
    replicas: Annotated[
        int, typer.Option(min=1, help="Inferences at once; with --ray, processes that answer.")
    ] = 1,
    threads: ThreadsOption = 1,
    max_batch: Annotated[int, typer.Option(min=1, help="Images that are answered together.")] = 32,
    batch_wait_ms: Annotated[
        float, typer.Option(min=0, help="How long a request waits for others that are just arriving.")
    ] = 2.0,
    max_waiting: Annotated[int, typer.Option(min=1, help="Images that may wait; more are refused.")] = 512,
    max_body_mb: Annotated[float, typer.Option(min=0.001, help="Largest request in MB.")] = 32.0,
    deadline: Annotated[
        float, typer.Option(min=0.001, help="Longest wait for an answer, in seconds.")
    ] = 10.0,
    token_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the token that requests must bring. Or set {TOKEN}. Default: none."),
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Serve on a cluster of Ray: its address, or 'local' to start one.")
    ] = None,
) -> None:
    """Serve the models of a zoo, or a whole bundle, to other programs until interrupted.

    It speaks the Open Inference Protocol v2 over HTTP, as Triton and KServe do: the input is 'image', uint8
    [N, H, W, 3], or BYTES [N] with JPEG or PNG files; of signals and tensors their arrays by name. A bundle
    answers under one name; its parameters are those of 'predict', such as precision.
    Example: zooselect zoo serve my-bundle --name birds --replicas 2
    """
    try:
        from selector.fleet.server import address_of, bind, serve
        from selector.serving.app import Server, make_app
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"serving needs the package {error.name!r}: {install_command('serve')}"
        ) from error
    from selector.bundle.bundle import BUNDLE_FILE
    from selector.serving.batcher import BatchLimits
    from selector.serving.on_ray import Options, serving_on_ray
    from selector.serving.questions import Limits
    from selector.serving.served import bundle_name, open_served

    token = serving_token(token_file)
    limits = Limits(
        body_bytes=int(max_body_mb * 1e6),
        deadline_s=deadline,
        batch=BatchLimits(batch_images=max_batch, wait_ms=batch_wait_ms, waiting_images=max_waiting),
    )
    if (folder / BUNDLE_FILE).is_file():
        name = name or bundle_name(folder)
    begin_serving(host, token, what="inputs")
    if ray is not None:
        if port == 0:
            raise ServiceError("--port: expected a port with --ray, got 0: every node listens on the same.")
        options = Options(name=name, threads=threads, token=token, limits=limits)
        with serving_on_ray(folder, options, address=ray, replicas=replicas, host=host, port=port) as url:
            say(f"{name or 'The models'} of {folder} at {url}/v2, {replicas} replicas on Ray ({ray})")
            threading.Event().wait()
    served = open_served(folder, name=name, threads=threads)
    app = make_app(Server(served, token=token, limits=limits, runs=replicas))
    with bind(host, port) as listening:
        say(f"{', '.join(served)} at {address_of(listening)}/v2")
        serve(app, listening)


def begin_serving(host: str, token: str | None, *, what: str) -> None:
    """Start the log of a server, limited by rate, and warn where others can read `what` is sent."""
    from selector.fleet.rate_limits import LogLimit

    handler = logging.StreamHandler()
    handler.addFilter(LogLimit())
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO, handlers=[handler])
    if host not in HERE:
        say(f"Put a proxy with TLS in front, see docs/nginx.conf: {what} travel in the clear.", err=True)
        if token is None:
            say(f"Whoever reaches {host} can ask: no token was given.", err=True)


def serving_token(file: Path | None) -> str | None:
    """The token in a file or in the environment, or None; raises :class:`DataError` for another form."""
    if file is None:
        given, where = os.environ.get(TOKEN, ""), TOKEN
        if not given:
            return None
    else:
        require_private(file, ServiceError)
        with open_file(file) as stream:
            given, where = stream.read(MAX_TOKEN_BYTES + 1).decode("ascii", "replace").strip(), f"{file}"
    if not (
        8 <= len(given) <= MAX_TOKEN_BYTES and given.isascii() and given.isprintable() and " " not in given
    ):
        raise DataError(
            f"expected a token of 8 or more printable ASCII characters in {where}, got another form. "
            "Make one: openssl rand -hex 32"
        )
    return given
