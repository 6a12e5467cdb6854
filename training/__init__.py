"""From labelled images and a zoo to a certified selector. Needs the ``train`` extra."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.evaluation.evaluate import evaluate
    from training.fitting.export import export_bundle
    from training.fitting.fit import fit
    from training.fitting.options import FitOptions
    from training.outcomes.profile import profile

__all__ = ["FitOptions", "evaluate", "export_bundle", "fit", "profile"]

# Loaded when first asked for: torch and scikit-learn take seconds.
_PLACES = {
    "FitOptions": "training.fitting.options",
    "evaluate": "training.evaluation.evaluate",
    "export_bundle": "training.fitting.export",
    "fit": "training.fitting.fit",
    "profile": "training.outcomes.profile",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(importlib.import_module(_PLACES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
