"""The files of a profile: parts, records and where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import UNSET, Meta, UnsetType
from numpy.typing import NDArray

from training.features.kinds import features_of
from training.outcomes.shards import FEATURES, PIXELS
from zoo.errors import DataError, ZooError
from zoo.files import atomic_path, read_record, sha256_bytes
from zoo.inputs.kind import InputKind, InputRecord
from zoo.inputs.kinds import kind_of
from zoo.providers import CPU
from zoo.types import Positive, Sha256

SCHEMA_VERSION = 3  # since 3, another execution provider than the CPU's may have answered
KINDS_VERSION = 2  # since 2, inputs may be others than images
IMAGES_VERSION = 1  # written where they are images, so that older readers go on reading
PROFILE_FILE = "profile.json"
UNFINISHED_FILE = "unfinished.json"  # there from the first written part to the last
SAMPLES_FILE = "samples.parquet"
PART_ROWS = 1024
PIXELS_VERSION = 2  # since 2, those of a sample are bytes in a row, not a list of numbers
SplitShare = Annotated[float, Meta(ge=0, le=1)]


class SplitRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The splits that the samples were assigned by; see :class:`training.data.splits.Splits`."""

    seed: int
    train: SplitShare
    fit: SplitShare
    tune: SplitShare
    certify: SplitShare
    test: SplitShare


class ProfileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a profile was made from; anything that does not match it is stale."""

    schema_version: Positive
    data_sha256: Sha256
    classes: tuple[str, ...]  # of the models; labels are names of them
    splits: SplitRecord
    samples: Positive
    part_rows: Positive
    grid: Positive  # of the input features
    models: dict[str, Sha256]  # name → digest of the ONNX file
    skipped: int = 0  # images that could not be read and were left out
    input_record: InputRecord | UnsetType = msgspec.field(default=UNSET, name="input")
    provider: str | UnsetType = UNSET  # that ran the models, with its options; left out: the CPU's

    @property
    def kind(self) -> InputKind:
        """The kind of input that was answered."""
        return kind_of(None if self.input_record is UNSET else self.input_record)

    @property
    def provider_name(self) -> str:
        """The provider that ran the models, with its options."""
        return str(CPU) if self.provider is UNSET else self.provider

    def __post_init__(self) -> None:
        _ = self.kind  # raises where there is none of that name


def read_profile_record(folder: str | Path) -> ProfileRecord:
    """The record of a finished profile; raises :class:`DataError` where there is none."""
    path = Path(folder) / PROFILE_FILE
    if not path.is_file():
        raise DataError(
            f"expected a profile in {folder}, got no {PROFILE_FILE} there. "
            "Make one, or finish one that was interrupted, with 'zooselect profile'."
        )
    return read_record(path, ProfileRecord, schema_version=SCHEMA_VERSION)


def parts_folder(folder: Path, name: str, record: ProfileRecord) -> Path:
    """Where the parts of one model, of :data:`FEATURES` or of :data:`PIXELS`, lie."""
    if name == FEATURES:
        features = features_of(record.kind)
        return _features_folder(folder, record, features.version, features.names)
    if name == PIXELS:
        return _stored_pixels(folder, record)
    return folder / "outputs" / f"{name}-{record.models[name][:12]}"


def embedding_folder(folder: Path, name: str, record: ProfileRecord) -> Path:
    """Where the parts of one model's embeddings lie, where it gives them; none is without its logits."""
    return folder / "outputs" / f"{name}-{record.models[name][:12]}-embedding"


def stored_features(folder: Path, record: ProfileRecord) -> tuple[Path, tuple[str, ...]]:
    """Where the features of a profile lie, and their names: all of the pool, or those of an earlier pool."""
    features = features_of(record.kind)
    pools = {features.version: features.names, **features.earlier}
    for version in sorted(pools, reverse=True):
        found = _features_folder(folder, record, version, pools[version])
        if is_complete(found, record):
            return found, pools[version]
    return parts_folder(folder, FEATURES, record), features.names


def is_complete(parts: Path, record: ProfileRecord) -> bool:
    """Whether all parts lie in the folder `parts`."""
    return all(part_path(parts, part).is_file() for part in range(-(-record.samples // record.part_rows)))


def _features_folder(folder: Path, record: ProfileRecord, version: int, names: tuple[str, ...]) -> Path:
    content = f"{version} {record.grid} {' '.join(names)}{_other_kind(record)}".encode()
    return folder / "outputs" / f"{FEATURES}-{sha256_bytes(content)[:12]}"


def _stored_pixels(folder: Path, record: ProfileRecord) -> Path:
    """Where an earlier version wrote all pixels of a profile; else where they are written now."""
    versions = range(PIXELS_VERSION, 0, -1)
    found = [_pixels_folder(folder, record, version) for version in versions]
    return next((parts for parts in found if is_complete(parts, record)), found[0])


def _pixels_folder(folder: Path, record: ProfileRecord, version: int) -> Path:
    what = f"{version} {record.grid}{_other_kind(record)}"
    return folder / "outputs" / f"{PIXELS}-{sha256_bytes(what.encode())[:12]}"


def _other_kind(record: ProfileRecord) -> str:
    return "" if record.input_record is UNSET else f" {record.kind}"


def part_path(folder: Path, part: int) -> Path:
    """File of one part."""
    return folder / f"part-{part:05d}.parquet"


def read_parts(
    parts: Path,
    record: ProfileRecord,
    ids: NDArray[np.str_],
    width: int,
    chosen: NDArray[np.bool_],
    kind: type[np.generic] = np.float32,
) -> NDArray[Any]:
    """The `chosen` rows of one folder of parts ``[n, width]``; the others are read, but not kept."""
    values = np.empty((int(chosen.sum()), width), dtype=kind)
    place = 0
    for part, first in enumerate(range(0, record.samples, record.part_rows)):
        last = min(first + record.part_rows, record.samples)
        path = part_path(parts, part)
        table = read_table(path, last - first)
        flat = _numbers(table["values"], kind)
        if (
            table["id"].to_pylist() != ids[first:last].tolist()
            or flat.size != (last - first) * width
            or flat.dtype != kind
        ):
            raise DataError(f"{path}: rows do not belong to {SAMPLES_FILE}. Delete it and profile again.")
        rows = flat.reshape(last - first, width)[chosen[first:last]]
        if not np.isfinite(rows).all():
            raise DataError(
                f"{path}: expected finite numbers, got NaN or infinity. Delete it and profile again."
            )
        values[place : place + len(rows)] = rows
        place += len(rows)
    return values


def _numbers(column: pa.ChunkedArray, kind: type[np.generic]) -> NDArray[Any]:
    """The numbers of a column of lists, or of bytes of that kind, in a row; none where some are missing."""
    try:
        rows = column.combine_chunks()
        if pa.types.is_fixed_size_binary(rows.type) and not rows.null_count:
            size = rows.type.byte_width
            content = np.frombuffer(rows.buffers()[1], np.uint8, len(rows) * size, rows.offset * size)
            return content.view(kind)
        found: NDArray[Any] = np.from_dlpack(rows.flatten())  # to_numpy would load pandas
    except (AttributeError, BufferError, TypeError, ValueError, pa.ArrowException):
        return np.empty(0, np.float32)
    return found


def read_table(path: Path, rows: int) -> pa.Table:
    """A table of a profile with so many rows; raises :class:`DataError` for anything else."""
    try:
        with pq.ParquetFile(path) as file:  # read_table would load the datasets of pyarrow, and pandas
            table = file.read()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{path}: expected a Parquet file of a profile, got: {str(error)[:200]}. "
            "Delete it if it is there, and run 'zooselect profile' again."
        ) from error
    if table.num_rows != rows:
        raise DataError(f"{path}: expected {rows} rows, got {table.num_rows}. Delete it and profile again.")
    return table


def write_part(
    ids: list[str], values: NDArray[Any], folder: Path, part: int, *, as_bytes: bool = False
) -> None:
    """Write rows ``[n, ...]`` as lists of numbers, or as bytes: many numbers take a tenth of the time so."""
    rows = np.ascontiguousarray(values).reshape(len(values), -1)
    if as_bytes:
        size = pa.binary(rows.shape[1] * rows.itemsize)
        column = pa.FixedSizeBinaryArray.from_buffers(size, len(rows), [None, pa.py_buffer(rows)])
    else:
        column = lists_of(rows)
    write_table(pa.table({"id": ids, "values": column}), part_path(folder, part))


def lists_of(rows: NDArray[np.floating]) -> pa.Array:
    """A column of lists of numbers, from ``[n, width]``."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).ravel()), rows.shape[1])


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table of a profile; raises :class:`ZooError` where there is no room."""
    try:
        with atomic_path(path) as temporary:
            # lists of numbers neither repeat nor get shorter, and nobody reads statistics
            lists = [one.name for one in table.schema if pa.types.is_fixed_size_list(one.type)]
            others = [name for name in table.column_names if name not in lists]
            packed = dict.fromkeys(others, "zstd") | {f"{name}.list.element": "none" for name in lists}
            pq.write_table(
                table, temporary, compression=packed, use_dictionary=others, write_statistics=False
            )
    except OSError as error:
        raise ZooError(
            f"cannot write {path}: {error.strerror or error}. What was finished before is kept; "
            "free some space and run the same command again, it continues."
        ) from error
