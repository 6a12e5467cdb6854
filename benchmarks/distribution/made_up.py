"""A bundle with made-up costs and certificates, for suites in which it only matters that it answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from selector.bundle.bundle import BUNDLE_FILE, SCHEMA_VERSION, Bundle, DeviceCosts
from selector.bundle.calibration import Calibration
from selector.bundle.certificate import Certificate
from selector.policies.cascade import CascadePolicy, Stage
from selector.policies.constraint import Constraint
from zoo.files import encode_record, write_atomic
from zoo.models.zoo import Zoo


def cascade_bundle(folder: Path, zoo: Zoo, task: str, costs_ms: Mapping[str, float]) -> Path:
    """A bundle that says to run the first model, after which no other is ever needed, or this one alone.

    The cascade of all models is certified with half the time of the first model alone, so that the other
    models are worth fetching.

    Parameters
    ----------
    costs_ms
        Model → its cost; the most accurate model first.
    """
    cards = tuple(zoo.card(name) for name in costs_ms)
    stages = tuple(Stage(model=name, scale=1.0, offset=0.0) for name in costs_ms)
    bundle = Bundle(
        schema_version=SCHEMA_VERSION,
        task=task,
        classes=cards[0].classes,
        models=cards,
        by_accuracy=tuple(costs_ms),
        policies=(CascadePolicy(stages=stages), CascadePolicy(stages=stages[:1])),
        default=Constraint(kind="precision", level=0.9),
        certificates=(),
        costs=(DeviceCosts(device="any", threads=1, image=(32, 32), models=dict(costs_ms)),),
        calibration=Calibration(data_sha256="0" * 64, fit=1, tune=1, certify=1),
    )
    alone_ms = costs_ms[cards[0].name]
    certificates = tuple(
        Certificate(
            constraint=bundle.default,
            confidence=0.9,
            policy=i,
            threshold=0.0,
            samples=1,
            accuracy=0.95,
            mean_ms=mean_ms,
            p_value=0.0,
            subject_sha256=bundle.subject(i),
        )
        for i, mean_ms in enumerate((alone_ms / 2, alone_ms))
    )
    proven = msgspec.structs.replace(bundle, certificates=certificates)
    write_atomic(folder / BUNDLE_FILE, encode_record(proven))
    return folder
