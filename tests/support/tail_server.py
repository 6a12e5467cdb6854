"""A server of the tail of one model, in a thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.network.server import Served, serving
from zoo.models.session import open_session
from zoo.remote.protocol import TensorMetadata


@contextmanager
def serving_tail(tail: bytes, name: str) -> Iterator[str]:
    """Address of a server of `tail` under a name."""
    session = open_session(tail, name=name)
    takes, gives = (
        TensorMetadata(name=one.name, datatype=datatype, shape=(-1, *one.shape[1:]))
        for one, datatype in ((session.get_inputs()[0], "UINT8"), (session.get_outputs()[0], "FP32"))
    )
    model = Served(lambda codes: session.run(["logits"], {takes.name: codes})[0], (takes,), (gives,))
    with serving({name: model}) as server:
        yield server.url
