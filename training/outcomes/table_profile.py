"""A profile of outcomes that were measured elsewhere: the checked table with its splits, stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from selector.policies.rules import confidence
from selector.routing.record import Evidence
from training.data.splits import CERTIFY, FIT, TUNE, Splits, one_environment_per_group
from training.outcomes.outcomes import ALL_SPLITS
from training.outcomes.parts import PROFILE_FILE, SplitRecord, lists_of
from training.outcomes.table import OutcomeTable
from training.outcomes.table_checks import CheckedTable
from training.outcomes.table_outcomes import TableOutcomes
from zoo.errors import DataError, StaleError
from zoo.files import atomic_path, encode_record, read_record, sha256_bytes, sha256_file, write_atomic
from zoo.types import ModelName, NonNegative, Positive, Sha256

OUTCOMES_FILE = "outcomes.json"
OUTCOMES_VERSION = 1


class TableFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A feature of a table, and whether some rows lack it."""

    name: str
    gaps: bool


class TableRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a profile of a table was made from."""

    schema_version: Positive
    data_sha256: Sha256  # of the table, as it was checked
    unit: str  # of costs
    models: dict[ModelName, Evidence]  # name → what a router is told of its answers
    evidence: Evidence  # what policies know of models that ran
    classes: NonNegative  # of the logits that policies see; 0: none
    features: tuple[TableFeature, ...]
    graded: bool
    splits: SplitRecord
    samples: Positive
    left_out: (
        NonNegative  # rows with gaps in outcomes, and further samples of one original in certify and test
    )
    file: str  # outcomes-<12 digits>.parquet
    sha256: Sha256
    notes: tuple[str, ...] = ()


def is_table(folder: str | Path) -> bool:
    """Whether a profile is one of outcomes that were measured elsewhere."""
    return (Path(folder) / OUTCOMES_FILE).is_file()


def store_table(
    checked: CheckedTable, folder: str | Path, *, splits: Splits | None = None, restart: bool = False
) -> TableRecord:
    """Write a profile: splits are by group, and certify and test keep one sample of each group.

    Raises
    ------
    StaleError
        When `folder` holds a profile of other outcomes or images, and `restart` is False.
    DataError
        When a split with a share comes out empty.

    Examples
    --------
    >>> from training.outcomes.table import read_table
    >>> from training.outcomes.table_checks import check_table
    >>> from training.outcomes.table_profile import store_table
    >>> record = store_table(check_table(read_table("answers.csv", unit="usd")), "new-profile")
    >>> record.evidence, record.unit
    ('score', 'usd')
    """
    table, target, dealt = checked.table, Path(folder), splits or Splits()
    if dealt.train:
        raise DataError(
            "expected no share for training, got one: nothing is trained on outcomes. Leave it out."
        )
    names = dealt.assign(table.groups.tolist())
    used = one_environment_per_group(
        table.groups.tolist(), table.environments.tolist(), names.tolist(), seed=dealt.seed
    )
    for name in ALL_SPLITS:
        if getattr(dealt, name) > 0 and not (names == name).any():
            raise DataError(
                f"expected inputs in the split {name!r}, got none: {len(set(table.groups.tolist())):,} that "
                "do not share a group are too few. Give more rows, or a larger share with --split."
            )
    digest = _digest(table)
    record_of_splits = SplitRecord(
        seed=dealt.seed, train=0.0, fit=dealt.fit, tune=dealt.tune, certify=dealt.certify, test=dealt.test
    )
    if not restart:
        _check_replaceable(target, digest, record_of_splits)
    evidence, tells, scores, logits = _evidence(table)
    graded = bool((~np.isin(table.right, (0.0, 1.0))).any())
    texts = {
        "id": pa.array(table.ids[used].tolist()),
        "group": pa.array(table.groups[used].tolist()),
        "environment": pa.array(table.environments[used].tolist()),
        "split": pa.array(names[used].tolist()),
        "label": pa.array((np.full(len(table), -1) if table.labels is None else table.labels)[used]),
    }
    numbers: dict[str, NDArray[np.floating]] = {
        "right": table.right,
        "cost": table.paid,
        "score": scores,
        "features": table.features,
        "logits": logits.reshape(len(table), -1),
    }
    wide = {name: lists_of(values[used]) for name, values in numbers.items() if values.shape[1]}
    target.mkdir(parents=True, exist_ok=True)
    name, sha256 = _write(pa.table(texts | wide), target)
    record = TableRecord(
        schema_version=OUTCOMES_VERSION,
        data_sha256=digest,
        unit=table.unit,
        models=dict(zip(table.models, tells, strict=True)),
        evidence=evidence,
        classes=logits.shape[2],
        features=tuple(
            TableFeature(name=feature, gaps=bool(np.isnan(table.features[:, j]).any()))
            for j, feature in enumerate(table.feature_names)
        ),
        graded=graded,
        splits=record_of_splits,
        samples=int(used.sum()),
        left_out=checked.left_out + int((~used).sum()),
        file=name,
        sha256=sha256,
        notes=checked.notes,
    )
    write_atomic(target / OUTCOMES_FILE, encode_record(record))
    if restart:
        (target / PROFILE_FILE).unlink(missing_ok=True)
    for path in target.glob("outcomes-*.parquet"):
        if path.name != name:
            path.unlink(missing_ok=True)
    return record


def read_table_record(folder: str | Path) -> TableRecord:
    """The record of a profile of a table; raises :class:`DataError` where there is none."""
    path = Path(folder) / OUTCOMES_FILE
    if not path.is_file():
        raise DataError(
            f"expected outcomes in {folder}, got no {OUTCOMES_FILE} there. Make them with 'zooselect "
            "outcomes'."
        )
    return read_record(path, TableRecord, schema_version=OUTCOMES_VERSION)


def load_table_outcomes(
    folder: str | Path,
    *,
    splits: Sequence[str] = (FIT, TUNE, CERTIFY),
    models: Sequence[str] = (),
) -> TableOutcomes:
    """Read outcomes of a table; features keep their gaps as NaN, scores are as in the table.

    Parameters
    ----------
    splits
        Which samples to read. The test split is read only when it is named.
    models
        Only these; by default all.

    Raises
    ------
    DataError
        When there are none, the file is damaged, or a model is unknown.

    Examples
    --------
    >>> from training.outcomes.table_profile import load_table_outcomes
    >>> outcomes = load_table_outcomes("table-profile")
    >>> outcomes.quality.shape == (len(outcomes), 2)
    True
    """
    source = Path(folder)
    record = read_table_record(source)
    path = source / record.file
    if not path.is_file() or sha256_file(path) != record.sha256:
        raise DataError(
            f"{path}: expected the outcomes of {OUTCOMES_FILE}, got other ones or none. "
            "Read the table again with 'zooselect outcomes'."
        )
    table = pq.read_table(path)
    chosen = np.isin(np.array(table["split"].to_pylist()), splits)
    if not chosen.any():
        raise DataError(f"{path}: expected samples in split {' or '.join(splits)}, got none. Give more rows.")
    count, width = table.num_rows, len(record.models)

    def flat(name: str, columns: int) -> NDArray[np.float64]:
        if columns == 0:
            return np.empty((int(chosen.sum()), 0))
        values = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        if values.size != count * columns:
            raise DataError(
                f"{path}: expected {columns} numbers a row in {name!r}, got others. Read the table again."
            )
        found: NDArray[np.float64] = values.reshape(count, columns)[chosen].astype(np.float64)
        return found

    right = flat("right", width)
    logits = np.zeros((int(chosen.sum()), width, max(record.classes, 1)), np.float32)
    if record.classes:
        logits[:] = flat("logits", width * record.classes).reshape(logits.shape)
    outcomes = TableOutcomes(
        classes=tuple(str(place) for place in range(record.classes)),
        models=tuple(record.models),
        ids=np.array(table["id"].to_pylist())[chosen],
        labels=table["label"].to_numpy().astype(np.int64)[chosen],
        environments=np.array(table["environment"].to_pylist())[chosen],
        groups=np.array(table["group"].to_pylist())[chosen],
        splits=np.array(table["split"].to_pylist())[chosen],
        logits=logits,
        features=flat("features", len(record.features)),  # type: ignore[arg-type]
        feature_names=tuple(feature.name for feature in record.features),
        quality=right if record.graded else right > 0.5,
        paid=flat("cost", width),
        scores=flat("score", width),
        estimated=np.empty((int(chosen.sum()), 0), np.float32),
    )
    unknown = [name for name in models if name not in record.models]
    if unknown:
        raise DataError(
            f"expected models among {', '.join(record.models)}, got {', '.join(unknown)}. Name others."
        )
    return outcomes.with_models([name for name in record.models if name in models]) if models else outcomes


def _evidence(
    table: OutcomeTable,
) -> tuple[Evidence, list[Evidence], NDArray[np.float64], NDArray[np.float32]]:
    """What policies see, what each model tells, scores ``[n, M]`` and logits ``[n, M, C]``, C = 0 for none.

    Logits are seen where all models have those of the same classes, and the label says which is right;
    elsewhere the log-odds of their top class are scores.
    """
    widths = {values.shape[1] for values in table.logits.values()}
    if len(table.logits) == len(table.models) and len(widths) == 1 and table.labels is not None:
        logits = np.stack([table.logits[name] for name in table.models], axis=1)
        agree = (logits.argmax(axis=2) == table.labels[:, np.newaxis]) == (table.right > 0.5)
        if agree.all() and np.isin(table.right, (0.0, 1.0)).all():
            none = np.zeros(table.scores.shape)
            return "logits", ["logits"] * len(table.models), none, logits
    scores, tells = table.scores.copy(), []
    for j, name in enumerate(table.models):
        kind: Evidence = "none"
        if np.isfinite(scores[:, j]).all():
            kind = "score"
        elif name in table.logits:
            kind = "logits"
            scores[:, j] = confidence(table.logits[name])[0]
        else:
            scores[:, j] = 0.0
        tells.append(kind)
    seen: Evidence = "score" if any(kind != "none" for kind in tells) else "none"
    return seen, tells, scores, np.empty((len(table), len(table.models), 0), np.float32)


def _digest(table: OutcomeTable) -> str:
    """SHA-256 of everything in a table that choices may depend on."""
    arrays = (table.right, table.paid, table.scores, table.features, *table.logits.values())
    texts = ("\0".join(part.tolist()) for part in (table.ids, table.groups, table.environments))
    head = msgspec.json.encode((table.models, table.feature_names, table.unit, list(table.logits), *texts))
    labels = b"" if table.labels is None else table.labels.tobytes()
    return sha256_bytes(b"\0".join([head, *(np.ascontiguousarray(one).tobytes() for one in arrays), labels]))


def _write(table: pa.Table, folder: Path) -> tuple[str, str]:
    """The file's name, with the first digits of its digest, and the digest."""
    with atomic_path(folder / "outcomes-new.parquet") as temporary:
        pq.write_table(table, temporary, compression="zstd")
        sha256 = sha256_file(temporary)
    name = f"outcomes-{sha256[:12]}.parquet"
    (folder / "outcomes-new.parquet").replace(folder / name)
    return name, sha256


def _check_replaceable(folder: Path, digest: str, splits: SplitRecord) -> None:
    if (folder / PROFILE_FILE).is_file():
        raise StaleError(
            f"expected a folder for outcomes, got {folder}, which holds a profile of images. Name another "
            "with --out, or replace it with --restart (in Python: restart=True)."
        )
    if is_table(folder):
        before = read_table_record(folder)
        if (before.data_sha256, before.splits) != (digest, splits):
            raise StaleError(
                f"expected the outcomes that {folder} was made from, got other ones or other splits. Name "
                "another folder with --out, or replace it with --restart (in Python: restart=True)."
            )
