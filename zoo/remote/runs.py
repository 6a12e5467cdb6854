"""Runs of a remote model: as those of a graph on the device, but each within a deadline."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ProtocolError
from zoo.remote.client import Client, bounded
from zoo.remote.descriptor import Remote
from zoo.remote.pixels import input_tensors
from zoo.remote.protocol import DTYPES, LIMITS, InferRequest

MAX_REQUEST_BYTES = 8 * 1024 * 1024  # of inputs in one request; more go in several
FLOOR = 1e-7  # smallest probability that a logarithm is taken of


class RemoteRuns:
    """Asks the server for the logits of images or other inputs. Safe to use from several threads.

    Parameters
    ----------
    width
        Values of one answer, as many as classes.

    Attributes
    ----------
    client
        With the breaker and the traffic so far; made when it is first asked for, without a connection.
    last_bytes
        Of the latest request and of its answer, with headers.
    """

    def __init__(self, remote: Remote, *, width: int, client: Client | None = None) -> None:
        self.remote, self.width = remote, width
        self._client = client
        self.last_bytes = (0, 0)

    @property
    def client(self) -> Client:
        """Asks the server; raises where its address or token is refused."""
        if self._client is None:
            self._client = Client.of(self.remote)
        return self._client

    def run(
        self, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]], input_bytes: int
    ) -> list[NDArray[Any]]:
        """The logits of the inputs in `feeds`, in requests of which each has the deadline of the model."""
        count = _count(feeds)
        most = max(1, MAX_REQUEST_BYTES * count // max(1, input_bytes))
        most = min(most, self.remote.batch or most)
        found = [
            self.ask(
                {name: values[first : first + most] for name, values in feeds.items()},
                time.monotonic() + self.remote.deadline_ms / 1000,
            )
            for first in range(0, count, most)
        ]
        return [found[0] if len(found) == 1 else np.concatenate(found)]

    def ask(self, feeds: Mapping[str, NDArray[Any]], deadline: float) -> NDArray[np.float32]:
        """The logits float32 ``[N, C]`` of inputs, or an error by `deadline` of the monotonic clock.

        `feeds` is what a graph would be given: arrays ``[N, …]`` by name. Values may be NaN or infinite.

        Raises
        ------
        UnreachableError
            Or one of its kinds: see :meth:`zoo.remote.client.Client.infer`.
        """
        remote, count = self.remote, _count(feeds)
        sent = input_tensors(remote, feeds)
        request = InferRequest(
            sent, outputs=(remote.output_name,), binary_of={remote.output_name: remote.binary}
        )
        dtype = DTYPES[remote.output_datatype]
        limits = bounded(LIMITS, count * self.width, dtype.itemsize)
        response, reply = self.client.infer(
            remote.model,
            request,
            version=remote.version,
            deadline=deadline,
            limits=limits,
            binary=remote.binary,
        )
        self.last_bytes = reply.uplink_bytes, reply.downlink_bytes
        output = next((one for one in response.outputs if one.name == remote.output_name), None)
        if output is None or output.datatype != remote.output_datatype:
            got = "none" if output is None else output.datatype
            raise self._strange(f"an output {remote.output_name!r} {remote.output_datatype}", got)
        if output.values.size != count * self.width or output.values.shape[:1] != (count,):
            raise self._strange(f"values {[count, self.width]}", str(list(output.values.shape)))
        values = output.values.reshape(count, self.width).astype(np.float32)
        if remote.output_kind == "probabilities":
            values = np.log(np.maximum(values, np.float32(FLOOR)))  # NaN stays NaN
        return values

    def _strange(self, expected: str, got: str) -> ProtocolError:
        return ProtocolError(
            f"model {self.remote.model!r} on {self.remote.address}: expected {expected}, got {got}. "
            "The server holds another model than it says, or than when it was added. Correct it there, or "
            "add it again."
        )


def _count(feeds: Mapping[str, NDArray[Any]]) -> int:
    return len(next(iter(feeds.values())))
