"""How the command ``zooselect`` begins: an interrupt while modules are loaded ends it quietly as well."""

from __future__ import annotations

import sys


def main() -> None:
    """Load the command line and run it."""
    try:
        from selector import cli

        cli.main()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
