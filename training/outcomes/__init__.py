"""What every model says of every input, stored once; or measured elsewhere, in a table."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.outcomes.importers.estimators import from_estimators
    from training.outcomes.importers.text_pipelines import from_text_pipelines

__all__ = ["from_estimators", "from_text_pipelines"]

_HOMES = {
    "from_estimators": "training.outcomes.importers.estimators",
    "from_text_pipelines": "training.outcomes.importers.text_pipelines",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)  # on first use: heavy packages load then
