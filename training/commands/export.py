"""The command export: a fitted selector as a bundle, as one ONNX file, or as a web page."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selector.commands.input_files import input_files, read_inputs, tell_unread
from selector.commands.last_words import command
from selector.commands.options import (
    MY_BUNDLE,
    MY_FIT,
    MY_ZOO,
    UNCERTIFIED,
    CertifiedOption,
    FitOption,
    JsonOption,
    ModelsOption,
    OutOption,
    ZooOption,
    asking_answer,
    names_in,
)
from selector.commands.say import say
from zoo.errors import PrecisionError, ZooError

if TYPE_CHECKING:
    from training.fitting.one_file.write import Written
    from zoo.inputs.kind import InputKind

_COMPARED = 200  # images of --images that a file is compared with the bundle on

OneFileOption = Annotated[
    Path | None,
    typer.Option("--one-file", help="Instead: the selector for one constraint as this single ONNX file."),
]
WebOption = Annotated[
    Path | None,
    typer.Option("--web", help="Instead: a web page in this folder that runs the selector in the browser."),
]
RuntimeOption = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        help="For --web: the folder 'dist' of an unpacked npm package onnxruntime-web, or the version of it "
        "that npm is to fetch. Default: npm fetches a version that was tested.",
    ),
]
BundleOption = Annotated[
    Path | None,
    typer.Option("--bundle", help="For --one-file and --web: take this bundle instead of fit and zoo."),
]
ImagesOption = Annotated[
    list[Path] | None,
    typer.Option("--images", help="Images or folders of them: the file must answer them as the bundle does."),
]
DriftOption = Annotated[
    bool, typer.Option("--drift", help="The file also gives what tells that images have changed.")
]
TimeoutOption = Annotated[float, typer.Option(min=1, help="Longest time in seconds of the file's trial.")]


@asking_answer
def export(
    asked: dict[str, Any],
    fit: FitOption = MY_FIT,
    zoo: ZooOption = MY_ZOO,
    out: OutOption = MY_BUNDLE,
    models: ModelsOption = "",
    one_file: OneFileOption = None,
    web: WebOption = None,
    runtime: RuntimeOption = None,
    bundle: BundleOption = None,
    images: ImagesOption = None,
    drift: DriftOption = False,
    timeout: TimeoutOption = 300.0,
    require_certified: CertifiedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the bundle: selector, certificates and models, for a device with numpy and ONNX Runtime.

    With --one-file or --web, the selector for one constraint as a single ONNX file, which any ONNX Runtime
    opens without zooselect. It is tried in a process of its own, and must answer as the bundle does. Example:
    zooselect export --out my-bundle, or zooselect export --one-file selector.onnx --precision 0.9
    """
    from selector.bundle.bundle import read_bundle
    from training.routing.fitted import is_router_fit

    router = bundle is None and is_router_fit(fit)
    if router and (one_file is not None or web is not None):
        raise ZooError(
            f"expected a fit of models that run in one file, got {fit}, of a table of outcomes: applications "
            "run its models. Export the router: leave --one-file and --web out."
        )
    if one_file is None and web is None:
        _check_unused(asked, runtime=runtime, bundle=bundle, images=images, drift=drift)
        if router:
            from training.routing.commands import export_router_fit

            export_router_fit(fit, out, as_json=as_json)
        else:
            _export_bundle(fit, zoo, out, models, as_json)
        return
    if one_file is not None and web is not None:
        raise ZooError("expected --one-file or --web, got both. A page has its file beside it; run it twice.")
    with _bundle(fit, zoo, models, bundle) as folder:
        kind = read_bundle(folder).kind
        shown = _read(images or [], kind)
        if one_file is not None:
            from training.fitting.one_file.write import write_one_file

            written = write_one_file(folder, one_file, images=shown, drift=drift, timeout_s=timeout, **asked)
            target, further = one_file, command("predict", one_file, kind.noun.upper())
        else:
            from training.fitting.one_file.page import write_page

            assert web is not None
            written = write_page(
                folder, web, runtime=runtime, images=shown, drift=drift, timeout_s=timeout, **asked
            )
            target, further = web, f"python -m http.server --directory {web}, then http://localhost:8000"
    _tell(written, target, len(shown), further, kind.noun, as_json=as_json)
    if require_certified and written.reason is not None:
        raise typer.Exit(UNCERTIFIED)


def _tell(written: Written, target: Path, real: int, further: str, noun: str, *, as_json: bool) -> None:
    record = written.record
    if as_json:
        facts = {
            "path": str(target),
            "constraint": str(record.constraint),
            "certified": written.reason is None,
            "reason": written.reason,
            "models": list(record.models),
            "size_bytes": written.size_bytes,
            "compared": written.compared,
            "real_images": real,
            "opset": record.opset,
            "min_onnxruntime": record.min_onnxruntime,
        }
        say(json.dumps(facts))
        return
    if written.reason is not None:
        say(
            f"{record.constraint} is not certified ({written.reason}); the file answers with "
            f"{record.models[0]} alone, as predict does.",
            err=True,
        )
    of_them = f"{real} of them yours" if real else "all made ones; give real ones with --images"
    say(
        f"{target}: {record.constraint}, models {', '.join(record.models)}, {written.size_bytes / 1e6:.1f} "
        f"MB, opset {record.opset}, ONNX Runtime {record.min_onnxruntime} or newer. It answered "
        f"{written.compared} {noun}s as the bundle does ({of_them}). Next: {further}"
    )


def _read(paths: list[Path], kind: InputKind) -> list[Any]:
    """The inputs to compare on."""
    if not paths:
        return []
    unread: list[str] = []
    files = input_files(paths, kind)
    chosen = files[:: max(1, len(files) // _COMPARED)][:_COMPARED]  # of all folders
    found = [image for _, image in itertools.islice(read_inputs(chosen, unread, kind), _COMPARED)]
    tell_unread(unread, len(chosen), kind, skip_bad=False)
    return found


@contextmanager
def _bundle(fit: Path, zoo: Path, models: str, bundle: Path | None) -> Iterator[Path]:
    """The folder of a bundle: one that is there, or one that is gone afterwards."""
    if bundle is not None:
        if models:
            raise ZooError(
                "expected --models or --bundle, got both: a bundle has its models. Leave one of them out."
            )
        yield bundle
        return
    from training.fitting.export import export_bundle
    from training.fitting.fitted import load_fit
    from zoo.models.zoo import Zoo

    with TemporaryDirectory(prefix="zooselect-") as folder:
        export_bundle(load_fit(fit), Zoo.open(zoo), folder, models=names_in(models) or None)
        yield Path(folder)


def _check_unused(asked: dict[str, Any], **others: object) -> None:
    """A bundle answers for all constraints; options of the other ways to export would be lost."""
    names = [*asked, *(name for name, value in others.items() if value)]
    if names:
        listed = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        raise PrecisionError(
            f"expected {listed} with --one-file FILE or --web FOLDER, got it for a bundle, which answers for "
            "all constraints. Leave it out, or say which file to write."
        )


def _export_bundle(fit: Path, zoo: Path, out: Path, models: str, as_json: bool) -> None:
    from selector.answering.selector import Selector
    from training.fitting.export import export_bundle
    from training.fitting.fitted import load_fit
    from zoo.models.zoo import Zoo

    export_bundle(load_fit(fit), Zoo.open(zoo), out, models=names_in(models) or None)
    loaded = Selector.load(out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    if as_json:
        facts = {
            "bundle": str(out),
            "models": list(loaded.models),
            "certified_precisions": list(loaded.certified_precisions),
            "size_bytes": size,
        }
        say(json.dumps(facts))
        return
    can = loaded.certified_precisions
    say(
        f"{out}: {len(loaded.models)} model{'s' * (len(loaded.models) > 1)}, {size / 1e6:.1f} MB, "
        f"certified precisions {f'{can[0]:g} to {can[-1]:g}' if can else 'none with these models'}. "
        f"Next: {command('predict', out, loaded.kind.noun.upper())}"
    )
