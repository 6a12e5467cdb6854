"""What a publisher takes of an exported bundle; the selector, whose business bundles are, reads it."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.releases.input_reference import InputReference


@dataclass(frozen=True)
class BundleFiles:
    """Content of a bundle without the models that run on devices, verified by its record."""

    record: bytes  # bundle.json
    # path in the bundle → graph of the selector, of a state, or of what is watched, or what asks a server
    files: dict[str, bytes]
    models: dict[str, str]  # name → digest of the file that the bundle was made for; without those on servers
    token_files: tuple[str, ...] = ()  # models on servers whose token is in a file
    environment: str | None = None  # of the samples that it was certified on; None: a mix
    drift: InputReference | None = None  # what devices tell environments by
