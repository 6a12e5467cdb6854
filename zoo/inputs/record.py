"""How records name a kind of input; alone, so that what reads records loads no kinds."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from zoo.types import Name


class InputRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a model card names the kind of its input; cards of models that look at images have none.

    Examples
    --------
    >>> from zoo.inputs.kind import InputRecord
    >>> from zoo.inputs.kinds import kind_of
    >>> kind_of(InputRecord(kind="signal", settings={"type": "int16", "rate": 16000})).rate
    16000
    """

    kind: Name
    settings: Annotated[dict[str, Any], Meta(max_length=16)] = {}
