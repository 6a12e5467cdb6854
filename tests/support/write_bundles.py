"""Write ``tests/support/bundles`` anew: ``python -m tests.support.write_bundles``.

Needs the extra ``train``.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from tests.support.colours import KINDS, STORED, STORED_WATCHED, files_of
from tests.support.world import World, make_world


def stored_bundles(world: World) -> dict[str, Path]:
    """Name → the folder of a bundle that is stored."""
    watched = {f"watched-{kind}": world.watched[kind] for kind in STORED_WATCHED}
    return {**{kind: world.bundles[kind] for kind in KINDS}, **watched}


def write(world: World, target: Path) -> None:
    """Store the bundles: records without white space, each graph once."""
    (target / "files").mkdir(parents=True)
    (target / "test-groups.json").write_text(json.dumps(world.test_groups) + "\n")
    for name, bundle in stored_bundles(world).items():
        record = json.loads((bundle / "bundle.json").read_text())
        (target / f"{name}.json").write_text(json.dumps(record, separators=(",", ":")) + "\n")
        for file in files_of(bundle):
            shutil.copy(bundle / file, target / "files" / Path(file).name)


def main() -> None:
    shutil.rmtree(STORED, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        write(make_world(Path(folder)), STORED)


if __name__ == "__main__":
    main()
