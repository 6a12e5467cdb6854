"""A web page that runs a selector in the browser: the file, the page, and ONNX Runtime beside them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Unpack

import msgspec
import numpy as np
from numpy.typing import NDArray

from selector.answering.view import Asked
from selector.bundle.bundle import read_bundle
from selector.bundle.one_file import OneFile
from training.fitting.one_file.trial import TIMEOUT_S
from training.fitting.one_file.write import Written, write_one_file
from zoo.errors import BundleError, MissingExtraError
from zoo.files import sha256_file, write_atomic
from zoo.inputs.kinds import IMAGE

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"  # that the page was tested with
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
PAGE_FILES = ("zooselect.js", "page.js", "opened.js", "style.css", "index.html")  # index.html last
FILE, FACTS = "selector.onnx", "selector.json"
PAGE_VERSION = 1  # of selector.json
MAX_RUNTIME_BYTES = 2**27  # of one file
_FETCH_S = 300.0
_NOTICE = (
    f"{PACKAGE} {{version}}: Copyright (c) Microsoft Corporation. Licensed under the MIT License.\n"
    "https://github.com/microsoft/onnxruntime\n"
)


def write_page(
    bundle: str | Path,
    folder: str | Path,
    precision: float | None = None,
    *,
    runtime: str | Path | None = None,
    images: Sequence[NDArray[np.uint8]] = (),
    drift: bool = False,
    timeout_s: float = TIMEOUT_S,
    **asked: Unpack[Asked],
) -> Written:
    """Write a page that answers images in the browser, and a module ``zooselect.js`` for other pages.

    Everything comes from the server of the page. Files are replaced one by one, ``index.html`` last.

    Parameters
    ----------
    folder
        Where to write; it is empty, new, or holds such a page.
    runtime
        The folder ``dist`` of the npm package onnxruntime-web, or the version of it that ``npm`` is to fetch.
    precision, images, drift, timeout_s, **asked
        As for :func:`training.fitting.one_file.write.write_one_file`.

    Raises
    ------
    BundleError
        When the bundle takes no images, `folder` holds something else, or `runtime` is not such a folder;
        also what :func:`training.fitting.one_file.write.write_one_file` raises.
    MissingExtraError
        When there is no ``npm``, or it cannot fetch the package.

    Examples
    --------
    >>> from training.fitting.one_file.page import PAGE_FILES
    >>> PAGE_FILES[-1]
    'index.html'
    """
    target, kind = Path(folder), read_bundle(Path(bundle)).kind
    if kind != IMAGE:
        raise BundleError(
            f"expected a bundle for images, which a page takes, got one for {kind}. Write the selector as "
            "one file, for a page of your own (--one-file)."
        )
    _check_folder(target)
    with _runtime(runtime) as (dist, version):
        held = {name: _read(dist / name) for name in RUNTIME_FILES}
        written = write_one_file(
            bundle,
            target / FILE,
            precision,
            images=images,
            drift=drift,
            timeout_s=timeout_s,
            **asked,
        )
        for name, content in held.items():
            write_atomic(target / "runtime" / name, content)
        write_atomic(target / "runtime" / "NOTICE.txt", _NOTICE.format(version=version).encode())
    facts = _facts(written.record, target / FILE, version)
    write_atomic(target / FACTS, msgspec.json.format(msgspec.json.encode(facts), indent=2) + b"\n")
    assets = resources.files("training.fitting.one_file") / "web"
    for name in PAGE_FILES:
        write_atomic(target / name, (assets / name).read_bytes())
    return written


def _facts(record: OneFile, file: Path, version: str) -> Mapping[str, Any]:
    """What the page says of the file, whose own metadata a browser does not show."""
    return {
        "schema_version": PAGE_VERSION,
        "classes": record.bundle.classes,
        "models": record.models,
        "constraint": str(record.constraint),
        "environment": record.environment,
        "certificate": next(iter(record.bundle.certificates), None),
        "sha256": sha256_file(file),
        "size_bytes": file.stat().st_size,
        "zooselect": record.zooselect,
        "runtime": f"{PACKAGE} {version}",
    }


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise BundleError(f"expected a folder for the page, got the file {folder}. Name another one.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / FACTS).is_file():
        raise BundleError(
            f"expected an empty folder, or one with a page of this command, got {folder} with other "
            "files. Name another folder: nothing in it was changed."
        )


@contextmanager
def _runtime(given: str | Path | None) -> Iterator[tuple[Path, str]]:
    """The folder of the package's files, and its version."""
    if given is not None and not re.fullmatch(r"\d+\.\d+\.\d+", str(given)):
        folder = Path(given)
        missing = [name for name in RUNTIME_FILES if not (folder / name).is_file()]
        if missing:
            raise BundleError(
                f"expected the folder 'dist' of an unpacked {PACKAGE}, got {folder} without "
                f"{', '.join(missing)}. Unpack the package, or give a version for npm to fetch."
            )
        yield folder, _version_of(folder)
        return
    version = VERSION if given is None else str(given)
    with TemporaryDirectory(prefix="zooselect-") as work:
        yield _packed(Path(work), version), version


def _packed(work: Path, version: str) -> Path:
    """The folder of the files that npm fetches."""
    npm = shutil.which("npm")
    advice = f"Fetch and unpack {PACKAGE} elsewhere, and name its folder 'dist' with --runtime."
    if npm is None:
        raise MissingExtraError(
            f"expected npm, to fetch {PACKAGE} {version}, got none on this machine. {advice}"
        )
    order = [
        npm,
        "pack",
        f"{PACKAGE}@{version}",
        "--silent",
        "--ignore-scripts",
        "--pack-destination",
        str(work),
    ]
    try:
        done = subprocess.run(order, cwd=work, capture_output=True, text=True, timeout=_FETCH_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise MissingExtraError(
            f"expected npm to fetch {PACKAGE} {version} within {_FETCH_S:g} seconds, got nothing. {advice}"
        ) from error
    archives = list(work.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        words = done.stderr.strip().splitlines() or ["no file"]
        raise MissingExtraError(
            f"expected npm to fetch {PACKAGE} {version}, got: {words[-1][:200]}. {advice}"
        )
    with tarfile.open(archives[0]) as archive:
        for name in RUNTIME_FILES:
            _take(archive, name, work / name, version)
    return work


def _take(archive: tarfile.TarFile, name: str, target: Path, version: str) -> None:
    """One file out of a package, whatever else there is in it."""
    try:
        member = archive.getmember(f"package/dist/{name}")
        stream = archive.extractfile(member) if member.isfile() and member.size <= MAX_RUNTIME_BYTES else None
    except (KeyError, tarfile.TarError):
        stream = None
    if stream is None:
        raise BundleError(
            f"expected dist/{name} in {PACKAGE} {version}, got none. Name the version {VERSION}, which is "
            "tested."
        )
    with stream, target.open("wb") as out:
        shutil.copyfileobj(stream, out)


def _read(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_RUNTIME_BYTES:
        raise BundleError(
            f"{path}: expected at most {MAX_RUNTIME_BYTES:,} bytes, got {size:,}. Check the path."
        )
    return path.read_bytes()


def _version_of(folder: Path) -> str:
    """The version that the files say they have."""
    head = (folder / RUNTIME_FILES[0]).read_bytes()[:500].decode("utf-8", "replace")
    found = re.search(r"v(\d+\.\d+\.\d+)", head)
    return found[1] if found else "of unknown version"
