"""What a device is surrounded by: networks that come and go, and a server of models that can be killed."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from training.links.proxy import running
from training.links.slow_link import Rates, SlowLink
from zoo.errors import UnreachableError
from zoo.models.zoo import Zoo
from zoo.remote.network import PRESETS, Network

HERE = Network(name="loopback", rtt_ms=0.0, uplink_mbps=10_000.0, downlink_mbps=10_000.0)
START_TIMEOUT_S = 60.0
_ADDRESS = re.compile(r" at http://127\.0\.0\.1:([0-9]+)/v2$")


class ModelServer:
    """A process that serves the models of a zoo; for a ``with``, and between kills.

    Attributes
    ----------
    port
        On 127.0.0.1; the same after every start. 0 before the first one.
    up
        Whether it answers.
    """

    def __init__(self, zoo: Path) -> None:
        self._zoo = zoo
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        self.up = threading.Event()

    def __enter__(self) -> ModelServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, with what the zoo holds now; returns at once, and sets :attr:`up` when it answers."""
        self.kill()
        command = [sys.executable, "-u", "-m", "selector", "zoo", "serve", str(self._zoo)]
        process = subprocess.Popen(
            [*command, "--port", str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._process = process
        threading.Thread(target=self._listen, args=(process,), name="model server", daemon=True).start()

    def started(self) -> None:
        """:meth:`start`, and wait until it answers; raises :class:`UnreachableError` where it does not."""
        self.start()
        process = self._process
        assert process is not None
        end = time.monotonic() + START_TIMEOUT_S
        while not self.up.wait(0.1):
            if process.poll() is not None or time.monotonic() > end:
                raise UnreachableError(
                    f"expected a server of the models in {self._zoo}, got none: it ended or said nothing. "
                    f"See what is wrong with it: zooselect zoo serve {self._zoo}"
                )

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        process, self._process = self._process, None
        self.up.clear()
        if process is not None:
            process.kill()
            process.wait()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                found = _ADDRESS.search(line.rstrip())
                if found and process is self._process:
                    self.port = int(found[1])
                    self.up.set()


class Surroundings:
    """Links from a device to a server of models and to a publisher, which are one network at a time."""

    def __init__(self, server: ModelServer, models: SlowLink) -> None:
        self.server = server
        self._links = [models]

    @property
    def address(self) -> str:
        """Where the device asks for models."""
        return self._links[0].url

    @property
    def sent_bytes(self) -> int:
        """To the server of models, so far."""
        return self._links[0].sent_bytes

    @contextlib.contextmanager
    def publisher(self, url: str) -> Iterator[str]:
        """Another link, to the files and the service at `url`; yields the address that a device is given."""
        host, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
        with running(SlowLink((host, int(port)), **_rates(HERE))) as link:
            self._links.append(link)
            try:
                yield link.url
            finally:
                self._links.remove(link)

    def become(self, network: Network) -> None:
        """Have all links be that network from now on."""
        for link in self._links:
            link.become(**_rates(network))


@contextlib.contextmanager
def surroundings(zoo: Zoo, address: str | None = None) -> Iterator[Surroundings]:
    """A server of what `zoo` holds, behind a link that is as fast as this machine.

    Parameters
    ----------
    address
        That the link had in an earlier run; it has it again where that is free.
    """
    port = 0 if address is None else int(address.rpartition(":")[2])
    with ModelServer(zoo.folder) as server:
        server.started()
        with running(SlowLink(("127.0.0.1", server.port), port=port, **_rates(HERE))) as link:
            yield Surroundings(server, link)


def earlier_address(zoo: Zoo) -> str | None:
    """Where an earlier run asked the models of `zoo` that a server holds; None: there was none."""
    return next((card.remote.address for card in zoo.cards if card.remote is not None), None)


def network_of(name: str) -> Network:
    """A network of :data:`zoo.remote.network.PRESETS`; raises :class:`UnreachableError` for another name."""
    if name not in PRESETS:
        raise UnreachableError(
            f"expected a network among {', '.join(PRESETS)}, got {name!r}. Correct --networks."
        )
    return PRESETS[name]


def _rates(network: Network) -> Rates:
    return Rates(rtt_ms=network.rtt_ms, uplink_mbps=network.uplink_mbps, downlink_mbps=network.downlink_mbps)
