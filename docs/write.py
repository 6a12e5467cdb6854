"""Write the pages and pictures that are made from the code: ``python docs/write.py``, from anywhere.

With ``--check`` nothing is written: the files that are not current are named, and the exit code is 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # document this checkout, whatever is installed

from generators.api import api_page  # noqa: E402
from generators.cli import cli_page  # noqa: E402
from generators.frontier import frontier_picture  # noqa: E402
from generators.packages import packages_picture  # noqa: E402
from generators.schemas import schemas  # noqa: E402


def pages() -> dict[Path, str]:
    """Path → content of every generated file."""
    docs = ROOT / "docs"
    return {
        docs / "cli.md": cli_page(),
        docs / "api.md": api_page(),
        docs / "images" / "architecture.svg": packages_picture(ROOT / "pyproject.toml"),
        docs / "images" / "frontier.svg": frontier_picture(docs / "benchmarks.md"),
        **{docs / "schemas" / f"{name}.schema.json": text for name, text in schemas().items()},
    }


def main() -> int:
    """Write what has changed, or with ``--check`` only name it."""
    stale = {
        path: text for path, text in pages().items() if not path.is_file() or path.read_text("utf-8") != text
    }
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not current: run 'python docs/write.py'.")
        return int(bool(stale))
    for path, text in stale.items():
        path.write_text(text, "utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
