"""Suite cuts: both parts against the whole at every place, and the best place of the plan against a clock."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.network.cut_server import Link, linked
from benchmarks.result import finish
from benchmarks.selection.zoos import Given, unpacked
from selector.commands.tables import table
from selector.worth.best_cut import HERE, LEAST_SAVED, Conditions, Way, all_ways
from training.data.folder import folder as image_folder
from training.data.images import LabelledImages
from zoo.convert.add import add_cifar_resnet, add_efficientnet_lite
from zoo.convert.cut.codes import find_ranges
from zoo.convert.cut.cuttable import IMAGE, LOGITS, prepare
from zoo.convert.cut.measure import encode, measure_cuts
from zoo.convert.cut.places import Place, find_places
from zoo.convert.cut.split import CODES, TENSOR, split, with_codes
from zoo.errors import DataError
from zoo.files import read_verified
from zoo.inputs.image import check_image
from zoo.models.card import match_classes
from zoo.models.cuts import CutTable
from zoo.models.session import open_session
from zoo.models.zoo import Zoo

MODELS = ("resnet56", "efficientnet-lite0")
RATES_MBPS = (2.0, 5.0, 20.0, 100.0, 500.0)
CONDITIONS = ((1.0, 8.0), (20.0, 30.0))  # round trip in ms, and by how much the device is slower
CALIBRATION = 64
FLOAT_IMAGES = 8
TIMED = 8  # images that a plan is made from
ROUNDS = 6  # runs on each of them of ways that are planned to take at most NEAR times the best; of others one
NEAR = 1.5
PLAN_RUNS = 40  # of each part, for the plan
# Two ways are equal where they differ by no more than this share, or than so many standard errors of the mean
# difference over images.
EQUAL_SHARE, EQUAL_ERRORS = LEAST_SAVED, 2.0
HEADS = ("", "place", "work before", "8-bit", "packed", "× JPEG", "same class", "right", "parts − one")
CLOCK_HEADS = ("Mbit/s", "raw stays", "plan", "planned ms", "measured ms", "measured best", "ms", "ratio", "")


Batches = list[NDArray[np.uint8]]


@dataclass(frozen=True)
class _Cuttable:
    """A model, its places and images."""

    name: str
    content: bytes
    places: tuple[Place, ...]
    resolution: tuple[int, int]
    calibration: Batches
    judges: Batches
    labels: NDArray[np.int64]  # indices into the model's classes


def run_cuts(
    given: Given, *, models: Sequence[str] = MODELS, images: int = 200, results: Path = Path("results")
) -> dict[str, Any]:
    """Run the suite, print its tables and its JSON line, write a result file."""
    figures: dict[str, Any] = {"images": images, "models": {}}
    for name in models:
        zoo, data, labels = _model(name, given)
        chosen = np.random.default_rng(given.seed).permutation(len(data))[: CALIBRATION + images]
        batches = [check_image(data.image(int(i))) for i in chosen]
        card = zoo.card(name)
        whole = read_verified(zoo.folder / card.file, card.sha256, card.size_bytes)
        content = prepare(whole, card.resolution, name=name)
        every = find_places(content, card.resolution, name=name, every=True)
        cuttable = _Cuttable(
            name,
            content,
            find_places(content, card.resolution, name=name),
            card.resolution,
            batches[:CALIBRATION],
            batches[CALIBRATION:],
            labels[chosen[CALIBRATION:]],
        )
        print(f"\n{name}: {len(every)} places, {len(cuttable.places)} of them with work between them")
        worst = _float_difference(cuttable, every)
        print(
            f"float: the logits of both parts differ from the whole's by {worst:.1e} of the largest at most"
        )
        pixels = [batch[0] for batch in cuttable.calibration]
        coded = _coded(cuttable, measure_cuts(zoo, name, pixels))
        timed = []
        for rtt_ms, slower in CONDITIONS:
            cuts = measure_cuts(zoo, name, pixels[:TIMED], runs=PLAN_RUNS)
            timed += _against_the_clock(cuttable, cuts, rtt_ms, slower, seed=given.seed)
        figures["models"][name] = {
            "places": len(every),
            "float_difference": worst,
            "cuts": coded,
            "timed": timed,
        }
    return finish("cuts", figures, seed=given.seed, folder=results, file_only=("models",))


def _model(name: str, given: Given) -> tuple[Zoo, LabelledImages, NDArray[np.int64]]:
    """A zoo with the model, images, and their labels among its classes."""
    if given.data is None or given.weights is None:
        raise DataError("expected --data and --weights, folders with real images and weights, got none.")
    zoo = Zoo.open_or_create(given.work / "cuts")
    if name == "resnet56":
        if name not in zoo.names:
            add_cifar_resnet(zoo, 56, given.weights / "cifar10-resnet56.npz")
        data = image_folder(unpacked(given, "cifar10-test.zip", "test"))
    elif name == "efficientnet-lite0":
        if name not in zoo.names:
            classes = (given.data / "imagenet-wnids.txt").read_text().split()
            add_efficientnet_lite(zoo, 0, classes=classes)
        data = image_folder(unpacked(given, "imagenet-600.zip", "imagenet"))
    else:
        raise DataError(f"expected models among {', '.join(MODELS)}, got {name!r}.")
    index = np.array(match_classes(data.classes, zoo.card(name).classes, model=name))
    return zoo, data, index[data.labels]


def _float_difference(model: _Cuttable, every: Sequence[Place]) -> float:
    """The largest difference of a logit over all places, as a share of the largest logit."""
    batches = model.judges[:FLOAT_IMAGES]
    whole = _logits(model.content, batches)
    worst = 0.0
    for place in every:
        head, tail = split(model.content, place, name=model.name)
        first, second = open_session(head, name="head"), open_session(tail, name="tail")
        for batch, expected in zip(batches, whole, strict=True):
            values = first.run([TENSOR], {IMAGE: batch})[0]
            got = second.run([LOGITS], {TENSOR: values})[0][0]
            worst = max(worst, float(np.abs(got - expected).max() / np.abs(expected).max()))
    return worst


def _coded(model: _Cuttable, cuts: CutTable) -> list[dict[str, Any]]:
    """What 8-bit codes at each place change, and whether both parts answer as the one model does."""
    whole = _logits(model.content, model.judges)
    ranges = find_ranges(model.content, model.places, model.calibration, name=model.name)
    accuracy = float((whole.argmax(axis=1) == model.labels).mean())
    picture = next(one.size_bytes for one in cuts.encoded if one.encoding == "jpeg")
    rows = []
    for place, cut in zip(model.places, cuts.cuts, strict=True):
        steps = ranges[place.tensor].steps()
        head, tail = split(model.content, place, steps=steps, name=model.name)
        first, second = open_session(head, name="head"), open_session(tail, name="tail")
        codes = [first.run([CODES], {IMAGE: batch})[0] for batch in model.judges]
        got = np.concatenate([second.run([LOGITS], {CODES: one})[0] for one in codes])
        one = _logits(with_codes(model.content, place, steps, name=model.name), model.judges)
        rows.append(
            {
                "tensor": place.tensor,
                "shape": list(place.shape),
                "work_before": round(cuts.share_before(cut), 4),
                "bytes": place.size,
                "packed_bytes": cut.encoded[1].size_bytes,
                "jpegs": place.size / picture,
                "same_class": float((got.argmax(axis=1) == whole.argmax(axis=1)).mean()),
                "accuracy": float((got.argmax(axis=1) == model.labels).mean()),
                "parts_and_one": float(np.abs(got - one).max() / np.abs(one).max()),
                "head_ms": cut.head_ms,
                "tail_ms": cut.tail_ms,
            }
        )
    print(table(HEADS, [_coded_row(number, row) for number, row in enumerate(rows, 1)], "rlrrrrrrr"))
    print(f"JPEG: {picture:,.0f} bytes; the whole model is right on {accuracy:.1%} of {len(whole)} images")
    return rows


def _coded_row(number: int, row: dict[str, Any]) -> list[str]:
    return [
        str(number),
        str(row["tensor"]),
        f"{row['work_before']:.1%}",
        f"{row['bytes']:,}",
        f"{row['packed_bytes']:,.0f}",
        f"{row['jpegs']:.2f}",
        f"{row['same_class']:.1%}",
        f"{row['accuracy']:.1%}",
        f"{row['parts_and_one']:.0e}",
    ]


def _against_the_clock(
    model: _Cuttable, cuts: CutTable, rtt_ms: float, slower: float, *, seed: int
) -> list[dict[str, Any]]:
    """Every way at every rate, measured over a slow link, and the plan's best among them."""
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        heads = _write_parts(model, Path(scratch))
        with linked(Path(scratch)) as link:
            for way in all_ways(cuts, Conditions(rate_mbps=1e5, rtt_ms=0.0)):  # opens sessions
                _answer(way, model.calibration[0], Conditions(rate_mbps=1e5, rtt_ms=0.0), heads, link)
            for rate in RATES_MBPS:
                at = Conditions(rate_mbps=rate, rtt_ms=rtt_ms, slower=slower)
                times = _measured(model, cuts, at, heads, link, seed)
                found += [_compared(times, at, raw_stays, cuts) for raw_stays in (False, True)]
    print(f"\n{model.name}, round trip {rtt_ms:g} ms, device {slower:g} times slower")
    print(table(CLOCK_HEADS, map(_clock_row, found), "rllrrlrrl"))
    best, equal = (sum(row["verdict"] == verdict for row in found) for verdict in ("best", "equal"))
    print(
        f"the plan's way is the fastest in {best} of {len(found)} cases, and as fast within noise in {equal}"
    )
    return found


def _clock_row(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['rate_mbps']:g}",
        "yes" if row["raw_stays"] else "no",
        row["plan"],
        f"{row['planned_ms']:.1f}",
        f"{row['plan_measured_ms']:.1f}",
        row["best"],
        f"{row['best_ms']:.1f}",
        f"{row['ratio']:.3f}",
        row["verdict"],
    ]


def verdict_of(plan: NDArray[np.float64], best: NDArray[np.float64]) -> str:
    """Whether two ways, in milliseconds ``[images]`` each, are "equal" within noise; else "slower".

    Examples
    --------
    >>> import numpy as np
    >>> from benchmarks.network.cuts import verdict_of
    >>> verdict_of(np.array([10.0, 11.0, 12.0]), np.array([9.0, 11.5, 11.8]))
    'equal'
    >>> verdict_of(np.array([12.0, 13.0, 14.1]), np.array([10.0, 11.0, 12.0]))
    'slower'
    """
    both = np.isfinite(plan) & np.isfinite(best)
    apart = plan[both] - best[both]
    error = float(apart.std(ddof=1) / np.sqrt(len(apart))) if len(apart) > 1 else 0.0
    noise = max(EQUAL_ERRORS * error, EQUAL_SHARE * float(best[both].mean()))
    return "equal" if float(apart.mean()) <= noise else "slower"


def _write_parts(model: _Cuttable, folder: Path) -> dict[str, Any]:
    """Write the whole and all tails for the server; the sessions of all heads, and of the whole."""
    ranges = find_ranges(model.content, model.places, model.calibration, name=model.name)
    (folder / "whole.onnx").write_bytes(model.content)
    heads = {HERE: open_session(model.content, name=model.name)}
    for number, place in enumerate(model.places, 1):
        head, tail = split(model.content, place, steps=ranges[place.tensor].steps(), name=model.name)
        (folder / f"{number}.onnx").write_bytes(tail)
        heads[place.tensor] = open_session(head, name="head")
    return heads


def _measured(
    model: _Cuttable, cuts: CutTable, at: Conditions, heads: dict[str, Any], link: Link, seed: int
) -> dict[Way, NDArray[np.float64]]:
    """Milliseconds ``[images]`` of every way, the least of some runs; ways that are far off ran on one."""
    ways = all_ways(cuts, at)
    rng = np.random.default_rng(seed)
    near: dict[Way, None] = {}
    for raw_stays in (False, True):
        allowed = all_ways(cuts, at, raw_stays=raw_stays)
        near |= {way: None for way in allowed if way.total_ms <= NEAR * allowed[0].total_ms}
    times = {way: np.full(TIMED, np.inf) for way in ways}
    for turn in range(ROUNDS):
        for image in range(TIMED):
            some = list(ways if turn == image == 0 else near)
            for k in rng.permutation(len(some)):
                taken = _answer(some[int(k)], model.calibration[image], at, heads, link)
                times[some[int(k)]][image] = min(times[some[int(k)]][image], taken)
    return times


def _answer(way: Way, batch: NDArray[np.uint8], at: Conditions, heads: dict[str, Any], link: Link) -> float:
    """Milliseconds of one answer; the device's part counts as often as it is slower, without a wait.

    That part runs once before, as the table's runs follow one another: else what cold caches cost would be
    multiplied.
    """
    _on_device(way, batch, heads)
    start = time.perf_counter()
    body, shape = _on_device(way, batch, heads)
    here_s = time.perf_counter() - start
    if way.where != HERE:
        part = str(way.number) if way.is_cut else "whole"
        link.ask(body, part=part, sends=way.sends, shape=shape, mbps=at.rate_mbps, rtt_ms=at.rtt_ms)
    return (time.perf_counter() - start + here_s * (at.slower - 1)) * 1e3


def _on_device(way: Way, batch: NDArray[np.uint8], heads: dict[str, Any]) -> tuple[bytes, list[int]]:
    """What the device sends, and the shape of the codes; nothing where all is computed here."""
    if way.where == HERE:
        heads[HERE].run([LOGITS], {IMAGE: batch})
        return b"", []
    if not way.is_cut:
        return encode(batch[0], way.sends), list(batch.shape)
    codes = heads[way.where].run([CODES], {IMAGE: batch})[0]
    return codes.tobytes(), list(codes.shape)


def _compared(
    taken: dict[Way, NDArray[np.float64]], at: Conditions, raw_stays: bool, cuts: CutTable
) -> dict[str, Any]:
    """The plan's best way beside the one that was fastest."""
    ways = all_ways(cuts, at, raw_stays=raw_stays)
    times = {way: float(one[np.isfinite(one)].mean()) for way, one in taken.items()}
    plan, best = ways[0], min(ways, key=lambda way: times[way])
    return {
        "rate_mbps": at.rate_mbps,
        "rtt_ms": at.rtt_ms,
        "slower": at.slower,
        "raw_stays": raw_stays,
        "plan": _name(plan),
        "planned_ms": plan.total_ms,
        "plan_measured_ms": times[plan],
        "best": _name(best),
        "best_ms": times[best],
        "ratio": times[plan] / times[best],
        "verdict": "best" if plan == best else verdict_of(taken[plan], taken[best]),
        "ways": {_name(way): [way.total_ms, times[way]] for way in ways},
    }


def _name(way: Way) -> str:
    where = f"cut {way.number}" if way.is_cut else way.where
    return f"{where}, {way.sends}" if way.sends else where


def _logits(content: bytes, batches: Batches) -> NDArray[np.float32]:
    session = open_session(content, name="whole")
    found: NDArray[np.float32] = np.concatenate([session.run([LOGITS], {IMAGE: one})[0] for one in batches])
    return found
