"""Image files in folders: which names count as images, and what is left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath

from zoo.errors import DataError

# Raster formats whose decoders are part of Pillow, with the endings of their names. No decoder in this list
# starts a program, as that of PostScript does. HEIF is there once an application has registered pillow-heif.
FORMATS: Mapping[str, tuple[str, ...]] = {
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp",),
    "DDS": (".dds",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "HEIF": (),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PCX": (".pcx",),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "PSD": (".psd",),
    "QOI": (".qoi",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "SUN": (".ras",),
    "TGA": (".tga",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
# Names that a folder of images is searched for.
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)


def is_hidden(name: str) -> bool:
    """Whether a name begins with a dot."""
    return name.startswith(".")


def is_image_name(name: str) -> bool:
    """Whether a file of this name is read as an image where a folder is searched."""
    return not is_hidden(name) and ending(name) in SUFFIXES


def ending(name: str) -> str:
    """The ending of a name in lower case, ``""`` where it has none."""
    return PurePath(name).suffix.lower()


def files_below(folder: Path, is_wanted: Callable[[str], bool]) -> tuple[list[str], Counter[str]]:
    """The wanted files in a folder and all folders below it, and how many other files there are.

    Hidden files and folders are passed over. Links to folders are followed, but never in a circle.

    Returns
    -------
    The sorted paths below `folder`, with ``/`` between their parts; and the files that are none by their
    names, counted by :func:`ending`.

    Raises
    ------
    DataError
        When a folder cannot be listed.
    """
    names: list[str] = []
    left_out: Counter[str] = Counter()
    for name, is_file in _below(str(folder), "", frozenset()):
        if is_file and is_wanted(name.rpartition("/")[2]):
            names.append(name)
        else:
            left_out[ending(name)] += 1
    return sorted(names), left_out


def left_out_words(left_out: Mapping[str, int]) -> str:
    """What was left out in words, such as ``left out: 16 files (.heic 9, .txt 7)``."""
    count = sum(left_out.values())
    kinds = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{kind or 'without an ending'} {number}" for kind, number in kinds[:5]]
    more = [f"{len(kinds) - 5} more kinds"] if len(kinds) > 5 else []
    return f"left out: {count} {'file' if count == 1 else 'files'} ({', '.join(shown + more)})"


def _below(folder: str, prefix: str, above: frozenset[str]) -> Iterator[tuple[str, bool]]:
    above |= {os.path.realpath(folder)}
    try:
        with os.scandir(folder) as opened:
            entries = [entry for entry in opened if not is_hidden(entry.name)]
    except OSError as error:
        raise DataError(
            f"{folder}: expected a folder that can be listed, got: {error.strerror}. "
            "Change its permissions or remove it."
        ) from error
    for entry in entries:
        if not entry.is_dir():
            # A broken link is read like a file, so that the error names it.
            yield prefix + entry.name, entry.is_file() or entry.is_symlink()
        elif not (entry.is_symlink() and os.path.realpath(entry.path) in above):
            yield from _below(entry.path, f"{prefix}{entry.name}/", above)
