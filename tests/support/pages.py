"""The pages of the documentation as tests look at them: prose, code blocks, links, headings."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.fresh_interpreter import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
HISTORY = ROOT / "CHANGELOG.md"  # it names modules and files of earlier versions

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text_of(page: Path) -> str:
    """The text of a page."""
    return page.read_text("utf-8")


def prose_of(page: Path) -> str:
    """The text without its code blocks."""
    return _BLOCK.sub("", text_of(page))


def blocks_of(page: Path, language: str) -> list[str]:
    """Code blocks in one language."""
    return [body for name, body in _BLOCK.findall(text_of(page)) if name == language]


def programs_of(page: Path) -> list[str]:
    """Python in a page: whole blocks, and what stands between the quotes of ``python -c``."""
    one_liners = [body for body in blocks_of(page, "") if body.startswith('python -c "')]
    return blocks_of(page, "python") + [body.split('"', 1)[1].rsplit('"', 1)[0] for body in one_liners]


def links_of(page: Path) -> list[str]:
    """Targets of links and pictures that lie in the repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose_of(page)))
    return [target for target in found if "://" not in target]


def anchors_of(page: Path) -> set[str]:
    """What the headings of a page are linked by."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE):
        base = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        number = 0
        while (name := base if not number else f"{base}-{number}") in found:
            number += 1
        found.add(name)
    return found


def code_words_of(page: Path) -> set[str]:
    """Everything between single backticks."""
    return set(re.findall(r"`([^`\n]+)`", prose_of(page)))
