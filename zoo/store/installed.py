"""The installed record: which models and bundles a device holds. Its file is the only commit point."""

from __future__ import annotations

from pathlib import Path

import msgspec

from zoo.errors import CardError, SchemaVersionError
from zoo.files import read_record
from zoo.releases.release import BundleRelease, ModelRelease, Release, check_sizes
from zoo.types import Positive

SCHEMA_VERSION = 2
INSTALLED_FILE = "installed.json"


class InstalledModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model of a device."""

    release: ModelRelease
    pinned: bool = False  # never evicted to make room


class InstalledBundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One bundle of a device."""

    release: BundleRelease
    pinned: bool = False


class Installed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that a device holds, one version of each."""

    schema_version: Positive
    models: tuple[InstalledModel, ...] = ()
    bundles: tuple[InstalledBundle, ...] = ()

    def __post_init__(self) -> None:
        for kind, items in (("models", self.models), ("bundles", self.bundles)):
            names = [item.release.name for item in items]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{kind}: expected distinct names, got twice: {', '.join(twice)}")
        check_sizes(pair for release in self.releases for pair in release.blobs.items())

    @property
    def releases(self) -> tuple[Release, ...]:
        """What is installed, models first."""
        return *(item.release for item in self.models), *(item.release for item in self.bundles)

    @property
    def blobs(self) -> dict[str, int]:
        """Digest → bytes of everything that has to be there, each once."""
        return {digest: size for release in self.releases for digest, size in release.blobs.items()}


def read_installed(folder: Path, *, there: bool) -> Installed:
    """The installed record in a store's folder; an empty one where it is not `there`.

    Raises
    ------
    CardError, SchemaVersionError
        When it is damaged, or of a newer zooselect.
    """
    if not there:
        return Installed(schema_version=SCHEMA_VERSION)
    try:
        return read_record(folder / INSTALLED_FILE, Installed, schema_version=SCHEMA_VERSION)
    except SchemaVersionError:
        raise
    except CardError as error:
        raise CardError(
            f"{error} Or move it away and install again; blobs that are there are not fetched twice."
        ) from error
