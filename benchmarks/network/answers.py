"""Part answers: a small model on the device, a large one behind a network; which inputs are worth asking for?

Simulated on repeated splits under several networks: at the accuracy of the model on the server, how many
bytes and how much time our policies take; and whether certificates hold. Then one network is a slow link on
loopback with a server behind it, and whole answers of an exported bundle are held against the clock.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from benchmarks.network.serving import serving
from benchmarks.network.verdicts import times_fewer, verdicts
from benchmarks.result import finish
from benchmarks.selection.adapted import copy_models
from benchmarks.selection.guarantee import BELOW_BEST, study
from benchmarks.selection.repeated import DELTA, Choices, deal
from benchmarks.selection.suite import search
from benchmarks.selection.zoos import Given, Prepared, prepare_cifar10, prepare_digits, prepare_photo_pair
from selector.answering.selector import Selector
from selector.commands.tables import table
from training.data.splits import CERTIFY, FIT, TEST, TUNE, Splits
from training.fitting.export import export_bundle
from training.fitting.fit import fit
from training.fitting.options import FitOptions
from training.links.slow_link import Rates, SlowLink, slow_link
from training.outcomes.outcomes import ALL_SPLITS, Outcomes, load_outcomes
from training.outcomes.profile import profile
from zoo.convert.cut.measure import encode
from zoo.convert.foreign.add_remote import add_remote
from zoo.models.latency import LatencyTable, measure
from zoo.models.model import Model
from zoo.models.zoo import Zoo
from zoo.remote.discover import Wanted
from zoo.remote.network import PRESETS, Network

HEADER_BYTES = 500  # of a request, and about as many of an answer
LOGIT_BYTES = 4
COUNTED = 32  # images that the bytes of a request are means of
NETWORKS = (
    Network(name="campus", rtt_ms=2.0, uplink_mbps=100.0, downlink_mbps=100.0),
    PRESETS["wifi"],
    PRESETS["5g"],
    PRESETS["4g"],
    Network(name="edge-of-cell", rtt_ms=100.0, uplink_mbps=1.0, downlink_mbps=4.0),
)
SPLITS = 10
CLOCKED = PRESETS["4g"]
BELOW = 0.005  # below the accuracy of a model: a precision that is asked for
SLACK = 0.04  # for photographs, of which there are few: below the accuracy of the model on the server
DIGITS_PRECISION = 0.92
FAST = Rates(rtt_ms=0.0, uplink_mbps=1e5, downlink_mbps=1e5)
ANSWERS = 300  # of the bundle that are timed


@dataclass(frozen=True)
class Pair:
    """A model for the device and one for the server, and what they are asked."""

    name: str
    prepare: Callable[[Given], Prepared]
    local: str
    remote: str
    sends: Literal["tensor", "jpeg"]
    asked: Mapping[str, float] = field(default_factory=dict)  # by the clock; none: a precision, see BELOW
    below_best: tuple[float, ...] = BELOW_BEST  # precisions that certificates are drawn for
    shares: Splits | None = None


CIFAR = Pair("network-answers", prepare_cifar10, "resnet20-int8", "resnet56", "tensor")
PHOTOS = Pair(
    "network-photos",
    prepare_photo_pair,
    "efficientnet-lite0",
    "efficientnet-lite2",
    "jpeg",
    asked={"max_drop": SLACK},
    below_best=(0.04, 0.06, 0.08, 0.12),
    shares=Splits(fit=0.25, tune=0.05, certify=0.55, test=0.15),
)
DIGITS = Pair(
    "network-digits", prepare_digits, "tiny", "full", "tensor", asked={"precision": DIGITS_PRECISION}
)


@dataclass(frozen=True)
class _Given:
    """A pair with its images, and what a request takes."""

    pair: Pair
    prepared: Prepared
    uplink_bytes: float
    downlink_bytes: float

    @classmethod
    def of(cls, pair: Pair, given: Given) -> _Given:
        whole = pair.prepare(given)
        prepared = replace(whole, zoo=whole.zoo.only([pair.local, pair.remote]), reference=pair.remote)
        images = [prepared.data.image(index) for index in range(COUNTED)]
        sent = {"tensor": "raw", "jpeg": "jpeg"}[pair.sends]
        up = float(np.mean([len(encode(image, sent)) for image in images]))
        down = LOGIT_BYTES * len(prepared.zoo.card(pair.remote).classes)
        return cls(pair, prepared, up + HEADER_BYTES, down + HEADER_BYTES)


def run_answers(given: Given, results: Path = Path("results")) -> dict[str, Any]:
    """Run the part on CIFAR-10, print its tables and its JSON line, write a result file."""
    return _run(_Given.of(CIFAR, given), given, results)


def run_photos(given: Given, results: Path = Path("results")) -> dict[str, Any]:
    """The same on photographs, which are sent as JPEG."""
    return _run(_Given.of(PHOTOS, given), given, results)


def run_digits(given: Given, results: Path = Path("results")) -> dict[str, Any]:
    """The same on the digits of the demo, which need no data."""
    return _run(_Given.of(DIGITS, given), given, results)


def _run(pair: _Given, given: Given, results: Path) -> dict[str, Any]:
    prepared = pair.prepared
    some = [prepared.data.image(index) for index in range(16)]
    here = measure(prepared.zoo, some, device="this-machine", seed=given.seed)
    outcomes = load_outcomes(prepared.profile, zoo=prepared.zoo, splits=ALL_SPLITS)
    rows = [_network(pair, outcomes, here, network, given.seed) for network in NETWORKS]
    heads = ["network", "asked there", "bytes, all asked", "ms, all asked", "accuracy − all asked"]
    heads += ["ms, the better of both", "false certificates"]
    print(table(heads, [_shown(row) for row in rows]))
    clock = _clock(given, pair, here)
    print(
        f"Behind a link of {CLOCKED.rtt_ms:g} ms and {CLOCKED.uplink_mbps:g} Mbit/s up: {clock['asked']:.3f} "
        f"of {clock['answers']} images asked, {clock['certified']:.0%} of answers certified, "
        f"mean {clock['mean_ms']:.1f} ms (all asked {clock['all_asked_ms']:.1f}, "
        f"planned {clock['planned_ms']:.1f}), {times_fewer(clock['bytes_ratio'])}. Asked: "
        f"{clock['constraint']} {clock['level']:g}, with {clock['certify_samples']} certify samples."
    )
    judged = verdicts(rows, clock, at=CLOCKED.name, delta=DELTA)
    for verdict in judged:
        print(verdict.line)
    figures = {"networks": rows, "clock": clock, "verdicts": [verdict.line for verdict in judged]}
    return finish(pair.pair.name, figures, seed=given.seed, folder=results)


def _network(
    pair: _Given, outcomes: Outcomes, here: LatencyTable, network: Network, seed: int
) -> dict[str, Any]:
    """Our policies on repeated splits under one network."""
    costs_ms = here.costs_ms(pair.prepared.zoo)
    asked_ms = network.answer_ms(
        uplink_bytes=pair.uplink_bytes,
        downlink_bytes=pair.downlink_bytes,
        server_ms=costs_ms[pair.pair.remote],
    )
    latency = _with_mean(here, pair.pair.remote, asked_ms)
    splits = [_split(pair, outcomes, latency, asked_ms, seed + k) for k in range(SPLITS)]
    held: dict[str, Any] = {name: float(np.mean([row[name] for row in splits])) for name in splits[0]}
    errors = {
        f"{name}_se": float(np.std([row[name] for row in splits], ddof=1) / np.sqrt(SPLITS))
        for name in splits[0]
    }
    counted = {name: int(sum(row[name] for row in splits)) for name in ("draws", "issued", "violated")}
    counted["worst_of_200"] = int(max(row["worst_of_200"] for row in splits))
    return {
        "network": network.name,
        "asked_ms": asked_ms,
        "here_ms": costs_ms[pair.pair.local],
        "uplink_bytes": pair.uplink_bytes,
        "bytes_ratio": 1 / held["asked"] if held["asked"] else float("inf"),
        "time_ratio": asked_ms / held["mean_ms"],
        **held,
        **errors,
        **counted,
    }


def _split(
    pair: _Given, outcomes: Outcomes, latency: LatencyTable, asked_ms: float, seed: int
) -> dict[str, float]:
    local, remote = pair.pair.local, pair.pair.remote
    dealt = deal(outcomes, seed, pair.pair.shares)
    considered = search(dealt, pair.prepared, latency, seed, kinds=("cascade",))
    ours = Choices(considered.candidates, considered.situation.outcomes, considered.situation.costs)
    known, test = dealt.split(FIT, TUNE).accuracy(), considered.outcomes.split(TEST)
    there = test.accuracy()
    as_there = ours.reaching(known[remote], test)
    asked = float((as_there.cost_ms >= asked_ms).mean())
    here_ms = considered.situation.costs[local]
    halfway = (known[local] + known[remote]) / 2
    slower = [
        ours.reaching(level, test).mean_ms / best_ms
        for level, best_ms in (
            (known[local] - BELOW, here_ms),
            (halfway, asked_ms),
            (known[remote], asked_ms),
        )
    ]
    proofs = study(ours, considered.outcomes, seed=seed, below_best=pair.pair.below_best, only_usual=True)
    return {
        "asked": asked,
        "gain": as_there.accuracy - there[remote],
        "mean_ms": as_there.mean_ms,
        "best_ratio": max(slower),
        "draws": float(sum(row.draws for row in proofs)),
        "issued": float(sum(row.certified for row in proofs)),
        "violated": float(sum(row.violated for row in proofs)),
        "worst_of_200": float(max(row.violated for row in proofs)),
    }


def _with_mean(here: LatencyTable, name: str, mean_ms: float) -> LatencyTable:
    """`here`, with a model that takes so long, and no more known of it."""
    row = here.models[name]
    latency = msgspec.structs.replace(
        row.latency, p50_ms=mean_ms, p50_low_ms=mean_ms, p50_high_ms=mean_ms, p95_ms=mean_ms, mean_ms=mean_ms
    )
    changed = msgspec.structs.replace(row, latency=latency)
    return msgspec.structs.replace(here, models={**here.models, name: changed}, paths=())


def _shown(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['network']} ({row['asked_ms']:.1f} ms)",
        f"{row['asked']:.3f}",
        f"{row['bytes_ratio']:.1f}×",
        f"{row['mean_ms']:.2f} ± {row['mean_ms_se']:.2f} ms, {row['time_ratio']:.1f}×",
        f"{100 * row['gain']:+.2f} ± {100 * row['gain_se']:.2f} points",
        f"{row['best_ratio']:.2f} of it at worst",
        f"{row['violated']} of {row['issued']}",
    ]


def _clock(given: Given, pair: _Given, here: LatencyTable) -> dict[str, Any]:
    """Whole answers of a bundle with a server behind a slow link, in turns with those of the server alone."""
    prepared, local, there = pair.prepared, pair.pair.local, pair.pair.remote
    work = given.work / pair.pair.name
    rates = Rates(rtt_ms=CLOCKED.rtt_ms, uplink_mbps=CLOCKED.uplink_mbps, downlink_mbps=CLOCKED.downlink_mbps)
    with (
        serving(prepared.zoo, 1, "--port", "0") as (address, _),
        slow_link(_host_and_port(address), **FAST) as link,
        tempfile.TemporaryDirectory(dir=_made(work)) as folder,
    ):
        zoo = Zoo.create(Path(folder) / "zoo")
        copy_models(prepared.zoo, zoo, [local])
        some = [prepared.data.image(index) for index in range(COUNTED)]
        asked = Wanted(encoding=pair.pair.sends)
        card = add_remote(zoo, link.url, there, name=there, wanted=asked, images=some)
        assert card.remote is not None
        shares = replace(pair.pair.shares or Splits(), seed=given.seed)
        profile(zoo, prepared.data, Path(folder) / "profile", splits=shares)
        link.become(**rates)
        times = measure(zoo, [prepared.data.image(i) for i in range(8)], device="loopback", runs=30)
        network = msgspec.structs.replace(CLOCKED, server_ms={there: here.costs_ms(prepared.zoo)[there]})
        known = load_outcomes(Path(folder) / "profile", zoo=zoo, splits=(FIT, TUNE)).accuracy()
        asked_for: dict[str, Any] = dict(pair.pair.asked) or {"precision": round(known[there] - BELOW, 3)}
        ((constraint, level),) = asked_for.items()
        options = replace(FitOptions(seed=given.seed), **asked_for)
        fitted = fit(Path(folder) / "profile", zoo, times, options, network=network)
        certify = load_outcomes(Path(folder) / "profile", zoo=zoo, splits=(CERTIFY,))
        export_bundle(fitted, zoo, Path(folder) / "bundle")
        test = load_outcomes(Path(folder) / "profile", zoo=zoo, splits=(TEST,))
        found = _timed(Path(folder) / "bundle", zoo.model(there), prepared, test.ids.tolist(), link)
        server_ms = network.server_ms[there]
        sizes = {"uplink_bytes": card.remote.uplink_bytes, "downlink_bytes": card.remote.downlink_bytes}
    return {
        **found,
        **sizes,
        "constraint": constraint,
        "level": level,
        "certify_samples": len(certify),
        "planned_ms": network.answer_ms(**sizes, server_ms=server_ms),
    }


def _timed(
    bundle: Path, alone: Model, prepared: Prepared, ids: Sequence[str], link: SlowLink
) -> dict[str, Any]:
    selector = Selector.load(bundle)
    places = {name: index for index, name in enumerate(prepared.data.ids)}
    images = [prepared.data.image(places[name]) for name in ids[:ANSWERS]]
    selector.predict(images[0])
    alone.run(images[0][np.newaxis])  # opens the connection
    ours_ms, alone_ms, sent, sent_alone, asked, certified = [], [], 0, 0, 0, 0
    for place, image in enumerate(images):
        before, start = link.sent_bytes, time.perf_counter()
        answer = selector.predict(image)
        ours_ms.append((time.perf_counter() - start) * 1e3)
        sent += link.sent_bytes - before
        asked += alone.card.name in answer.path
        certified += answer.certified
        if place % 3 == 0:
            before, start = link.sent_bytes, time.perf_counter()
            alone.run(image[np.newaxis])
            alone_ms.append((time.perf_counter() - start) * 1e3)
            sent_alone += link.sent_bytes - before
    each, each_alone = sent / len(ours_ms), sent_alone / len(alone_ms)
    return {
        "answers": len(images),
        "asked": asked / len(images),
        "certified": certified / len(images),
        "mean_ms": float(np.mean(ours_ms)),
        "all_asked_ms": float(np.mean(alone_ms)),
        "time_ratio": float(np.mean(alone_ms) / np.mean(ours_ms)),
        "bytes_ratio": each_alone / each if each else float("inf"),
    }


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.partition(":")
    return host, int(port)
