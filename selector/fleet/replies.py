"""Replies of the service that say no: what was expected, what arrived, what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
from starlette.responses import Response

MAX_GOT_CHARACTERS = 300


def refusal(
    status: int, *, expected: str, got: str, do: str, headers: Mapping[str, str] | None = None
) -> Response:
    """A refusal as JSON."""
    return reply(
        status,
        {"error": {"expected": expected, "got": got[:MAX_GOT_CHARACTERS], "do": f"{do}."}},
        headers,
    )


def retry_later(status: int, seconds: float, *, expected: str, got: str) -> Response:
    """A refusal that says when to come back."""
    wait = max(1, math.ceil(seconds))
    return refusal(
        status,
        expected=expected,
        got=got,
        do=f"Try again after {wait} s",
        headers={"retry-after": str(wait)},
    )


def reply(status: int, content: object, headers: Mapping[str, str] | None = None) -> Response:
    """JSON."""
    return Response(
        msgspec.json.encode(content),
        status_code=status,
        headers={"cache-control": "no-store", "x-content-type-options": "nosniff"} | dict(headers or {}),
        media_type="application/json",
    )
