"""Where a Selector's files come from: the folder of a bundle, or the store of a device."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from selector.bundle.agreement import agreed, read_agreement
from selector.bundle.bundle import Bundle, decode_bundle
from selector.bundle.certificate import Certificate
from zoo.errors import BundleError, DigestError, ModelNotFoundError
from zoo.files import read_verified
from zoo.models.card import ModelCard
from zoo.models.limits import RunLimits
from zoo.models.model import Model
from zoo.providers import CPU, Provider
from zoo.releases.release import BundleRelease
from zoo.store.installed import INSTALLED_FILE

if TYPE_CHECKING:
    from zoo.store.store import Store


class Source(Protocol):
    """Finds what a bundle names. Everything is verified before it is handed out."""

    limits: RunLimits | None  # of what is opened
    provider: Provider  # that runs the models

    def counting(self, bundle: Bundle, proofs: Sequence[Certificate]) -> list[Certificate]:
        """What of the bundle's certificates counts with the provider."""
        ...

    def held(self, bundle: Bundle) -> tuple[str, ...]:
        """Names of the bundle's models that are there, in the bundle's order."""
        ...

    def model(self, card: ModelCard, *, threads: int) -> Model:
        """Open the model with exactly this card."""
        ...

    def read(self, file: str, sha256: str, size_bytes: int) -> bytes:
        """Content of a graph of the bundle."""
        ...


class FolderSource:
    """A bundle's folder, as ``zooselect export`` writes it."""

    limits: RunLimits | None = None

    def __init__(self, folder: Path, provider: Provider = CPU) -> None:
        self.folder = folder
        self.provider = provider

    def counting(self, bundle: Bundle, proofs: Sequence[Certificate]) -> list[Certificate]:
        """All with the provider that they are about, else what 'zooselect agree' has earned for another.

        Raises
        ------
        CardError
            When the record of an agreement is broken.
        """
        base = bundle.calibration.provider_name
        if str(self.provider) == base:
            return [*proofs]
        return agreed(proofs, read_agreement(self.folder, self.provider, base))

    def held(self, bundle: Bundle) -> tuple[str, ...]:
        """Names of the models whose files are there."""
        return tuple(card.name for card in bundle.models if (self.folder / card.file).is_file())

    def chosen(self, bundle: Bundle, models: Sequence[str] | None) -> tuple[str, ...]:
        """Those of `models`, or all, whose files are there; at least one.

        Raises
        ------
        ModelNotFoundError
            When one of `models` is not there.
        BundleError
            When there is none.
        """
        held = self.held(bundle)
        missing = [bundle.card(name).name for name in models or () if name not in held]
        if missing:
            raise ModelNotFoundError(
                f"the files of {', '.join(missing)} are not in {self.folder}. "
                f"It holds: {', '.join(held) or 'none'}."
            )
        held = tuple(name for name in held if models is None or name in models)
        if not held:
            raise BundleError(
                f"expected the file of at least one model in {self.folder / 'models'}, got none. "
                "Export with the models, or copy the files that bundle.json names."
            )
        return held

    def model(self, card: ModelCard, *, threads: int) -> Model:
        """Open a model file; raises :class:`DigestError` when it is not the recorded one."""
        return Model.open(card, self.folder, threads=threads, provider=self.provider)

    def read(self, file: str, sha256: str, size_bytes: int) -> bytes:
        """Read a graph; raises :class:`DigestError` when it is not the recorded one."""
        return read_verified(self.folder / file, sha256, size_bytes)


class StoreSource:
    """One installed bundle of a device's store, and the models that are installed beside it.

    Parameters
    ----------
    servers
        Addresses of the servers that may be asked: a publisher alone does not decide where inputs go. Models
        on others do not count as held.
    """

    provider: Provider = CPU

    def __init__(
        self,
        store: Store,
        release: BundleRelease,
        limits: RunLimits | None = None,
        *,
        servers: Collection[str] = (),
    ) -> None:
        self.store = store
        self.release = release
        self.limits = limits
        self.servers = frozenset(servers)

    def counting(self, bundle: Bundle, proofs: Sequence[Certificate]) -> list[Certificate]:
        """All that are about the CPU's provider, which runs the models of a store."""
        return [*proofs] if bundle.calibration.provider_name == str(self.provider) else []

    @classmethod
    def of(
        cls, store: Store, task: str, limits: RunLimits | None = None, *, servers: Collection[str] = ()
    ) -> StoreSource:
        """The source of the installed bundle `task`; raises :class:`BundleError` when there is none."""
        releases = {item.release.name: item.release for item in store.installed.bundles}
        if task not in releases:
            raise BundleError(
                f"expected the bundle {task!r} in the store {store.folder}, got: "
                f"{', '.join(sorted(releases)) or 'no bundle'}. Install it, or name one of these."
            )
        return cls(store, releases[task], limits, servers=servers)

    def bundle(self) -> Bundle:
        """The bundle's record.

        Raises
        ------
        DigestError
            When its file is not the released one.
        CardError, SchemaVersionError
            When it does not validate.
        """
        return decode_bundle(self.store.read(self.release.record), name=f"bundle {self.release.name!r}")

    def held(self, bundle: Bundle) -> tuple[str, ...]:
        """Names of the models that are installed as the bundle knows them, or on servers that may be asked.

        One of the same name but another digest does not count: nothing is proven for it.
        """
        installed = {item.release.name: item.release.card.sha256 for item in self.store.installed.models}
        return tuple(
            card.name
            for card in bundle.models
            if (
                installed.get(card.name) == card.sha256
                if card.remote is None
                else card.remote.address in self.servers and card.file in self.release.files
            )
        )

    def model(self, card: ModelCard, *, threads: int) -> Model:
        """Open an installed model, or one on a server that may be asked.

        Raises
        ------
        ModelNotFoundError
            When it is not installed any more.
        DigestError
            When another version of it is installed by now.
        """
        if card.remote is not None:
            if card.remote.address not in self.servers:
                raise ModelNotFoundError(
                    f"model {card.name!r}: expected a server that this device may ask, got "
                    f"{card.remote.address}. Allow it: zooselect device init --model-server ADDRESS."
                )
            content = self.read(card.file, card.sha256, card.size_bytes)
            return Model(card, content, threads=threads, limits=self.limits)
        model = self.store.model(card.name, threads=threads, limits=self.limits)
        if model.card.sha256 != card.sha256:
            raise DigestError(
                f"model {card.name!r}: expected the version {card.sha256[:16]}…, got "
                f"{model.card.sha256[:16]}… from the store. "
                "Call update(), so that the Selector follows what is installed now."
            )
        return model

    def read(self, file: str, sha256: str, size_bytes: int) -> bytes:
        """Read a graph; raises :class:`DigestError` when the release has another one, or none."""
        blob = self.release.files.get(file)
        if blob is None or (blob.sha256, blob.size_bytes) != (sha256, size_bytes):
            found = "none" if blob is None else f"{blob.sha256[:16]}… of {blob.size_bytes:,} bytes"
            raise DigestError(
                f"bundle {self.release.name!r}: expected {file} {sha256[:16]}… of {size_bytes:,} bytes, got "
                f"{found}. It was published wrongly; publish it again."
            )
        return self.store.read(blob)


def state_of(store: Store) -> tuple[int, int, int]:
    """Something that differs as soon as anything was installed or evicted; costs one look at a file."""
    try:
        found = (store.folder / INSTALLED_FILE).stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_ino, found.st_size)
