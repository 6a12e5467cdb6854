"""A real publisher of small models: what it offers, its keys, and a server for it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from selector.bundle.bundle import read_bundle_files
from tests.support.small_models import add_colours, build_onnx
from zoo import Zoo
from zoo.publisher.keys import Keys, create_keys
from zoo.publisher.publish import Publication, publish
from zoo.publisher.signing import Expiry, Signing
from zoo.publisher.targets import put, read_index


@dataclass
class Publisher:
    """A folder of published files with all that is needed to publish again."""

    folder: Path
    keys: Path
    zoo: Zoo
    bundles: dict[str, Path]

    @property
    def root(self) -> bytes:
        """The root that devices are given."""
        return (self.folder / "metadata" / "1.root.json").read_bytes()

    def publish(self, *, expiry: Expiry | None = None) -> Publication:
        """Publish what zoo and bundles hold now."""
        bundles = {name: read_bundle_files(folder) for name, folder in self.bundles.items()}
        return publish(self.folder, self.zoo, keys=Keys.open(self.keys), bundles=bundles, expiry=expiry)

    def change(self, name: str, *, seed: int = 7, work: int = 0) -> None:
        """Give a model other weights; without bundles, which would have to be exported anew."""
        add_colours(self.zoo, name, build_onnx(noise=0.2, seed=seed, work=work))

    def signed(self, role: str) -> dict[str, object]:
        """The newest metadata of a role."""
        folder = self.folder / "metadata"
        if role == "timestamp":
            path = folder / "timestamp.json"
        else:
            path = max(folder.glob(f"*.{role}.json"), key=lambda p: int(p.name.split(".")[0]))
        found: dict[str, object] = json.loads(path.read_bytes())
        return found

    def expires(self, role: str) -> datetime:
        """When the newest metadata of a role expires."""
        signed = self.signed(role)["signed"]
        assert isinstance(signed, dict)
        return datetime.fromisoformat(str(signed["expires"]).replace("Z", "+00:00"))


def colour_publisher(
    folder: Path, zoo: Zoo, *, bundles: dict[str, Path] | None = None, expiry: Expiry | None = None
) -> Publisher:
    """A publisher of a copy of `zoo`, and of bundles that were made for it."""
    shutil.copytree(zoo.folder, folder / "zoo")
    create_keys(folder / "keys")
    made = Publisher(folder / "published", folder / "keys", Zoo.open(folder / "zoo"), dict(bundles or {}))
    made.publish(expiry=expiry)
    return made


def mislead(publisher: Publisher, name: str, *, version: int = 2, by: float = 1.0) -> None:
    """Sign a self-test that the model does not pass, because all logits of it are shifted."""
    signing = Signing(publisher.folder, Keys.open(publisher.keys))
    release = read_index(publisher.folder, signing).models[name]
    wrong = msgspec.structs.replace(release.selftest, logits=tuple(x + by for x in release.selftest.logits))
    put(publisher.folder, signing, msgspec.structs.replace(release, version=version, selftest=wrong))
    signing.commit("targets")
