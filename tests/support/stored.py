"""What stored models answer, and damage to what is stored."""

from __future__ import annotations

import numpy as np

from tests.support.small_models import COLOURS, plain_image
from zoo.models.model import Model
from zoo.store.store import Store

IMAGES = np.stack([plain_image(colour) for colour in COLOURS])


def answers(model: Model) -> list[str]:
    return [COLOURS[k] for k in model.logits(IMAGES).argmax(axis=1)]


def damage(store: Store, digest: str, content: bytes | None = None) -> None:
    path = store.blobs / digest
    path.chmod(0o644)
    path.write_bytes(b"\xff" * path.stat().st_size if content is None else content)
