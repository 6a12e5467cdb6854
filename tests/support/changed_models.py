"""Bundles whose models are others than those they were certified with, as if they had been these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from selector.bundle.bundle import Bundle, read_bundle
from zoo.files import encode_record, sha256_bytes
from zoo.models.card import ModelCard


def change_models(folder: Path, change: Callable[[ModelCard, bytes], bytes], **facts: Any) -> Bundle:
    """Give every model of the bundle in `folder` the content that `change` makes of it, and `facts`."""
    bundle = read_bundle(folder)
    cards = []
    for card in bundle.models:
        content = change(card, (folder / card.file).read_bytes())
        (folder / card.file).write_bytes(content)
        new = {"sha256": sha256_bytes(content), "size_bytes": len(content), **facts}
        cards.append(msgspec.structs.replace(card, **new))
    made = msgspec.structs.replace(bundle, models=tuple(cards))
    proofs = (msgspec.structs.replace(c, subject_sha256=made.subject(c.policy)) for c in bundle.certificates)
    made = msgspec.structs.replace(made, certificates=tuple(proofs))
    (folder / "bundle.json").write_bytes(encode_record(made))
    return made
