"""Fragments of files of several types, made of the Python standard library, without their names."""

from __future__ import annotations

import base64
import bz2
import csv
import difflib
import io
import json
import re
import sysconfig
import types
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from training.data.images import ListedInputs
from zoo.errors import DataError
from zoo.inputs.signal import Signal

SHORTEST, LONGEST = 12, 1500  # bytes of a fragment
_MOST_BYTES = 60_000  # of a source file
_WORD = re.compile(r"[A-Za-z_]\w*|\d+")


def fragments(count: int = 4000, *, seed: int = 0) -> ListedInputs:
    """Pieces of random length, cut at random places out of twelve types of file.

    Short ones often do not say what they are.

    Parameters
    ----------
    count
        Number of fragments.

    Raises
    ------
    DataError
        When the sources of the standard library are not there.

    Examples
    --------
    >>> from training.data.fragments import fragments
    >>> len(fragments(24).classes)
    12
    """
    rng = np.random.default_rng(seed)
    library = Path(sysconfig.get_paths()["stdlib"])
    sources = [path for path in sorted(library.glob("*.py")) if 2000 < path.stat().st_size < _MOST_BYTES]
    if len(sources) < 20:
        raise DataError(
            f"expected the sources of the standard library in {library}, got {len(sources)} files."
        )
    classes = tuple(_TYPES)
    made: dict[tuple[int, int], bytes] = {}
    items: list[bytes] = []
    labels: list[int] = []
    while len(items) < count:
        which, label = int(rng.integers(len(sources))), len(items) % len(classes)
        if (which, label) not in made:
            text = sources[which].read_text(encoding="utf-8", errors="replace")
            made[which, label] = _TYPES[classes[label]](text)
        whole = made[which, label]
        length = int(np.exp(rng.uniform(np.log(SHORTEST), np.log(LONGEST))))
        start = int(rng.integers(max(1, len(whole) - length)))
        piece = whole[start : start + length]
        if piece:
            items.append(piece)
            labels.append(label)
    ids = [f"{classes[label]}-{i:05d}" for i, label in enumerate(labels)]
    return ListedInputs(Signal(), items, classes, ids, labels)


def _prose(text: str) -> bytes:
    return " ".join(part for part in re.findall(r'"""(.*?)"""', text, re.DOTALL) or [text]).encode()


def _json(text: str) -> bytes:
    rows = [{"line": i, "words": _WORD.findall(line)} for i, line in enumerate(text.splitlines())]
    return json.dumps(rows).encode()


def _csv(text: str) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(
        [i, len(line), *_WORD.findall(line)] for i, line in enumerate(text.splitlines())
    )
    return out.getvalue().encode()


def _xml(text: str) -> bytes:
    lines = (
        f"<line n={quoteattr(str(i))}>{escape(line.strip())}</line>"
        for i, line in enumerate(text.splitlines())
    )
    return ("<lines>\n" + "\n".join(lines) + "\n</lines>").encode()


def _ini(text: str) -> bytes:
    words = _WORD.findall(text)
    lines = [
        f"[{words[i]}]" if i % 12 == 0 else f"{words[i]} = {words[i + 1]}"
        for i in range(0, len(words) - 1, 2)
    ]
    return "\n".join(lines).encode()


def _diff(text: str) -> bytes:
    lines = text.splitlines()
    changed = [line.replace("self", "this") for i, line in enumerate(lines) if i % 9]
    return "\n".join(difflib.unified_diff(lines, changed, lineterm="")).encode()


def _bytecode(text: str) -> bytes:
    return b"".join(_codes(compile(text, "module", "exec", dont_inherit=True)))


def _codes(code: types.CodeType) -> Iterator[bytes]:
    """What the interpreter is told, in a module and all functions of it."""
    yield code.co_code
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _codes(inner)


_TYPES: dict[str, Callable[[str], bytes]] = {
    "python": str.encode,
    "prose": _prose,
    "json": _json,
    "csv": _csv,
    "xml": _xml,
    "ini": _ini,
    "diff": _diff,
    "bytecode": _bytecode,
    "base64": lambda text: base64.encodebytes(zlib.compress(text.encode())),
    "hex": lambda text: text.encode().hex().encode(),
    "utf-16": lambda text: text.encode("utf-16-le"),
    "compressed": lambda text: bz2.compress(text.encode()),
}
