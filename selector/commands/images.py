"""Images for the device commands, from files and folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from zoo.errors import DataError, ImageError


def image_files(paths: list[Path]) -> list[Path]:
    """Image files, and those inside folders."""
    from zoo.models.image import SUFFIXES

    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not inside:
                raise DataError(
                    f"expected images in {path}, got none. Supported: {', '.join(sorted(SUFFIXES))}"
                )
            files += inside
        else:
            files.append(path)
    return files


def read_images(files: list[Path], skip_bad: bool) -> Iterator[tuple[Path, Any]]:
    """Paths and pixels; what cannot be read is an error, or left out and counted."""
    from zoo.models.image import load_image

    skipped = 0
    for path in files:
        try:
            image = load_image(path)
        except ImageError as error:
            if not skip_bad:
                raise ImageError(f"{error} With --skip-bad the others are answered.") from error
            skipped += 1
            continue
        yield path, image
    if skipped:
        typer.echo(f"{skipped} of {len(files)} images could not be read and were left out.", err=True)
