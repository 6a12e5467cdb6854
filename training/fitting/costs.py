"""The latency table that a selector is fitted for: given, in a file, or by its name in a profile."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import LatencyError
from zoo.models.latency import LatencyTable, load_table

TABLES_FOLDER = "latency"  # in a profile


def costs_table(
    profile_folder: str | Path, table: LatencyTable | str | Path | None, costs_of: str | None = None
) -> LatencyTable:
    """The table itself, the one in a file, or the one that the profile holds for a device.

    Raises
    ------
    LatencyError
        When neither or both are given, or the profile has no table of that name; those that it has are named.
    CardError
        When there is no such file, or it is no latency table.
    """
    if (table is None) == (costs_of is None):
        raise LatencyError(
            f"expected a latency table or the name of one in {profile_folder}, got "
            f"{'neither' if table is None else 'both'}. Give the table of the device with --latency, or its "
            "name with --costs-of (in Python: table, costs_of=…)."
        )
    if table is not None:
        return table if isinstance(table, LatencyTable) else load_table(table)
    folder = Path(profile_folder) / TABLES_FOLDER
    names = sorted(path.stem for path in folder.glob("*.json"))
    if costs_of not in names:
        raise LatencyError(
            f"expected the name of a latency table in {folder}, got {costs_of!r}; there are: "
            f"{', '.join(names) or 'none'}. Name one of them, or measure with 'zooselect bench --device'."
        )
    return load_table(folder / f"{costs_of}.json")
