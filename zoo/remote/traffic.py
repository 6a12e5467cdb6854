"""What goes over the network for remote models: one answer, and the sums of a client."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reply:
    """A whole answer of HTTP; its bytes and those of its request are counted with headers."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    uplink_bytes: int
    downlink_bytes: int


@dataclass
class Traffic:
    """What a client has sent and received; failures are requests without a valid answer."""

    requests: int = 0
    failures: int = 0
    uplink_bytes: int = 0
    downlink_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, *, requests: int = 0, failures: int = 0, up: int = 0, down: int = 0) -> None:
        """Count; from several threads if need be."""
        with self._lock:
            self.requests += requests
            self.failures += failures
            self.uplink_bytes += up
            self.downlink_bytes += down
