"""Routers of a table of two models' answers; what is stored of one runs without the extra ``train``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.support.small_table import table_rows, write_csv

STORED_ROUTER = Path(__file__).parent / "router"


def store_rows(folder: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    """A profile of rows, costs in dollars."""
    from training.outcomes.table import read_table
    from training.outcomes.table_checks import check_table
    from training.outcomes.table_profile import store_table

    folder.mkdir(parents=True, exist_ok=True)
    file = write_csv(folder / "answers.csv", rows)
    store_table(check_table(read_table(file, unit="usd", **options)), folder / "table-profile")
    return folder / "table-profile"


def routed(
    folder: Path, rows: list[dict[str, Any]] | None = None, *, told: bool = False, **options: Any
) -> Path:
    """``table-profile``, ``router-fit`` and ``my-router`` in a folder; gives the last."""
    from training.routing.fit import fit_table
    from training.routing.fitted import export_router, save_router_fit

    profile = store_rows(folder, table_rows() if rows is None else rows, told=told)
    fitted = fit_table(profile, **(options or {"precision": 0.8, "policy": "cascade"}))
    save_router_fit(fitted, folder / "router-fit")
    export_router(fitted, folder / "my-router")
    return folder / "my-router"


def main() -> None:
    """Write the stored router anew: ``python -m tests.support.small_router``."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        made = routed(Path(folder))
        shutil.rmtree(STORED_ROUTER, ignore_errors=True)
        shutil.copytree(made, STORED_ROUTER)


if __name__ == "__main__":
    main()
