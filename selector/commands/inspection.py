"""The command inspect: what a bundle, or a selector in one file, answers with and what is proven for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from selector.commands.options import DEVICE_PANEL, BundleArgument, JsonOption
from selector.commands.say import say
from selector.commands.tables import table


def inspect(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Say what a bundle or a selector in one file holds: models, policy, and what is certified.

    Nothing is run, and no graph is opened. Example: zooselect inspect selector.onnx
    """
    facts = _of_file(bundle) if bundle.is_file() else _of_folder(bundle)
    if as_json:
        say(json.dumps(facts))
        return
    models, proofs = facts.pop("models"), facts.pop("certificates")
    for name, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        say(f"{name.replace('_', ' ')}: {'none' if shown in (None, '') else shown}")
    say("\n" + table(["model", "here", "size MB", "mean ms"], [_row(one) for one in models], "llrr"))
    if proofs:
        rows = [[p["constraint"], p["environment"] or "all", f"{p['confidence']:g}"] for p in proofs]
        say("\n" + table(["certified", "environment", "confidence"], rows, "llr"))
    else:
        say("\nNothing is certified.")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=DEVICE_PANEL)(inspect)


def _row(one: dict[str, Any]) -> list[str]:
    return [
        one["name"],
        "yes" if one["here"] else "no",
        f"{one['size_bytes'] / 1e6:.2f}",
        f"{one['mean_ms']:.3g}",
    ]


def _of_file(path: Path) -> dict[str, Any]:
    from selector.bundle.one_file import read_one_file

    record, content = read_one_file(path)
    return {
        "kind": "one file",
        "answers_for": str(record.constraint),
        "environment": record.environment,
        **_of_bundle(record.bundle, record.models),
        "size_bytes": len(content),
        "drift_features": record.drift,
        "opset": record.opset,
        "min_onnxruntime": record.min_onnxruntime,
        "written_by": f"zooselect {record.zooselect}",
    }


def _of_folder(folder: Path) -> dict[str, Any]:
    from selector.bundle.bundle import read_bundle
    from selector.bundle.source import FolderSource

    bundle = read_bundle(folder)
    held = FolderSource(folder).held(bundle)
    return {"kind": "bundle", "default": str(bundle.default), **_of_bundle(bundle, held)}


def _of_bundle(bundle: Any, held: tuple[str, ...]) -> dict[str, Any]:
    """What both have in common; of the certificates, those that count for the models that are there."""
    from selector.bundle.bundle import valid_certificates

    costs, index = bundle.costs_ms(), bundle.policy_for(held)
    followed = None if index is None else bundle.policies[index]
    proofs = [] if index is None else valid_certificates(bundle, index)
    return {
        "task": bundle.task,
        "classes": list(bundle.classes),
        "reference": bundle.reference,
        "policy": None if followed is None else str(followed.__struct_config__.tag),
        "policy_models": [] if followed is None else list(followed.models),
        "device": costs.device,
        "provider": bundle.calibration.provider_name,
        "drift_reference": bundle.drift is not None,
        "models": [
            {
                "name": card.name,
                "here": card.name in held,
                "size_bytes": card.size_bytes,
                "mean_ms": costs.models[card.name],
            }
            for card in bundle.models
        ],
        "certificates": [
            {
                "constraint": str(one.constraint),
                "environment": one.environment,
                "confidence": one.confidence,
                "samples": one.samples,
                "threshold": one.threshold,
            }
            for one in proofs
        ],
    }
