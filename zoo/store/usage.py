"""When every model was last used and how fast the network was: worth knowing, and no harm when lost."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

import msgspec

from zoo.files import open_file
from zoo.types import Name, Positive

USAGE_FILE = "usage.json"
FLUSH_INTERVAL_S = 60.0  # what is lost at most when a device is switched off
MAX_BYTES = 2**20


class _UsageRecord(msgspec.Struct, frozen=True):
    schema_version: Positive = 1
    last_used: dict[Name, float] = {}
    rate_bytes_per_s: float | None = None


class Usage:
    """Last uses and the last rate, in memory, and now and then in a file that processes share.

    The file is believed only where it validates; otherwise it counts as empty.
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
        """The network brought this many bytes a second just now."""
        self._rate = rate_bytes_per_s
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
            temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
            with contextlib.suppress(OSError):
                try:
                    # Not synced: answering must not wait for the disk.
                    temporary.write_bytes(msgspec.json.encode(self._merged(self._read())))
                    temporary.replace(self.path)
                finally:
                    temporary.unlink(missing_ok=True)
        finally:
            self._lock.release()

    def _merged(self, there: _UsageRecord) -> _UsageRecord:
        used = dict(there.last_used)
        for name, when in self._used.copy().items():
            used[name] = max(when, used.get(name, 0.0))
        return _UsageRecord(last_used=used, rate_bytes_per_s=self._rate or there.rate_bytes_per_s)

    def _read(self) -> _UsageRecord:
        try:
            with open_file(self.path) as stream:
                return msgspec.json.decode(stream.read(MAX_BYTES), type=_UsageRecord)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _UsageRecord()
