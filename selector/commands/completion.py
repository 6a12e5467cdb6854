"""What a shell completes: names out of closed sets, and those that a zoo, a profile or a bundle holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import typer

from zoo.errors import ZooError

ENVIRONMENTS = ("clear", "dark", "noise", "blur", "occlusion", "rotation", "jpeg")
_TABLES = "latency"  # the folder of latency tables in a profile

Known = Callable[[typer.Context], Iterable[str]]
Completion = Callable[[typer.Context, str], list[str]]


def one_of(known: Known) -> Completion:
    """Completes one name."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        return [name for name in _names(known, context) if name.startswith(incomplete)]

    return complete


def list_of(known: Known) -> Completion:
    """Completes the last name of a list separated by commas."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [before + comma + name for name in _names(known, context) if name.startswith(last)]

    return complete


def either(*names: str) -> Known:
    """Always the same names."""
    return lambda _: names


def in_zoo(context: typer.Context) -> Iterable[str]:
    """Models of the zoo that was named, or of the usual one."""
    from zoo.models.zoo import Zoo

    return Zoo.open(_path(context, "zoo", "my-zoo")).names


def in_profile(context: typer.Context) -> Iterable[str]:
    """Environments of the profile that was named, or all that images can be shown under."""
    path = _path(context, "profile", "my-profile") / "samples.parquet"
    if not path.is_file():
        return ENVIRONMENTS
    from pyarrow import parquet

    return sorted(set(parquet.read_table(path, columns=["environment"])["environment"].to_pylist()))


def tables_in_profile(context: typer.Context) -> Iterable[str]:
    """Latency tables of the profile that was named, or of the usual one."""
    return sorted(path.stem for path in (_path(context, "profile", "my-profile") / _TABLES).glob("*.json"))


def devices_in_bundle(context: typer.Context) -> Iterable[str]:
    """Devices whose costs the bundle that was named holds."""
    words = context.args  # an option without its value keeps arguments from being read
    folder = _path(context, "bundle", words[0] if words else "my-bundle")
    record: dict[str, Any] = json.loads((folder / "bundle.json").read_bytes())
    return [costs["device"] for costs in record["costs"]]


def _path(context: typer.Context, parameter: str, usual: str) -> Path:
    return Path(context.params.get(parameter) or usual)


def _names(known: Known, context: typer.Context) -> list[str]:
    try:
        return list(known(context))
    except (ZooError, OSError, ImportError, ValueError, KeyError, TypeError):
        return []  # a shell that completes has no place for errors
