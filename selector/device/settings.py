"""What a device was set up with, as it is kept in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from zoo.errors import CardError
from zoo.files import atomic_path, open_file, read_record
from zoo.private_files import require_private
from zoo.remote.descriptor import check_address
from zoo.store.blobs import writing
from zoo.types import Name, Positive

CONFIG_FILE = "device.json"
TOKEN_FILE = "service-token"
SCHEMA_VERSION = 2  # since 2, servers that may be asked
LOCAL_VERSION = 1  # written where there is none, so that older devices go on reading
_MAX_TOKEN_BYTES = 4096
PRICE_PER_MB = 0.001  # gain that each million bytes to fetch must bring; an answer gains up to 2

Mode = Literal["local", "local_then_update", "latest"]


class DeviceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a device was set up with.

    Examples
    --------
    >>> device.config.mode, device.config.budget_bytes
    ('local_then_update', None)
    """

    schema_version: Positive
    url: str  # root of the published files
    group: Name | None = None  # of devices that a server controls; None: the device asks for what it needs
    budget_bytes: Positive | None = None
    mode: Mode = "local_then_update"
    service: str | None = None  # that is told what was asked; None: nobody is
    price_per_mb: Annotated[float, Meta(ge=0)] = PRICE_PER_MB
    # addresses of servers that models may be asked at; left out where there is none: nothing is sent then
    servers: Annotated[tuple[str, ...], Meta(min_length=1, max_length=64)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        for address in self.asked:
            check_address(address)

    @property
    def asked(self) -> tuple[str, ...]:
        """Addresses of the servers that models may be asked at."""
        return () if self.servers is UNSET else self.servers


def checked_config(**settings: Any) -> DeviceConfig:
    """The settings of a device.

    Raises
    ------
    CardError
        When one is out of range.
    """
    servers = tuple(address.rstrip("/") for address in settings.pop("servers", ()))
    version = SCHEMA_VERSION if servers else LOCAL_VERSION
    known = {"servers": servers} if servers else {}
    try:
        return msgspec.convert({"schema_version": version, **settings, **known}, DeviceConfig)
    except msgspec.ValidationError as error:
        raise CardError(f"the device cannot be set up: {error}. Correct the setting.") from error


def read_config(folder: Path) -> DeviceConfig:
    """The settings of the device in `folder`; raises :class:`CardError` where there are none."""
    if not (folder / CONFIG_FILE).is_file():
        raise CardError(
            f"expected a device in {folder}, got no {CONFIG_FILE} there. "
            "Set one up with 'zooselect device init', or check the path."
        )
    return read_record(folder / CONFIG_FILE, DeviceConfig, schema_version=SCHEMA_VERSION)


def write_token(folder: Path, token: str) -> None:
    """Keep the token of the group's service, for the owner of the folder only."""
    with writing(folder), atomic_path(folder / TOKEN_FILE, private=True) as temporary:
        temporary.write_text(token)


def read_token(folder: Path) -> str:
    """The token; raises :class:`CardError` where it cannot be read, or others may read it."""
    try:
        with open_file(folder / TOKEN_FILE) as stream:
            require_private(folder / TOKEN_FILE, CardError, handle=stream.fileno())
            return stream.read(_MAX_TOKEN_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(
            f"expected the token of a service in {folder / TOKEN_FILE}, got: {error}. "
            "Set the device up again, with the token."
        ) from error
