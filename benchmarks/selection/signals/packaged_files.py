"""Files that installed packages bring along, labelled by their extension: real, of many types, and noisy.

Which files there are depends on the packages and their versions; a result notes the digest of the data.
"""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from training.data.images import ListedInputs
from zoo.errors import DataError
from zoo.inputs.signal import Signal

MAX_BYTES = 2**20  # of a file
MIN_BYTES = 16
# Extension → class. Left out is what stands for several types, such as ``.h`` and ``.dat``.
LABELS = {
    **dict.fromkeys((".py", ".pyi"), "python"),
    ".pyc": "pythonbytecode",
    ".so": "elf",
    ".c": "c",
    **dict.fromkeys((".cc", ".cpp", ".hpp", ".cuh"), "cpp"),
    **dict.fromkeys((".f", ".f90"), "fortran"),
    **dict.fromkeys((".js", ".mjs"), "javascript"),
    **dict.fromkeys((".yml", ".yaml"), "yaml"),
    **dict.fromkeys((".jpg", ".jpeg"), "jpeg"),
    **dict.fromkeys((".htm", ".html"), "html"),
    **dict.fromkeys((".ini", ".cfg"), "ini"),
    **dict.fromkeys((".bz2",), "bzip"),
    **dict.fromkeys((".gz",), "gzip"),
    **dict.fromkeys((".md",), "markdown"),
    **dict.fromkeys((".exe",), "pebin"),
    **dict.fromkeys((".sh",), "shell"),
    **dict.fromkeys((".tex",), "latex"),
    **dict.fromkeys((".pkl",), "pickle"),
    **dict.fromkeys((".bat",), "batch"),
    **{
        f".{name}": name
        for name in (
            *("txt", "onnx", "cmake", "csv", "ttf", "npy", "npz", "png", "json", "svg", "rst", "wav", "pdf"),
            *("css", "proto", "jinja", "xz", "parquet", "gif", "toml", "xml", "ico", "zip", "tcl", "sql"),
        )
    },
}


def packaged_files(
    labelled: Path | None = None,
    *,
    known: Collection[str] = (),
    roots: Sequence[Path] = (),
    most: int = 150,
    seed: int = 0,
) -> ListedInputs:
    """Files as signals of bytes, at most so many of a class; of files with equal content one.

    Parameters
    ----------
    labelled
        A folder of class folders with further files, whose labels are known.
    known
        Classes that files may have; others are left out. Empty: all.
    roots
        Where files are looked for; by default the standard library and the installed packages.
    most
        Files of a class.

    Raises
    ------
    DataError
        When there are files of fewer than two classes.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for path, label in _candidates(roots or _installed()):
        found[label].append(path)
    rng = np.random.default_rng(seed)
    seen: set[bytes] = set()
    contents: list[bytes] = []
    labels: list[str] = []
    names: list[str] = []

    def take(path: Path, label: str, name: str) -> bool:
        if known and label not in known:
            return False
        content = path.read_bytes()
        digest = hashlib.sha256(content).digest()
        if digest in seen:
            return False
        seen.add(digest)
        contents.append(content)
        labels.append(label)
        names.append(name)
        return True

    for path in sorted(labelled.rglob("*")) if labelled is not None else ():
        if path.is_file() and 0 < path.stat().st_size <= MAX_BYTES:
            take(path, path.parent.name, f"labelled/{path.parent.name}/{path.name}")
    for label in sorted(found):
        taken = 0
        for i in rng.permutation(len(found[label])):
            path = found[label][i]
            taken += take(path, label, f"packaged/{label}/{len(names):05d}-{path.name}")
            if taken == most:
                break
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise DataError("expected files of two types at least among the installed packages, got fewer.")
    index = {name: i for i, name in enumerate(classes)}
    return ListedInputs(Signal(), contents, classes, names, [index[label] for label in labels])


def _installed() -> list[Path]:
    packages = [Path(entry) for entry in sys.path if Path(entry).name == "site-packages"]
    return [Path(sysconfig.get_paths()["stdlib"]), *packages]


def _candidates(roots: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    known: set[Path] = set()
    for root in roots:
        for path in sorted(root.rglob("*")):
            label = LABELS.get(path.suffix.lower())
            if label is None or path in known or not path.is_file() or path.is_symlink():
                continue
            known.add(path)
            if MIN_BYTES <= path.stat().st_size <= MAX_BYTES:
                yield path, label
