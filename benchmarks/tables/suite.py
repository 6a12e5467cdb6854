"""One suite on a table from end to end: repeated splits, certificates, and what peers do with the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from tqdm import tqdm

from benchmarks.result import finish
from benchmarks.selection.compare import error, speedups, verdicts
from benchmarks.selection.guarantee import Guarantee
from benchmarks.tables.experiments import ExperimentPoint, by_experiment
from benchmarks.tables.repeated import MAX_DROP, TableRepetition, peers_for, repeat_table, violations
from benchmarks.tables.sources import SOURCES, prepare
from benchmarks.tables.targets import targets
from selector.commands.tables import table


def run_table_suite(
    name: str,
    *,
    data: Path | None,
    work: Path = Path("results/work"),
    splits: int = 10,
    peers: Sequence[str] | None = None,
    seed: int = 0,
    results: Path = Path("results"),
) -> dict[str, Any]:
    """Run a suite of :data:`benchmarks.tables.sources.SOURCES`: tables, a JSON line and a result file.

    Parameters
    ----------
    splits
        Repetitions with the samples dealt out anew.
    peers
        Names of the peers to compare with; by default all that can answer from what the table has.
    """
    record, outcomes = prepare(name, data, work)
    able = peers_for(outcomes, peers)
    found: list[TableRepetition] = []
    guarantees: list[Guarantee] = []
    for one in tqdm(range(seed, seed + splits), unit="split", disable=None, leave=False):
        figures, (choices, seen) = repeat_table(record, outcomes, one, able)
        found.append(figures)
        if one == seed and any(len(candidate.models) > 1 for candidate in choices.candidates):
            guarantees = violations(choices, seen, seed)
    experiments = by_experiment(record, outcomes, seed)
    figures_of = _figures(found, guarantees, able)
    print(f"{SOURCES[name].title}: {len(outcomes):,} samples, {len(outcomes.models)} models, {record.unit}")
    print(_peers_table(figures_of))
    print(_headlines(figures_of, record.unit))
    if experiments:
        print(_experiments_table(experiments, record.unit))
    held = targets(name, figures_of)
    print(*held, sep="\n")
    figures_of["targets"] = {one.what: one.holds for one in held}
    figures_of["experiments"] = msgspec.to_builtins(experiments)
    figures_of["runs"] = [msgspec.to_builtins(one) for one in found]
    results.mkdir(parents=True, exist_ok=True)
    return finish(name, figures_of, seed=seed, folder=results, file_only=("experiments", "runs"))


def _figures(
    found: Sequence[TableRepetition], guarantees: Sequence[Guarantee], peers: Sequence[str]
) -> dict[str, Any]:
    repetitions = [one.repetition for one in found]
    judged = verdicts(repetitions) if peers else []

    def mean(values: Sequence[float]) -> tuple[float, float]:
        array = np.array(values)
        return float(array.mean()), error(array)

    drops = [one.drop for one in found]
    return {
        "peers": [
            {
                "peer": item.peer,
                "mean_difference": item.mean,
                "mean_error": item.mean_error,
                "worst_difference": item.worst,
                "worst_error": item.worst_error,
                "levels": item.levels,
                "behind_levels": item.behind,
                "aiq": mean([one.aiq[item.peer] for one in found])[0],
                "promised_cost": mean([one.promised[item.peer] for one in found])[0],
                "proven_cost": mean([one.proven[item.peer] for one in found])[0],
            }
            for item in judged
        ],
        "aiq": mean([one.aiq["zooselect"] for one in found]),
        "at_reference": [
            {"offset": o, "gain": gain, "gain_error": ge, "ratio": ratio, "ratio_error": re}
            for o, gain, ge, ratio, re in speedups(repetitions)
        ],
        "reference": mean([one.repetition.named.accuracy for one in found]),
        "reference_cost": mean([one.drop.reference_cost for one in found]),
        "max_drop": MAX_DROP,
        "certified_drop": {
            "certified": sum(one.certified for one in drops),
            "cost": mean([one.cost for one in drops]),
            "promised_cost": mean([one.promised["zooselect"] for one in found])[0],
            "ratio": mean([one.reference_cost / one.cost for one in drops]),
            "drop": mean([one.reference - one.accuracy for one in drops]),
            "violated_on_test": sum(
                one.certified and one.reference - one.accuracy > MAX_DROP for one in drops
            ),
        },
        "oracle": {
            "accuracy": mean([one.oracle.accuracy for one in found])[0],
            "cost": mean([one.oracle.mean_ms for one in found])[0],
        },
        "guarantee": [
            {
                "precision": one.precision,
                "samples": one.samples,
                "draws": one.draws,
                "certified": one.certified,
                "violated": one.violated,
            }
            for one in guarantees
        ],
        "repetitions": len(found),
    }


def _peers_table(figures: dict[str, Any]) -> str:
    rows = [
        [
            one["peer"],
            f"{one['mean_difference'] * 100:+.2f} ± {one['mean_error'] * 100:.2f}",
            f"{one['worst_difference'] * 100:+.2f} ± {one['worst_error'] * 100:.2f}",
            f"{one['behind_levels']} of {one['levels']}",
            f"{one['aiq']:.4f}",
            f"{one['promised_cost']:.4g}",
            f"{one['proven_cost']:.4g}",
        ]
        for one in figures["peers"]
    ]
    drop = figures["certified_drop"]
    costs = [f"{drop['promised_cost']:.4g}", f"{drop['cost'][0]:.4g}"]
    rows.append(["zooselect", "", "", "", f"{figures['aiq'][0]:.4f}", *costs])
    heads = [
        "method",
        "ours ahead, points",
        "worst level",
        "levels behind",
        "AIQ",
        f"cost at drop {MAX_DROP:g}",
        "the same, certified",
    ]
    return table(heads, rows, "lrrrrrr")


def _experiments_table(found: Sequence[ExperimentPoint], unit: str) -> str:
    rows = [
        [
            one.experiment,
            f"{one.samples:,}",
            "yes" if one.drop.certified else "no",
            f"{one.drop.cost:.4g}",
            f"{one.drop.reference_cost / one.drop.cost:.2f}",
            f"{one.drop.reference:.1%}",
            f"{(one.drop.reference - one.drop.accuracy) * 100:+.2f}",
        ]
        for one in found
    ]
    heads = ["a router of its own for", "certify samples", f"drop {MAX_DROP:g} certified", f"mean {unit}"]
    return table([*heads, "× cheaper", "reference on test", "points below it"], rows, "lrlrrrr")


def _headlines(figures: dict[str, Any], unit: str) -> str:
    drop, at = figures["certified_drop"], figures["at_reference"][0]
    lines = [
        f"at the reference's accuracy: {at['ratio']:.2f} ± {at['ratio_error']:.2f} × cheaper, "
        f"{at['gain'] * 100:+.2f} ± {at['gain_error'] * 100:.2f} points",
        f"certified drop of {MAX_DROP:g}: {drop['certified']} of {figures['repetitions']} splits, "
        f"{drop['cost'][0]:.4g} {unit} against {figures['reference_cost'][0]:.4g} ({drop['ratio'][0]:.2f}×), "
        f"{drop['drop'][0] * 100:+.2f} points below on test samples",
        f"oracle: {figures['oracle']['accuracy']:.1%} for {figures['oracle']['cost']:.4g} {unit}",
    ]
    lines += [
        f"precision {one['precision']:g}, {one['samples']} certify samples: {one['certified']} of "
        f"{one['draws']} draws "
        f"certified, {one['violated']} violated"
        for one in figures["guarantee"]
    ]
    return "\n".join(lines)
