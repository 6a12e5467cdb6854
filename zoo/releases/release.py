"""Releases: what a publisher offers and a device installs, as frozen, validated records.

A model is published as a graph without weights and the weights beside it, each a blob named by its SHA-256.
The graph names its weights by slots, not by digest, so that a version with other weights of the same shapes
has the same graph. :func:`fill` puts the digests in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from zoo.errors import DigestError
from zoo.files import record_schema, sha256_bytes
from zoo.models.card import ModelCard
from zoo.releases.input_reference import InputReference
from zoo.types import Name, Positive, Sha256, check_relative

SCHEMA_VERSION = 3  # since 3, models may take other inputs than images
IMAGES_VERSION = 2  # written where none does, so that older devices go on reading
MAX_BLOB_BYTES = 2**31 - 1  # what a protobuf may hold
SLOT_BYTES = 64  # as many as a SHA-256 in hexadecimal digits: filling a slot moves nothing else
_SLOT = re.compile(rb"zooselect-slot-[0-9]{6}-{43}")


class Blob(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Content named by its digest."""

    sha256: Sha256
    size_bytes: Annotated[int, Meta(ge=1, le=MAX_BLOB_BYTES)]

    @property
    def path(self) -> str:
        """Where it lies under the publisher's root."""
        return blob_path(self.sha256)

    @classmethod
    def of(cls, content: bytes) -> Blob:
        """What names some content."""
        return cls(sha256=sha256_bytes(content), size_bytes=len(content))


def blob_path(sha256: str) -> str:
    """Where a blob lies under the publisher's root."""
    return f"blobs/{sha256[:2]}/{sha256}"


class SelfTest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a model must answer on a device before it is used: logits for :func:`test_image`."""

    image: tuple[Annotated[int, Meta(ge=1, le=4096)], Annotated[int, Meta(ge=1, le=4096)]]  # height, width
    logits: Annotated[tuple[float, ...], Meta(min_length=2)]
    tolerance: Annotated[float, Meta(gt=0)]  # largest difference of a logit; processors round differently


class ModelRelease(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One published version of a model."""

    schema_version: Positive
    version: Positive  # counts up with every publication, also when an older content is published again
    card: ModelCard  # its digest is that of the file that the graph and the weights were taken from
    graph: Blob
    weights: tuple[Blob, ...]  # in the order of the graph's slots
    whole: Blob | None = None  # all parts one after another, for a device that has none: one request
    min_onnxruntime: Annotated[str, Meta(pattern=r"^[0-9]+\.[0-9]+$(?!\n)")]
    opset: Positive
    peak_memory_bytes: Positive  # of a process that opens the model and answers the self-test
    selftest: SelfTest
    accuracy: Annotated[float, Meta(ge=0, le=1)] | None = None  # on the publisher's held-out data
    latency_ms: dict[Name, Annotated[float, Meta(gt=0)]] = {}  # device → typical time of one image

    kind: ClassVar[Literal["model"]] = "model"

    def __post_init__(self) -> None:
        check_sizes((blob.sha256, blob.size_bytes) for blob in (self.graph, *self.weights))
        if self.whole is not None and self.whole.size_bytes != self.size_bytes:
            raise ValueError(f"whole: expected {self.size_bytes} bytes, as many as all parts have")
        if len(self.selftest.logits) != len(self.card.classes):
            raise ValueError(f"selftest.logits: expected {len(self.card.classes)}, one a class")

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.card.name

    @property
    def blobs(self) -> dict[str, int]:
        """Digest → bytes of everything that the model consists of, in the order of :attr:`whole`."""
        return {blob.sha256: blob.size_bytes for blob in (self.graph, *self.weights)}

    @property
    def offered(self) -> dict[str, int]:
        """Digest → bytes of everything that a publisher holds for it."""
        return self.blobs | ({} if self.whole is None else {self.whole.sha256: self.whole.size_bytes})

    @property
    def size_bytes(self) -> int:
        """Bytes of all blobs."""
        return sum(self.blobs.values())


class BundleRelease(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One published version of a bundle: its record and graphs, and which models it is for."""

    schema_version: Positive
    version: Positive
    name: Name  # of the task on devices, such as "birds"; "birds.dark" is its variant for an environment
    record: Blob  # bundle.json
    files: dict[str, Blob]  # path in the bundle → graph, or file of a model on a server: descriptor or head
    models: Annotated[dict[Name, Sha256], Meta(min_length=1)]  # digests of the cards of models on the device
    environment: Annotated[str, Meta(max_length=64)] | None = None  # that it was certified for; None: a mix
    drift: InputReference | None = None  # what inputs look like there

    kind: ClassVar[Literal["bundle"]] = "bundle"

    def __post_init__(self) -> None:
        for path in self.files:
            check_relative(path)
        check_sizes((blob.sha256, blob.size_bytes) for blob in (self.record, *self.files.values()))

    @property
    def task(self) -> str:
        """Name of the task on devices: without the environment, where the name ends with that."""
        return self.name.removesuffix(f".{self.environment}") if self.environment else self.name

    @property
    def blobs(self) -> dict[str, int]:
        """Digest → bytes of record and graphs."""
        return {blob.sha256: blob.size_bytes for blob in (self.record, *self.files.values())}

    @property
    def offered(self) -> dict[str, int]:
        """Digest → bytes of everything that a publisher holds for it."""
        return self.blobs

    @property
    def size_bytes(self) -> int:
        """Bytes of all blobs."""
        return sum(self.blobs.values())


class Assignment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the devices of a group are to hold, decided by a server."""

    schema_version: Positive
    version: Positive
    group: Name
    bundles: tuple[Name, ...]
    models: tuple[Name, ...]  # most important first, for devices that cannot hold them all

    kind: ClassVar[Literal["assignment"]] = "assignment"

    def __post_init__(self) -> None:
        for field in ("bundles", "models"):
            names = getattr(self, field)
            if len(set(names)) != len(names):
                raise ValueError(f"{field}: expected distinct names, got {list(names)}")

    @property
    def name(self) -> str:
        """Name of the group."""
        return self.group


Release = ModelRelease | BundleRelease


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a device has learned from the publisher's signed targets: the newest of everything."""

    models: dict[Name, ModelRelease]
    bundles: dict[Name, BundleRelease]
    assignments: dict[Name, Assignment] = {}


def slot(index: int) -> str:
    """The name by which a graph refers to its weights blob with this index."""
    return f"zooselect-slot-{index:06d}".ljust(SLOT_BYTES, "-")


def fill(graph: bytes, release: ModelRelease) -> bytes:
    """The graph with every slot replaced by the digest of its weights: file names in a flat folder.

    Raises
    ------
    DigestError
        When `graph` is not the release's, or its slots are not those that the release has weights for.
    """
    digest = sha256_bytes(graph)
    if digest != release.graph.sha256:
        raise DigestError(
            f"model {release.name!r}: expected the graph {release.graph.sha256[:16]}…, got {digest[:16]}…. "
            "Fetch the model again."
        )
    names = {slot(i).encode(): blob.sha256.encode() for i, blob in enumerate(release.weights)}
    found = set(_SLOT.findall(graph))
    if found != set(names):
        raise DigestError(
            f"model {release.name!r}: expected a graph with {len(names)} slots, got {len(found)}. "
            "It was published wrongly; publish it again."
        )
    return _SLOT.sub(lambda match: names[match.group()], graph)


def release_json_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schemas of what is published, for other programs that read it."""
    return {
        "model-release": record_schema(ModelRelease),
        "bundle-release": record_schema(BundleRelease),
        "assignment": record_schema(Assignment),
    }


def check_sizes(blobs: Iterable[tuple[str, int]]) -> None:
    """Raise ValueError where one digest has two sizes."""
    sizes: dict[str, int] = {}
    for digest, size in blobs:
        if sizes.setdefault(digest, size) != size:
            raise ValueError(f"blob {digest[:16]}…: expected one size, got two")
