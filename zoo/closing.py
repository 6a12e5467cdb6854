"""What is closed at the end of a ``with`` statement."""

from __future__ import annotations

from typing import Self


class Closing:
    """Gives a class with a method ``close`` the two ends of a ``with`` statement."""

    def close(self) -> None:
        """Let go of everything that is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
