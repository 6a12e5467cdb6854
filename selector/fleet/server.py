"""The server process: one socket, one event loop."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette

from selector.fleet.patience import MAX_CONNECTIONS, PatientProtocol
from zoo.errors import ServiceError

MAX_HEAD_BYTES = 16 * 1024
START_TIMEOUT_S = 30.0
FILES_PER_CONNECTION = 3  # the connection, what is sent, and what opened it
OWN_FILES = 128


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any that is free.

    Raises
    ------
    ServiceError
        When the address cannot be used.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family, backlog=2048)
        # connections inherit it: or the body of an answer waits 40 ms until its head is acknowledged
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ServiceError(
            f"expected a free address to listen on, got {host}:{port}: {error}. "
            "Choose another --port or --host."
        ) from error
    return listening


def address_of(listening: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: Starlette, listening: socket.socket) -> None:
    """Serve until the process is told to stop."""
    _server(app, _allowed_connections()).run(sockets=[listening])


@contextlib.contextmanager
def serving(app: Starlette, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve in a thread as long as the context lasts; yields the URL."""
    server = _server(app)
    listening = bind(host, port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise ServiceError(
                    f"expected the service to start within {START_TIMEOUT_S:g} s; see its log."
                )
            time.sleep(0.005)
        yield address_of(listening)
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def _server(app: Starlette, connections: int = MAX_CONNECTIONS) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,  # its lines go where those of the service go
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
        limit_concurrency=connections,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        backlog=2048,
    )
    return uvicorn.Server(config)


def _allowed_connections() -> int:
    """As many connections as there may be open files for, after asking for enough of them."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_PER_CONNECTION * MAX_CONNECTIONS + OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(1, min(MAX_CONNECTIONS, (soft - OWN_FILES) // FILES_PER_CONNECTION))
