"""The clock that The Update Framework's client looks at, stopped."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime, timezone, tzinfo
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import tuf.ngclient._internal.trusted_metadata_set as framework


def at(moment: datetime) -> AbstractContextManager[object]:
    """While this lasts, metadata expires as if it were `moment`."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return moment.astimezone(tz)

    return patch.object(framework, "datetime", SimpleNamespace(datetime=Clock, timezone=timezone))
