"""What a search found, for the next constraint: nothing in it depends on the constraint, so it is kept.

The file is an ``.npz`` without pickle beside the profile, named by the digest of all that the search depends
on. It holds the scout and its log-odds, what was measured, the chosen features with their graphs, for
every candidate the counts of its frontier, and how models of fitted pools are recalibrated. A file that is
broken, or is of another search, is not used.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from selector.policies.pool import Scaling
from selector.routing.record import estimate_names
from training.features.feature_kind import ScoutLike
from training.features.kinds import features_of
from training.outcomes.folds import FOLDS, HALVINGS
from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Outline
from training.search.input_fit import InputFit
from training.search.pools import Recalibrated, ScalingMethod
from training.search.tuning import Tuned
from zoo.errors import DataError
from zoo.files import read_npz, write_atomic
from zoo.inputs.kind import InputKind
from zoo.inputs.kinds import IMAGE
from zoo.models.latency import LatencyTable
from zoo.models.zoo import Zoo
from zoo.types import NonNegative

SEARCH_VERSION = 10  # of what a search does; another one finds other things
MAX_FILES = 8  # searches that are kept beside a profile, the latest ones
MAX_BYTES = 2**31  # of the contents of a file
_ARRAYS = {
    "scout": np.uint8,
    "scout_log_odds": np.float32,
    "graph": np.uint8,
    "scores": np.uint8,
    "folded": np.float64,
    "estimated": np.float32,
    "places": np.float64,
    "right": np.int64,
    "halves": np.int64,
    "ways": np.int64,
    "costs_ms": np.float64,
    "counts": np.int64,
    "scalings": np.float64,
}


@dataclass(frozen=True)
class Searched:
    """What was trained, measured and simulated."""

    scout: ScoutLike | None
    scout_log_odds: NDArray[np.float32]  # [n, M] of all outcomes; without a scout [n, 0]
    stage_ms: float
    confidence_ms: float
    input_fit: InputFit | None
    frontiers: dict[str, list[Outline]] = field(default_factory=dict)  # see Situation.outline
    scalings: dict[str, Recalibrated] = field(default_factory=dict)  # of pools that were fitted
    # [n, M] of a table's fit and tune samples: scores by estimators that did not see them; else [0, 0]
    estimated: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))


class _Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the numbers of one model's scalings: a scale, then biases and weights, for every fit."""

    method: ScalingMethod
    fits: Annotated[int, msgspec.Meta(ge=1, le=100)]
    biases: NonNegative
    rows: NonNegative  # of weights, each with one number a class
    classes: NonNegative

    @property
    def numbers(self) -> int:
        return 1 + self.biases + self.rows * self.classes


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    stage_ms: float
    confidence_ms: float
    order: tuple[str, ...]
    tuned: Tuned | None
    cost_ms: float
    frontiers: dict[str, int]  # candidate → number of points
    scalings: dict[str, _Form]


def search_key(
    outcomes: Outcomes,
    zoo: Zoo,
    table: LatencyTable,
    *,
    kinds: Sequence[str],
    grid: int,
    scout: bool,
    seed: int,
    reference: str | None,
) -> str:
    """SHA-256 of all that a search depends on: outcomes, latency table, options, and what searches do."""
    models = {card.name: card.sha256 for card in zoo.cards}
    table = msgspec.structs.replace(table, paths=())  # of policies, which are built after the search
    pool = features_of(zoo.kind).version
    return _digest(outcomes, (pool, models, table, kinds, grid, scout, seed, reference))


def table_search_key(outcomes: Outcomes, *, kinds: Sequence[str], seed: int, reference: str | None) -> str:
    """The same of a search on outcomes of a table."""
    return _digest(outcomes, ("table", kinds, seed, reference))


def _digest(outcomes: Outcomes, parts: tuple[Any, ...]) -> str:
    digest = hashlib.sha256()
    version = importlib.metadata.version("zooselect")
    digest.update(msgspec.json.encode((SEARCH_VERSION, version, *parts), order="deterministic"))
    for item in fields(outcomes):
        value = getattr(outcomes, item.name)
        if isinstance(value, np.ndarray):
            digest.update(f"{item.name} {value.dtype.str} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).view(np.uint8).data)
        elif isinstance(value, dict):
            for name, array in sorted(value.items()):
                digest.update(f"{item.name} {name} {array.dtype.str} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        else:
            digest.update(msgspec.json.encode((item.name, value)))
    return digest.hexdigest()


def save_searched(folder: Path, key: str, found: Searched) -> None:
    """Write what a search found, and remove the oldest searches of a folder with too many."""
    fit = found.input_fit
    points = [point for frontier in found.frontiers.values() for point in frontier]
    facts = _Facts(
        key,
        found.stage_ms,
        found.confidence_ms,
        () if fit is None else fit.order,
        None if fit is None else fit.tuned,
        0.0 if fit is None else fit.cost_ms,
        {name: len(frontier) for name, frontier in found.frontiers.items()},
        {name: _form(one) for name, one in found.scalings.items()},
    )
    arrays: dict[str, Any] = {
        "facts": _as_array(msgspec.msgpack.encode(facts)),
        "scout": _as_array(b"" if found.scout is None else found.scout.to_onnx()),
        "scout_log_odds": found.scout_log_odds,
        "graph": _as_array(b"" if fit is None else fit.graph),
        "scores": _as_array(b"" if fit is None else fit.scores),
        "folded": np.empty((0, 0)) if fit is None else fit.folded,
        "estimated": found.estimated,
        "places": np.array([(p.threshold, p.doubt) for p in points], np.float64).reshape(-1, 2),
        "right": np.array([(p.right, p.better, p.worse) for p in points], np.int64).reshape(-1, 3),
        "halves": np.array([p.halves for p in points], np.int64).reshape(-1, HALVINGS),
        "ways": np.array([len(p.counts) for p in points], np.int64),
        "costs_ms": np.concatenate([np.empty(0), *(p.costs_ms for p in points)]).astype(np.float64),
        "counts": np.concatenate([np.empty(0, np.int64), *(p.counts for p in points)]).astype(np.int64),
        "scalings": np.concatenate(
            [np.empty(0), *(_numbers(fit) for one in found.scalings.values() for fit in one.fits)]
        ),
    }
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_atomic(_path(folder, key), content.getvalue())
    latest = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
    for path in latest[:-MAX_FILES]:
        path.unlink(missing_ok=True)


def load_searched(
    folder: Path, key: str, *, outcomes: Outcomes, compared: int, kind: InputKind = IMAGE
) -> Searched | None:
    """What a search with this key found, or None where there is none.

    Parameters
    ----------
    outcomes
        What the search was given.
    compared
        Number of samples that candidates were compared on.
    kind
        The kind of input, whose scout is read.

    Raises
    ------
    DataError
        When the file is broken or is of another search.
    """
    path = _path(folder, key)
    if not path.is_file():
        return None
    try:
        stored = read_npz(path, most_bytes=MAX_BYTES)
        arrays = {name: stored[name] for name in (*_ARRAYS, "facts")}
        facts = msgspec.msgpack.decode(arrays["facts"].tobytes(), type=_Facts)
        return _checked(facts, arrays, key, outcomes, compared, kind)
    except Exception as error:  # zip, numpy, msgspec and onnx have errors of their own
        raise DataError(f"{path}: expected what an earlier search found, got: {str(error)[:200]}.") from error


def _checked(
    facts: _Facts,
    arrays: dict[str, NDArray[Any]],
    key: str,
    outcomes: Outcomes,
    compared: int,
    kind: InputKind,
) -> Searched:
    scout = features_of(kind).scout_from(arrays["scout"].tobytes()) if arrays["scout"].size else None
    columns = 0 if scout is None else len(scout.names)
    points, ways = len(arrays["places"]), arrays["ways"]
    tuned = facts.tuned
    known = {*outcomes.feature_names, *(() if scout is None else scout.names)}
    wanted = {
        "the same search": facts.key == key,
        "types": all(arrays[name].dtype == kind for name, kind in _ARRAYS.items()),
        "log-odds of all samples": arrays["scout_log_odds"].shape == (len(outcomes), columns),
        "finite numbers": all(
            bool(np.isfinite(arrays[name]).all()) for name, kind in _ARRAYS.items() if kind != np.uint8
        ),
        "costs that are not negative": min(facts.stage_ms, facts.confidence_ms, facts.cost_ms) >= 0,
        "models": tuned is None or sorted(facts.order) == sorted(outcomes.models),
        "features": tuned is None or set(tuned.features) <= known,
        "scores": tuned is None or arrays["folded"].shape == (compared, len(facts.order)),
        "estimates": not arrays["estimated"].size or arrays["estimated"].shape[1] == len(outcomes.models),
        "points": sum(facts.frontiers.values()) == points == len(ways) == len(arrays["right"])
        and arrays["places"].ndim == arrays["right"].ndim == 2
        and arrays["halves"].shape == (points, HALVINGS)
        and min(facts.frontiers.values(), default=1) >= 1,
        "ways to end": bool((ways >= 1).all())
        and int(ways.sum()) == len(arrays["costs_ms"]) == len(arrays["counts"]),
        "scalings": sum(form.fits * form.numbers for form in facts.scalings.values())
        == len(arrays["scalings"])
        and set(facts.scalings) <= set(outcomes.models)
        and all(_fits(form, name, outcomes) for name, form in facts.scalings.items()),
    }
    for what, holds in wanted.items():
        if not holds:
            raise ValueError(f"other {what}")
    ends = np.cumsum(ways)
    samples = np.add.reduceat(arrays["counts"], ends - ways)
    answers, halves = arrays["right"], arrays["halves"]
    if (samples != compared).any() or ((answers[:, 0] < 0) | (answers[:, 0] > compared)).any():
        raise ValueError("other samples")
    if ((halves < 0) | (halves > answers[:, :1])).any():
        raise ValueError("other halves")
    costs, counts = arrays["costs_ms"], arrays["counts"]
    spans = zip([0, *ends.tolist()], ends.tolist(), strict=False)
    outlines = (
        Outline(threshold, doubt, costs[first:last], counts[first:last], right, better, worse, half)
        for (threshold, doubt), (first, last), (right, better, worse), half in zip(
            arrays["places"].tolist(), spans, answers.tolist(), halves, strict=True
        )
    )
    return Searched(
        scout,
        arrays["scout_log_odds"],
        facts.stage_ms,
        facts.confidence_ms,
        _input_fit(facts, arrays, scout),
        {name: list(islice(outlines, count)) for name, count in facts.frontiers.items()},
        dict(_scalings(facts.scalings, arrays["scalings"])),
        arrays["estimated"],
    )


def _input_fit(facts: _Facts, arrays: dict[str, NDArray[Any]], scout: ScoutLike | None) -> InputFit | None:
    if facts.tuned is None:
        return None
    used = scout is not None and bool(set(scout.names) & set(facts.tuned.features))
    graph, scores = arrays["graph"].tobytes(), arrays["scores"].tobytes()
    scout, folded = scout if used else None, arrays["folded"]
    estimates = estimate_names(facts.order) if arrays["estimated"].size else ()
    return InputFit(facts.order, facts.tuned, graph, scores, facts.cost_ms, scout, folded, estimates)


def _form(one: Recalibrated) -> _Form:
    fit = one.fits[-1]
    rows, classes = (0, 0) if fit.weights is None else fit.weights.shape
    return _Form(one.method, len(one.fits), 0 if fit.bias is None else len(fit.bias), rows, classes)


def _fits(form: _Form, name: str, outcomes: Outcomes) -> bool:
    """Whether scalings are of a form that the outcomes of a model can have."""
    classes, embedding = len(outcomes.classes), outcomes.embeddings.get(name)
    width = 0 if embedding is None else embedding.shape[1]
    rows = {"temperature": 0, "vector": 0, "matrix": classes, "head": width}
    return (
        form.fits in range(3, FOLDS + 2)
        and form.biases in (0, classes)
        and form.rows == rows[form.method]
        and form.classes == (classes if form.rows else 0)
    )


def _numbers(fit: Scaling) -> NDArray[np.float64]:
    bias = np.empty(0) if fit.bias is None else fit.bias
    weights = np.empty(0) if fit.weights is None else fit.weights.ravel()
    return np.concatenate([[fit.scale], bias, weights])


def _scalings(forms: Mapping[str, _Form], numbers: NDArray[np.float64]) -> Iterator[tuple[str, Recalibrated]]:
    first = 0
    for name, form in forms.items():
        fits = []
        for _ in range(form.fits):
            scale, bias, weights = np.split(numbers[first : first + form.numbers], [1, 1 + form.biases])
            fits.append(
                Scaling(
                    float(scale[0]),
                    bias if form.biases else None,
                    weights.reshape(form.rows, form.classes) if form.rows else None,
                    form.method == "head",
                )
            )
            first += form.numbers
        yield name, Recalibrated(form.method, tuple(fits))


def _path(folder: Path, key: str) -> Path:
    return folder / f"{key[:12]}.npz"


def _as_array(content: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(content, np.uint8)
