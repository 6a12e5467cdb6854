"""When every model was last used and how fast the network was: worth knowing, and no harm when lost."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from pathlib import Path

import msgspec

from zoo.store.notes import read_note, write_note
from zoo.types import Name, Positive

USAGE_FILE = "usage.json"
FLUSH_INTERVAL_S = 60.0  # what is lost at most when a device is switched off


class _UsageRecord(msgspec.Struct, frozen=True):
    schema_version: Positive = 1
    last_used: dict[Name, float] = {}
    rate_bytes_per_s: float | None = None


class Usage:
    """Last uses and the last rate, in memory, and now and then in a file that processes share.

    The file is believed only where it makes sense: a last use in the future counts as one just now, and a
    rate that nothing can have as none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._used: dict[str, float] = {}
        self._rate: float | None = None
        self._flushed = time.monotonic()

    def touch(self, name: str) -> None:
        """Model `name` was used just now."""
        self._used[name] = time.time()
        if time.monotonic() - self._flushed > FLUSH_INTERVAL_S:
            self.flush()

    def last_used(self) -> dict[str, float]:
        """Model → seconds since 1970 of its last use, by any process."""
        return self._merged(self._read()).last_used

    def measured(self, rate_bytes_per_s: float) -> None:
        """The network brought this many bytes a second just now; what is no rate is not kept."""
        self._rate = _rate(rate_bytes_per_s) or self._rate
        self.flush()

    def rate_bytes_per_s(self) -> float | None:
        """The rate that was measured last; None: none yet."""
        return self._merged(self._read()).rate_bytes_per_s

    def flush(self) -> None:
        """Write what is in memory. Nothing happens where that is not possible: it is lost, as it may be."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._flushed = time.monotonic()
            with contextlib.suppress(OSError):  # not synced: answering must not wait for the disk
                write_note(self.path, self._merged(self._read()), sync=False)
        finally:
            self._lock.release()

    def _merged(self, there: _UsageRecord) -> _UsageRecord:
        now = time.time()
        used: dict[str, float] = {}
        for name, when in (*there.last_used.items(), *self._used.copy().items()):
            used[name] = min(
                max(when, used.get(name, 0.0)), now
            )  # a clock that was set back is no use to come
        return _UsageRecord(last_used=used, rate_bytes_per_s=self._rate or _rate(there.rate_bytes_per_s))

    def _read(self) -> _UsageRecord:
        return read_note(self.path, _UsageRecord) or _UsageRecord()


def _rate(value: float | None) -> float | None:
    """The rate, if it is one."""
    return value if value is not None and math.isfinite(value) and value > 0 else None
