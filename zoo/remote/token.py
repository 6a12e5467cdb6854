"""The token for a server: from the environment or a file, and in no record of ours."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from zoo.errors import TokenError
from zoo.files import open_file

MAX_TOKEN_BYTES = 16384


@dataclass(frozen=True)
class Token:
    """A secret for the server, read when a client is made; shown nowhere."""

    text: str = field(repr=False)

    @classmethod
    def read(cls, env: str = "", file: str = "") -> Token | None:
        """The token in the environment variable `env` or in `file`; None: neither is named.

        Raises
        ------
        TokenError
            When it is not there, or cannot be one, or both are named.
        """
        if not env and not file:
            return None
        if env and file:
            raise TokenError(f"expected one place of a token, got {env} and {file}. Name one of them.")
        if env:
            where, text = f"the environment variable {env}", os.environ.get(env, "")
        else:
            where = file
            try:
                with open_file(Path(file)) as stream:
                    text = stream.read(MAX_TOKEN_BYTES + 1).decode("ascii")
            except (OSError, UnicodeDecodeError) as error:
                got = error.strerror if isinstance(error, OSError) else "other characters than ASCII"
                raise TokenError(f"expected a token in {file}, got: {got}. Write one there.") from error
        text = text.strip()
        if not text or len(text) > MAX_TOKEN_BYTES or not text.isascii() or not text.isprintable():
            got = "one of other characters" if text else "nothing"
            raise TokenError(
                f"expected a token of at most {MAX_TOKEN_BYTES:,} printable ASCII characters in {where}, got "
                f"{got if len(text) <= MAX_TOKEN_BYTES else 'a longer one'}. Put one there."
            )
        return cls(text)
