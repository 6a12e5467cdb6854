"""A real store on disk with the models of a real bundle, one blob a model: whole graphs, nothing beside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from selector import Selector
from selector.policies.staged import StagedPolicy
from zoo.files import sha256_bytes
from zoo.releases.release import Blob, BundleRelease, ModelRelease, SelfTest
from zoo.store.installed import Installed, InstalledBundle, InstalledModel
from zoo.store.store import Store


class Shelf:
    """What could be installed from a bundle's folder, and a store to install it in."""

    def __init__(self, bundle: Path, store: Path, *, name: str = "colours") -> None:
        self.folder, self.name = bundle, name
        self.store = Store.open(store)

    def install(self, *models: str, bundle: bool = True) -> None:
        """Make the store hold exactly these models, and the bundle; what was there before goes."""
        releases = [self.model_release(name) for name in models]
        self.commit(releases, [self.bundle_release()] if bundle else [])

    def commit(self, models: Iterable[ModelRelease], bundles: Sequence[BundleRelease] = ()) -> None:
        """Replace the installed record, then remove what it does not name."""
        installed = Installed(
            schema_version=1,
            models=tuple(InstalledModel(release=release) for release in models),
            bundles=tuple(InstalledBundle(release=release) for release in bundles),
        )
        with self.store.lock():
            self.store.commit(installed)
            self.store.collect()

    def put(self, content: bytes) -> Blob:
        """Bring content into the store."""
        blob = Blob(sha256=sha256_bytes(content), size_bytes=len(content))
        if not self.store.has(blob.sha256):
            with self.store.lock():
                self.store.partial(blob.sha256).write_bytes(content)
                self.store.adopt(blob.sha256, blob.size_bytes)
        return blob

    def model_release(self, name: str) -> ModelRelease:
        """A release of a model of the bundle; its content is in the store then."""
        card = Selector.load(self.folder).bundle.card(name)
        return ModelRelease(
            schema_version=1,
            version=1,
            card=card,
            graph=self.put((self.folder / card.file).read_bytes()),
            weights=(),
            min_onnxruntime="1.24",
            opset=18,
            peak_memory_bytes=10**8,
            selftest=SelfTest(image=(8, 8), logits=(0.0,) * len(card.classes), tolerance=1e-3),
        )

    def bundle_release(self) -> BundleRelease:
        """A release of the bundle; its content is in the store then."""
        bundle = Selector.load(self.folder).bundle
        files = [graph.file for graph in (bundle.selector, bundle.drift) if graph is not None]
        staged = [policy for policy in bundle.policies if isinstance(policy, StagedPolicy)]
        files += [state.file for policy in staged for state in policy.states]
        return BundleRelease(
            schema_version=1,
            version=1,
            name=self.name,
            record=self.put((self.folder / "bundle.json").read_bytes()),
            files={file: self.put((self.folder / file).read_bytes()) for file in files},
            models={card.name: card.sha256 for card in bundle.models},
        )
