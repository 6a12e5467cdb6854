"""Reporting: a device tells the service of its group what it was asked, beside its answers, never in them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import ipaddress
import random
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from selector.telemetry.demand import Demand
from selector.telemetry.report import (
    MAX_COUNT,
    DeviceId,
    Drift,
    Held,
    Report,
    encode_report,
    version_for,
)
from zoo.client.wire import TIMEOUT_S, Broken, Patience, Wire
from zoo.errors import TokenError, UnreachableError, ZooError
from zoo.store.notes import read_note
from zoo.types import Positive

if TYPE_CHECKING:
    from zoo.store.store import Store

IDENTITY_FILE = "reporting.json"
MAX_RETRY_WAIT_S = 60.0
MIN_RETRY_WAIT_S = 0.5
_TOKEN_REFUSED = ("status 401", "status 403")
_BUSY = ("status 429", "status 500", "status 502", "status 503", "status 504")
MAX_ANSWER_BYTES = 4096


class BusyError(UnreachableError):
    """A service that takes no report now: it gets too many, or cannot keep them; wait for `seconds`."""

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds


class _IdentityInUseError(UnreachableError):
    """Another device has reported under the identifier of this one."""


class _Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    schema_version: Annotated[Positive, Meta(le=1)]
    device: DeviceId
    sequence: Annotated[int, Meta(ge=0, le=MAX_COUNT)]  # of the last report


@dataclass(frozen=True)
class Sent:
    """A report that the service has kept."""

    report: Report
    new: bool  # False: the service had it already, from an attempt that seemed to fail
    attempts: int
    seconds: float


class Reporter:
    """Sends what a store holds and what its bundles were asked.

    A store that was copied to another device, or came back from a backup, reports under an identifier that is
    in use. The service notices by the number of the report; the reporter then draws another identifier and
    sends the report again, so that both devices count.

    Parameters
    ----------
    store
        Of the device. Its folder also keeps a random identifier, which says nothing about the device.
    url
        Of the service; ``https``, because the token travels with every report. ``http`` is for this machine.
    token
        Of the group, made by ``zooselect serve token``.
    timeout_s
        Longest wait for a connection, then for the headers of an answer, then for its next bytes.
    attempts
        Where the service cannot be reached or is busy.

    Raises
    ------
    UnreachableError
        When the address is not one that a token may be sent to.
    MissingExtraError
        When ``urllib3`` is not installed.
    """

    def __init__(
        self,
        store: Store,
        url: str,
        token: str,
        *,
        group: str,
        timeout_s: float = TIMEOUT_S,
        attempts: int = 3,
    ) -> None:
        _check_address(url)
        if not token or not token.isascii() or not token.isprintable():
            raise UnreachableError(
                "expected a token of printable characters, got something else. "
                "Make one with 'zooselect serve token'."
            )
        self.url = url.rstrip("/") + "/v1/reports"
        self._store = store
        self._group = group
        self._attempts = max(attempts, 1)
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        # over a proxy the token would leave this machine in the clear
        proxied = urlsplit(url).scheme == "https"
        self._wire = Wire(url, timeout_s=timeout_s, headers=headers, proxied=proxied)
        self._sending = threading.Lock()

    def send(
        self,
        demand: Sequence[Demand] = (),
        drift: Sequence[Drift] = (),
        *,
        cancel: threading.Event | None = None,
    ) -> Sent:
        """Report once and wait until the service has it, or until `cancel` is set.

        Raises
        ------
        UnreachableError
            When the service cannot be reached, stays busy, or refuses the report; a ``TokenError`` when it
            refuses the token.
        ZooError
            When the store cannot be read or written.
        """
        with self._sending:
            self._wire.patience = Patience(cancel=cancel)
            report = self._report(demand, drift)
            try:
                return self._post(report)
            except _IdentityInUseError:
                return self._post(self._report(demand, drift, refused=report))

    def close(self) -> None:
        """Close the connection; it is opened again when needed."""
        self._wire.close()

    def _report(
        self, demand: Sequence[Demand], drift: Sequence[Drift], *, refused: Report | None = None
    ) -> Report:
        from zoo.store.usage import USAGE_FILE, Usage

        identity = _next_identity(self._store, refused=refused)
        installed = self._store.installed
        models = [(item.release.name, item.release.version) for item in installed.models]
        bundles = [(item.release.name, item.release.version) for item in installed.bundles]
        report = Report(
            schema_version=version_for(demand),
            device=identity.device,
            sequence=identity.sequence,
            group=self._group,
            models=tuple(Held(name=name, version=version) for name, version in models[:64]),
            bundles=tuple(Held(name=name, version=version) for name, version in bundles[:16]),
            demand=tuple(demand)[:16],
            drift=tuple(drift)[:16],
            stored_bytes=self._store.used_bytes(),
            budget_bytes=self._store.budget_bytes,
            rate_bytes_per_s=Usage(self._store.folder / USAGE_FILE).rate_bytes_per_s(),
            zooselect=importlib.metadata.version("zooselect"),
        )
        return shortened(report)

    def _post(self, report: Report) -> Sent:
        body = encode_report(report)
        start = time.monotonic()
        reason, asked_s = "", 0.0
        for attempt in range(1, self._attempts + 1):
            wait = MIN_RETRY_WAIT_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
            try:
                with self._wire.ask("POST", self.url, body=body) as answer:
                    said = b"".join(answer.chunks(MAX_ANSWER_BYTES))
            except Broken as error:
                reason, again = error.reason, error.again
            else:
                if answer.status == 202:
                    new = _field(said, "new") is not False
                    return Sent(report, new, attempt, time.monotonic() - start)
                reason = f"status {answer.status}: {said[:300].decode('utf-8', 'replace')}"
                if answer.status == HTTPStatus.CONFLICT:
                    raise _IdentityInUseError(f"{self.url} refused a report: {reason}")
                again = answer.status in (408, 429) or answer.status >= 500
                asked_s = min(_seconds(answer.headers.get("retry-after")), MAX_RETRY_WAIT_S)
                wait = max(wait, asked_s)
            if not again:
                break
            if attempt < self._attempts:
                self._wire.patience.pause(wait)
        if reason.startswith(_TOKEN_REFUSED):
            raise TokenError(
                f"expected the service at {self.url} to accept the token for the group {self._group!r}, got: "
                f"{reason}. Give the group's token, on the command line in the environment variable "
                f"ZOOSELECT_TOKEN; 'zooselect serve token --group {self._group}' makes one."
            )
        if reason.startswith(_BUSY):
            many = reason.startswith("status 429")
            why = "it takes no more for now from this address" if many else "it cannot keep any"
            raise BusyError(
                f"expected the service at {self.url} to take a report now, got: {reason}: {why}. Nothing is "
                "lost: the next report holds what this one did. If it stays so, look at its log and limits.",
                asked_s,
            )
        raise UnreachableError(
            f"expected the service at {self.url} to accept a report, got: {reason}. "
            "Check address, token and group; answers go on, and the next report holds what this one did."
        )


def shortened(report: Report) -> Report:
    """The report with as many kinds of question as fit; the rarest are left out first."""
    most = max((len(demand.asked) for demand in report.demand), default=0)
    for count in range(most, -1, -1):
        demand = tuple(msgspec.structs.replace(one, asked=one.asked[:count]) for one in report.demand)
        shorter = msgspec.structs.replace(report, demand=demand)
        with contextlib.suppress(ZooError):
            encode_report(shorter)
            return shorter
    return msgspec.structs.replace(report, demand=(), drift=())


def _next_identity(store: Store, *, refused: Report | None = None) -> _Identity:
    """Who the device is, with the number of its next report, which is kept first.

    A device without an identity gets another, and so does one whose last report was refused. Where another
    process of the same device has reported since that one, its number was late, and the identity stays.
    """
    last = read_note(store.folder / IDENTITY_FILE, _Identity)
    if (
        last is None
        or last.sequence == MAX_COUNT  # it gets another; nothing depends on it
        or (refused is not None and (last.device, last.sequence) == (refused.device, refused.sequence))
    ):
        last = _Identity(schema_version=1, device=secrets.token_hex(16), sequence=0)
    following = msgspec.structs.replace(last, sequence=last.sequence + 1)
    store.note(IDENTITY_FILE, following)
    return following


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    here = parts.hostname == "localhost"
    with contextlib.suppress(ValueError):
        here = here or ipaddress.ip_address(parts.hostname or "").is_loopback
    if parts.scheme != "https" and not (parts.scheme == "http" and here):
        raise UnreachableError(
            f"expected an https address to send the token to, got {url!r}. "
            "Put TLS in front of the service, see docs/nginx.conf; http is for 127.0.0.1 only."
        )


def _field(content: bytes, name: str) -> Any:
    try:
        return msgspec.json.decode(content, type=dict[str, Any]).get(name)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _seconds(header: str | None) -> float:
    return float(header) if header and header.isascii() and header.isdigit() and len(header) < 9 else 0.0
