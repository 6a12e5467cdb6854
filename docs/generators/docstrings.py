"""Docstrings in NumPy style, taken apart and written as Markdown."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field

SECTION = re.compile(r"^(Parameters|Attributes|Returns|Yields|Raises|Notes|Examples)\n-{3,}\n", re.MULTILINE)
ROLE = re.compile(r":(?:class|meth|func|attr|mod|data|exc):`[~.]?([^`]+)`")


@dataclass(frozen=True)
class Docstring:
    """The text before the first section, every section as pairs of term and text, and the examples."""

    text: str
    sections: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    examples: str = ""


def parse(raw: str | None) -> Docstring:
    """Take a docstring apart."""
    parts = SECTION.split(inspect.cleandoc(raw or ""))
    sections = {name: terms(body) for name, body in zip(parts[1::2], parts[2::2], strict=True)}
    examples = dict(zip(parts[1::2], parts[2::2], strict=True)).get("Examples", "").strip()
    return Docstring(markdown(parts[0].strip()), sections, examples)


def terms(body: str) -> list[tuple[str, str]]:
    """Terms that begin a line, each with the indented lines below it."""
    found: list[tuple[str, list[str]]] = []
    for line in body.strip("\n").splitlines():
        if line and not line.startswith(" "):
            found.append((line.strip(), []))
        elif found:
            found[-1][1].append(line.strip())
    return [(term, markdown(" ".join(lines).strip())) for term, lines in found]


def markdown(text: str) -> str:
    """The marks of docstrings as those of Markdown."""
    return ROLE.sub(r"`\1`", text).replace("``", "`")


def first_paragraph(text: str) -> str:
    """The text up to the first empty line, in one line."""
    return " ".join(text.split("\n\n")[0].split())
