"""What was served, for the log."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

MAX_TIMES = 100_000


class Counts:
    """What was served since it was last told."""

    def __init__(self) -> None:
        self._begin()

    def note(self, status: int, images: int, seconds: float) -> None:
        """Count one request."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.images += images
        if status == 200 and len(self._ms) < MAX_TIMES:
            self._ms.append(seconds * 1e3)

    def take(self) -> dict[str, Any]:
        """The figures, and begin anew."""
        seconds = time.monotonic() - self._since
        facts: dict[str, Any] = {
            "requests": sum(self.statuses.values()),
            "images": self.images,
            "seconds": round(seconds, 1),
            "statuses": dict(sorted(self.statuses.items())),
        }
        if self._ms:
            p50, p95 = np.quantile(self._ms, [0.5, 0.95])
            facts |= {"p50_ms": round(float(p50), 2), "p95_ms": round(float(p95), 2)}
        self._begin()
        return facts

    def _begin(self) -> None:
        self._since = time.monotonic()
        self.statuses: dict[int, int] = {}
        self.images = 0
        self._ms: list[float] = []
