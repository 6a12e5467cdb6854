"""Connecting to a cluster of Ray, within a deadline and with errors of ours."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from zoo.cores import allowed_cores
from zoo.errors import MissingExtraError, StaleError, UnreachableError
from zoo.extras import install_command

LOCAL = "local"  # instead of an address: a cluster of this machine alone, for as long as it is needed
REACH_S = 20.0  # seconds within which a cluster must answer
PACKAGES = ("zooselect", "ray", "numpy", "onnxruntime", "pillow")  # that results depend on


@contextmanager
def connected(address: str, *, reach_s: float = REACH_S) -> Iterator[None]:
    """Be connected to the cluster at `address`; a program that is connected already stays so.

    Parameters
    ----------
    address
        ``HOST:PORT`` of a cluster's head, which this machine must belong to; or ``local``.

    Raises
    ------
    MissingExtraError
        When Ray is not installed.
    UnreachableError
        When no cluster answers there in time, or this machine is no node of it.
    StaleError
        When the cluster runs another version of Ray or Python.

    Examples
    --------
    >>> from training.cluster.connection import connected
    >>> with connected("nowhere"):
    ...     pass
    Traceback (most recent call last):
    zoo.errors.UnreachableError: expected --ray local or HOST:PORT of a cluster's head, got 'nowhere'. ...
    """
    check_address(address)
    ray = load_ray()
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        ray.init(address=LOCAL, num_cpus=allowed_cores(), include_dashboard=False, **quiet)
    else:
        _check_reachable(address, reach_s)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError) as error:
            raise UnreachableError(
                f"expected that this machine belongs to the cluster {address}, got: {_line(error)}. Run "
                f"'ray start --address={address} --num-cpus=0' here, or the command on one of its machines."
            ) from error
        except RuntimeError as error:
            raise StaleError(
                f"expected the versions of Ray and Python of the cluster {address}, got: {_line(error)}. "
                "Install the same ones here and on all nodes."
            ) from error
    try:
        yield
    finally:
        ray.shutdown()


def check_address(address: str) -> None:
    """Refuse what is neither ``local`` nor ``HOST:PORT``; raises :class:`UnreachableError`."""
    host, _, port = address.rpartition(":")
    there = host and "/" not in address and port.isdecimal() and 0 < int(port) < 2**16
    if address != LOCAL and not there:
        raise UnreachableError(
            f"expected --ray local or HOST:PORT of a cluster's head, got {address!r}. "
            "'ray start --head' prints the address."
        )


def load_ray() -> Any:
    """The package; raises :class:`MissingExtraError` where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that we start reports to nobody
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(
            f"a cluster needs Ray, which is not installed. Run: {install_command('ray')}"
        ) from error
    return ray


def versions() -> dict[str, str]:
    """Versions here of what results depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


def check_versions(expected: Mapping[str, str], there: Mapping[str, str], node: str) -> None:
    """Refuse a node that would compute something else; raises :class:`StaleError`."""
    other = [f"{name} {there.get(name, 'none')}" for name, one in expected.items() if there.get(name) != one]
    if other:
        wanted = ", ".join(f"{name} {one}" for name, one in expected.items() if there.get(name) != one)
        raise StaleError(
            f"expected {wanted} on node {node}, as here, got {', '.join(other)}. "
            "Install the same versions there: results would differ."
        )


def _check_reachable(address: str, reach_s: float) -> None:
    # Ray itself waits for minutes and then ends the process.
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=reach_s).close()
        asked = [sys.executable, "-W", "ignore", "-m", "ray.scripts.scripts", "health-check"]
        done = subprocess.run([*asked, "--address", address], capture_output=True, timeout=reach_s)
        reason = "it answers as something else" if done.returncode else ""
    except subprocess.TimeoutExpired:
        reason = "no answer"
    except OSError as error:
        reason = str(error.strerror or error)
    if reason:
        raise UnreachableError(
            f"expected a cluster of Ray at {address} within {reach_s:g} s, got: {reason}. "
            "Check the address, and 'ray status' on the cluster."
        )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
