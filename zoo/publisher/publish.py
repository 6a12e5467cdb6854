"""Publishing: models and bundles become files that any web server can hold.

What is checked comes before what is written; blobs are written before the records that name them, and those
before the signed metadata, of which the timestamp is replaced last. Killed at any point, the previous state
is served.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from zoo.errors import MissingExtraError, PublishError
from zoo.extras import install_command
from zoo.models.card import ModelCard
from zoo.models.model import read_graph
from zoo.models.zoo import Zoo
from zoo.publisher.keys import Keys
from zoo.publisher.signing import Expiry, Signing, locked
from zoo.publisher.staging import Staging, staging
from zoo.publisher.targets import drop, next_version, put, read_index
from zoo.releases.bundle_files import BundleFiles
from zoo.releases.catalogue import index_from_folder
from zoo.releases.release import IMAGES_VERSION, BundleRelease, Index, ModelRelease, Release

Progress = Callable[[str], None]


@dataclass(frozen=True)
class PublishedItem:
    """One model or bundle after a publication."""

    kind: Literal["model", "bundle"]
    name: str
    version: int
    size_bytes: int  # of all its blobs
    new_bytes: int  # of those that were not published before, each counted at its first item
    changed: bool  # whether this version is new


@dataclass(frozen=True)
class Publication:
    """What a publication did."""

    items: tuple[PublishedItem, ...]
    targets_version: int
    warnings: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was published."""
        return any(item.changed for item in self.items)

    @property
    def new_bytes(self) -> int:
        """Bytes of all blobs that were not published before."""
        return sum(item.new_bytes for item in self.items)


def published(root: str | Path) -> Index:
    """What the publisher in `root` offers now; nothing, where nothing was ever published."""
    if not (Path(root) / "metadata" / "timestamp.json").exists():
        return Index(models={}, bundles={})
    return index_from_folder(root)


def publish(
    root: str | Path,
    zoo: Zoo,
    *,
    keys: Keys,
    bundles: Mapping[str, BundleFiles] | None = None,
    models: Sequence[str] | None = None,
    accuracy: Mapping[str, float] | None = None,
    latency_ms: Mapping[str, Mapping[str, float]] | None = None,
    expiry: Expiry | None = None,
    root_threshold: int = 1,
    anew: bool = False,
    progress: Progress | None = None,
) -> Publication:
    """Publish models of a zoo, and bundles that were made for them.

    What is published already and has not changed keeps its version. Other content gets the next one, also
    when it was published before: blobs that are there are used again. Models that are not named stay.

    Parameters
    ----------
    root
        The publisher's folder; made when it is not there.
    keys
        Those of targets, snapshot and timestamp; the first time, one of every role.
    bundles
        Name of the task on devices → what :func:`selector.bundle.bundle.read_bundle_files` read of the folder
        that ``zooselect export`` made.
    models
        By default all models of the zoo but those on servers: these come with the bundles that name them.
    accuracy, latency_ms
        Model → share of right answers; device → model → typical milliseconds of one image. What is not given
        stays as it was published for the same file.
    root_threshold
        How many root keys have to sign a root, the first time.
    anew
        Take apart, check and measure every model, also those that are published already. After a stolen
        targets key: what is published may then not come from here.
    progress
        Called with the name of each model that is checked.

    Raises
    ------
    PublishError
        When a bundle and the published models would not fit together.
    ModelError, ParityError, DigestError, CardError
        When something is not fit for publishing. Nothing has been changed then.
    KeysError, TrustError
        When a key is missing, or what is published was not signed by these keys.
    """
    cards = _on_devices(zoo, models)
    for name, files in (bundles or {}).items():
        _check_servers(name, files)
    facts = _Facts(accuracy or {}, latency_ms or {})
    before = published(root)
    with staging(root) as staged:
        releases: list[Release] = []
        for card in cards:
            old = before.models.get(card.name)
            if anew or not _is_there(old, card, staged):
                if progress is not None:
                    progress(card.name)
                old = _offer(card, zoo.folder, staged)
            assert old is not None
            releases.append(facts.of(old, card))
        releases += [_bundle_release(name, files, staged) for name, files in (bundles or {}).items()]
        with locked(root):
            signing = Signing(root, keys, expiry=expiry, root_threshold=root_threshold)
            return _commit(Path(root), signing, releases, staged)


def remove(
    root: str | Path,
    *,
    keys: Keys,
    models: Collection[str] = (),
    bundles: Collection[str] = (),
    expiry: Expiry | None = None,
) -> Index:
    """Offer these models and bundles no longer, and return what is left.

    Their blobs stay until they are cleaned: devices may be fetching them.

    Raises
    ------
    PublishError
        When one of them is not published, or a published bundle needs one of the models.
    KeysError, TrustError
        As for :func:`publish`.
    """
    with locked(root):
        signing = Signing(root, keys, expiry=expiry)
        index = read_index(root, signing)
        gone: list[Release] = []
        for kind, names, held in (("model", models, index.models), ("bundle", bundles, index.bundles)):
            for name in dict.fromkeys(names):
                if name not in held:
                    raise PublishError(
                        f"expected a published {kind}, got {name!r}. Published: {', '.join(held) or 'none'}."
                    )
                gone.append(held[name])
        left = Index(
            models={name: item for name, item in index.models.items() if name not in models},
            bundles={name: item for name, item in index.bundles.items() if name not in bundles},
            assignments=index.assignments,
        )
        check_consistent(left)
        if gone:
            for release in gone:
                drop(signing, release)
            signing.commit("targets")
        return left


def check_consistent(index: Index) -> None:
    """Check that every bundle was made for exactly the models that are published under these names.

    Raises
    ------
    PublishError
        When one was not; the message says which.
    """
    for bundle in index.bundles.values():
        for name, digest in bundle.models.items():
            if name not in index.models:
                raise PublishError(
                    f"bundle {bundle.name!r}: expected its model {name!r} to be published, got none. "
                    "Publish the model with it, or remove the bundle as well."
                )
            other = index.models[name].card.sha256
            if other != digest:
                raise PublishError(
                    f"bundle {bundle.name!r} was made for model {name!r} of digest {digest[:16]}…, got "
                    f"another model of that name ({other[:16]}…). Publish one that was exported for it in "
                    f"the same step: --bundle {bundle.name}=FOLDER."
                )


def _commit(root: Path, signing: Signing, releases: Iterable[Release], staged: Staging) -> Publication:
    """Give versions, write what is new, and sign it."""
    index = read_index(root, signing)
    models, bundles = dict(index.models), dict(index.bundles)
    final: list[tuple[Release, bool]] = []
    for release in releases:
        is_model = isinstance(release, ModelRelease)
        before = (index.models if is_model else index.bundles).get(release.name)
        versioned = next_version(release, before, signing)
        assert isinstance(versioned, ModelRelease | BundleRelease)
        if isinstance(versioned, ModelRelease):
            models[versioned.name] = versioned
        else:
            bundles[versioned.name] = versioned
        final.append((versioned, versioned is not before))
    check_consistent(Index(models=models, bundles=bundles))
    items = tuple(
        PublishedItem(
            kind=release.kind,
            name=release.name,
            version=release.version,
            size_bytes=release.size_bytes,
            new_bytes=staged.move(release.offered),
            changed=changed,
        )
        for release, changed in final
    )
    for release, changed in final:
        if changed:
            put(root, signing, release)
    if signing.is_first or any(changed for _, changed in final):
        signing.commit("targets")
    return Publication(items, signing.targets.signed.version, signing.warnings())


def _on_devices(zoo: Zoo, models: Sequence[str] | None) -> tuple[ModelCard, ...]:
    """Cards of the models to publish; raises :class:`PublishError` where one that is named is on a server."""
    cards = (zoo.only(models) if models is not None else zoo).cards
    remote = [card.name for card in cards if card.remote is not None]
    if models is not None and remote:
        raise PublishError(
            f"expected models that run on devices, got {', '.join(remote)}, which a server holds. Leave it "
            "out: it is published in the bundle that was made with it."
        )
    return tuple(card for card in cards if card.remote is None)


def _check_servers(name: str, content: BundleFiles) -> None:
    """Check that a bundle answers without a server as well, and that devices can read its tokens."""
    if not content.models:
        raise PublishError(
            f"bundle {name!r}: expected a model that runs on the device, got only models on servers. Fit it "
            "with one: a device without network has to answer, too."
        )
    if content.token_files:
        raise PublishError(
            f"bundle {name!r}: expected tokens in environment variables, got files of this machine for "
            f"{', '.join(content.token_files)}. Add them again with --token-env NAME, and fit again."
        )


def _is_there(old: ModelRelease | None, card: ModelCard, staged: Staging) -> bool:
    """Whether the very file is published, complete, so that nothing has to be found out about it again."""
    if old is None or (old.card.sha256, old.card.classes) != (card.sha256, card.classes):
        return False
    return all(staged.published(digest, size) for digest, size in old.offered.items())


def _offer(card: ModelCard, zoo: Path, staged: Staging) -> ModelRelease:
    try:
        from zoo.publisher.prepare import offer
    except ImportError as error:
        raise MissingExtraError(f"publishing models needs onnx: {install_command('publish')}") from error
    return offer(card, read_graph(card, zoo), staged)


def _bundle_release(name: str, content: BundleFiles, staged: Staging) -> BundleRelease:
    environment = content.environment or (name.rpartition(".")[2] if "." in name else None)
    if "." in name and not name.endswith(f".{environment}"):
        raise PublishError(
            f"bundle {name!r}: expected a name that ends with its environment, got one that was certified "
            f"on samples of {environment!r}. Publish it as {name.rpartition('.')[0]}.{environment}, or fit "
            "it on the samples of the environment in its name."
        )
    facts = {
        "schema_version": IMAGES_VERSION,
        "version": 1,
        "name": name,
        "record": staged.add(content.record),
        "files": {path: staged.add(graph) for path, graph in content.files.items()},
        "models": content.models,
        "environment": environment,
        "drift": content.drift,
    }
    try:
        return msgspec.convert(facts, BundleRelease)
    except msgspec.ValidationError as error:
        raise PublishError(f"bundle {name!r} cannot be published: {error}. Correct it.") from error


@dataclass(frozen=True)
class _Facts:
    """What the caller has measured."""

    accuracy: Mapping[str, float]
    latency_ms: Mapping[str, Mapping[str, float]]

    def of(self, release: ModelRelease, card: ModelCard) -> ModelRelease:
        times = {device: table[card.name] for device, table in self.latency_ms.items() if card.name in table}
        changed = {
            **msgspec.structs.asdict(release),
            "schema_version": max(release.schema_version, IMAGES_VERSION),
            "card": card,
            "accuracy": self.accuracy.get(card.name, release.accuracy),
            "latency_ms": {**release.latency_ms, **times},
        }
        try:
            return msgspec.convert(changed, ModelRelease)
        except msgspec.ValidationError as error:
            raise PublishError(f"model {card.name!r} cannot be published: {error}. Correct it.") from error
