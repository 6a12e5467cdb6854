"""The command make: from labelled images and models to a bundle, through the steps that also stand alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from selector.commands.completion import in_zoo, one_of
from selector.commands.last_words import command
from selector.commands.options import (
    MY_BUNDLE,
    MY_FIT,
    MY_PROFILE,
    MY_ZOO,
    START_PANEL,
    UNCERTIFIED,
    CertifiedOption,
    EnvironmentsOption,
    FitOption,
    JobsOption,
    ProfileOption,
    SeedOption,
    SkipBadOption,
    ZooOption,
    asking_constraint,
)
from selector.commands.say import say, say_prose
from training.commands.adding.class_names import read_class_names
from training.commands.evaluate import MY_REPORT
from training.commands.labelled_images import load_data
from training.commands.source_options import ClassesOption, CropOption, SizeOption, parse_size, parse_triple
from training.commands.steps import DEFAULTS, AccuracyOption, RequiredOption
from training.fitting.options import FitOptions
from zoo.errors import ClassMismatchError, ModelError, PrecisionError, ZooError

if TYPE_CHECKING:
    import onnx

    from training.data.images import LabelledImages
    from training.fitting.fitted import Fitted
    from zoo.models.latency import LatencyTable
    from zoo.models.zoo import Zoo

DEVICE = "this-machine"
BENCH_IMAGES = 32
BENCH_RUNS = 300
_STEPS = ("add", "profile", "bench", "fit", "evaluate", "export")


@asking_constraint(precision=RequiredOption, accuracy=AccuracyOption)
def make(
    data: Annotated[
        str,
        typer.Argument(help="A folder of class folders, 'digits', or a torchvision name such as cifar10."),
    ],
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="ONNX files, or names in the zoo. Default: all in the zoo.",
            autocompletion=one_of(in_zoo),
        ),
    ] = None,
    *,
    asked: dict[str, Any],
    zoo: ZooOption = MY_ZOO,
    profile: ProfileOption = MY_PROFILE,
    fit: FitOption = MY_FIT,
    bundle: Annotated[Path, typer.Option("--out", help="Folder of the bundle.")] = MY_BUNDLE,
    report: Annotated[Path, typer.Option("--report", help="HTML page to write.")] = MY_REPORT,
    classes: ClassesOption = None,
    size: SizeOption = "",
    mean: Annotated[
        str, typer.Option(help="Mean of R,G,B on the 0..1 scale, or one for all. Default: 0.")
    ] = "",
    std: Annotated[
        str, typer.Option(help="Standard deviation of R,G,B on the 0..1 scale, or one for all. Default: 1.")
    ] = "",
    crop: CropOption = None,
    scale: Annotated[
        Literal["0..1", "0..255"], typer.Option(help="Range of pixel values before mean and std.")
    ] = "0..1",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="The networks end in a softmax.")
    ] = False,
    environments: EnvironmentsOption = "",
    skip_bad: SkipBadOption = False,
    require_certified: CertifiedOption = False,
    jobs: JobsOption = None,
    seed: SeedOption = DEFAULTS.seed,
) -> None:
    """Make a bundle of labelled images and models in one go: add, profile, bench, fit, evaluate, export.

    Each step is the command of that name with its defaults, and writes where that command does. What a run
    before finished is kept; stopped at any point, the same command continues. The options about networks are
    those of 'zooselect zoo add' and apply to all ONNX files that are named.
    Examples: zooselect make photos/ small.onnx large.onnx --precision 0.9; for networks that want normalised
    images: zooselect make photos/ net.onnx --precision 0.9 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
    """
    from training.evaluation.busy import busy_warning
    from training.evaluation.evaluate import evaluate
    from training.outcomes.parts import PROFILE_FILE, read_profile_record
    from training.outcomes.profile import profile as run
    from training.reports.method_table import table
    from training.reports.page import render
    from zoo.inputs.kinds import check_images
    from zoo.models.zoo import Zoo

    options = FitOptions(**asked, seed=seed)
    where = {"zoo": zoo, "profile": profile, "fit": fit, "out": bundle, "report": report}
    usual = (MY_ZOO, MY_PROFILE, MY_FIT, MY_BUNDLE, MY_REPORT)
    again = command(
        "make",
        data,
        *(models or []),
        **{name: path for (name, path), same in zip(where.items(), usual, strict=True) if path != same},
        classes=classes,
        size=size,
        mean=mean,
        std=std,
        crop=crop,
        scale=None if scale == "0..1" else scale,
        probabilities=probabilities,
        environments=environments,
        skip_bad=skip_bad,
        seed=seed or None,
    )
    images = load_data(data, environments=environments, skip_bad=skip_bad, seed=seed)
    how = _How(read_class_names(classes) if classes else (), size, mean, std, crop, scale, probabilities)
    names, added = _add(models or [], zoo, images.classes, how)
    opened = Zoo.open(zoo)
    check_images(opened.kind, "make")
    chosen = opened.only(names) if names else opened
    _say("add", f"{', '.join(chosen.names)} in {zoo}", done=added)

    before = read_profile_record(profile) if (profile / PROFILE_FILE).is_file() else None
    record = run(chosen, images, profile, progress=True)
    _say(
        "profile",
        f"{record.samples:,} samples × {len(record.models)} models in {profile}",
        done=record != before,
    )

    path = profile / "latency" / f"{DEVICE}.json"
    measured, done = _bench(chosen, images, path)
    busy = busy_warning(measured, chosen.names, zoo=zoo, profile=profile)
    if busy:
        say(busy, err=True)
    _say("bench", f"times on this machine in {path}", done=done)

    fitted, done = _fit(chosen, profile, measured, options, fit, again, jobs)
    constraint = fitted.record.bundle.default
    certificate = fitted.certificate()
    found = (
        "not certified" if certificate is None else f"certified at {certificate.confidence:.0%} confidence"
    )
    _say("fit", f"{constraint}: {found}, in {fit}", done=done)

    evaluation = evaluate(fitted, profile, zoo=chosen)
    render(evaluation, report)
    _say("evaluate", f"on test images that nothing was chosen on, in {report}", done=True)

    _say("export", f"{bundle}", done=_export(fitted, chosen, bundle))
    say()
    say(table(evaluation))
    for note in evaluation.notes:
        say_prose(note)
    say(f"Report: {report}. Next: {command('predict', bundle, _picture(data, images))}")
    if certificate is None and require_certified:
        raise typer.Exit(UNCERTIFIED)


def _say(step: str, what: str, *, done: bool) -> None:
    number = _STEPS.index(step) + 1
    say(f"{number}/{len(_STEPS)} {step:<8} {'done' if done else 'kept'}: {what}")


@dataclass(frozen=True)
class _How:
    """Options of ``zoo add``, for every ONNX file."""

    classes: tuple[str, ...]
    size: str
    mean: str
    std: str
    crop: float | None
    scale: Literal["0..1", "0..255"]
    probabilities: bool


def _add(models: Sequence[str], folder: Path, classes: Sequence[str], how: _How) -> tuple[list[str], bool]:
    """Names of the models, and whether one of them was new."""
    from zoo.models.zoo import Zoo

    files = [model for model in models if model.lower().endswith(".onnx") or Path(model).is_file()]
    names = [model for model in models if model not in files]
    if names and not (folder / "zoo.json").is_file():
        raise ModelError(
            f"expected ONNX files, or names in the zoo {folder}, got {names[0]!r}: no such file."
        )
    if names or not files:
        Zoo.open(folder).only(names)
    if not files:
        return names, False
    zoo = Zoo.open_or_create(folder)
    new = [_add_file(zoo, Path(file), classes, how) for file in files]
    names = [Path(model).stem.lower() if model in files else model for model in models]
    if len(set(names)) < len(names):
        raise ModelError(f"expected models of different names, got {', '.join(names)}. Rename a file.")
    return names, any(new)


def _add_file(zoo: Zoo, path: Path, folders: Sequence[str], how: _How) -> bool:
    """Add an ONNX file; False where the zoo holds what the same call made before."""
    from zoo.architectures.preprocessing import Preprocessing
    from zoo.convert.add import add_foreign
    from zoo.convert.foreign.import_file import read_foreign
    from zoo.files import sha256_bytes

    name = path.stem.lower()
    seen = network_input(read_foreign(path, name=name))
    if not how.size and seen.resolution is None:
        raise ModelError(f"{path}: expected a fixed image size in the graph, got none. Give --size PIXELS.")
    resolution = parse_size(how.size) if how.size else seen.resolution
    assert resolution is not None
    classes = how.classes or tuple(folders)
    if not how.classes and seen.classes not in (None, len(folders)):
        raise ClassMismatchError(
            f"{path}: expected as many outputs as there are class folders ({len(folders)}), got "
            f"{seen.classes}. Name the network's classes with --classes FILE."
        )
    chosen = Preprocessing(
        resolution,
        mean=parse_triple(how.mean or "0", "--mean"),
        std=parse_triple(how.std or "1", "--std"),
        crop=how.crop,
        channels=seen.channels,
    )
    kind: Literal["probabilities", "logits"] = "probabilities" if how.probabilities else "logits"
    made_of = repr((sha256_bytes(path.read_bytes()), chosen, classes, seen.layout, how.scale, kind))
    mark = sha256_bytes(made_of.encode())[:12]
    if name in zoo.names and zoo.card(name).source.endswith(mark):
        return False
    if not how.classes:
        say(
            f"{name}: the classes are the folder names in this order: {', '.join(classes[:5])}"
            f"{', …' if len(classes) > 5 else ''}. If the network has another order, give --classes FILE."
        )
    say(
        f"{name}: images of {resolution[0]}x{resolution[1]} pixels, {seen.channels}, {how.scale}, "
        f"mean {how.mean or 0}, std {how.std or 1}."
    )
    source = f"foreign ONNX, {path.name} {mark}"
    layout, output_kind = seen.layout, kind
    add_foreign(
        zoo,
        name,
        path,
        chosen,
        classes,
        source=source,
        layout=layout,
        scale=how.scale,
        output_kind=output_kind,
    )
    return True


@dataclass(frozen=True)
class NetworkInput:
    """What the graph of a classifier says of its image input, and of its outputs."""

    resolution: tuple[int, int] | None  # height and width in pixels, where they are fixed
    layout: Literal["nchw", "nhwc"]
    channels: Literal["rgb", "gray"]
    classes: int | None  # width of the only output, where it is fixed


def network_input(model: onnx.ModelProto) -> NetworkInput:
    """Size, layout and channels of the only image input; what the graph leaves open is taken as usual."""

    def sizes(value: onnx.ValueInfoProto) -> list[int]:
        return [axis.dim_value for axis in value.type.tensor_type.shape.dim]  # 0: any

    constants = {tensor.name for tensor in model.graph.initializer}
    images = [
        found for one in model.graph.input if one.name not in constants and len(found := sizes(one)) == 4
    ]
    outputs = [found[-1] for one in model.graph.output if (found := sizes(one))]
    classes = outputs[0] if len(outputs) == 1 and outputs[0] else None
    if len(images) != 1:
        return NetworkInput(None, "nchw", "rgb", classes)
    _, first, second, last = images[0]
    last_is_planes = last in (1, 3) and first not in (1, 3)
    planes, height, width = (last, first, second) if last_is_planes else (first, second, last)
    return NetworkInput(
        (height, width) if height and width else None,
        "nhwc" if last_is_planes else "nchw",
        "gray" if planes == 1 else "rgb",
        classes,
    )


def _bench(zoo: Zoo, images: LabelledImages, path: Path) -> tuple[LatencyTable, bool]:
    from zoo.models.latency import load_table, measure, save_table

    try:
        before = load_table(path)
        before.costs_ms(zoo)
        return before, False
    except ZooError:  # there is none yet, or it is of other models
        some = [images.image(i) for i in range(min(BENCH_IMAGES, len(images)))]
        measured = measure(zoo, some, device=DEVICE, runs=BENCH_RUNS, progress=True)
        save_table(measured, path)
        return measured, True


def _fit(
    zoo: Zoo,
    profile: Path,
    table: LatencyTable,
    options: FitOptions,
    folder: Path,
    again: str,
    jobs: int | None,
) -> tuple[Fitted, bool]:
    from training.evaluation.findings import alternatives, explain_uncertified
    from training.fitting.fit import fit, fit_inputs_sha256, fit_nearest
    from training.fitting.fitted import holds_certified, load_fit, save_fit

    def tell(found: Fitted) -> None:
        """Say why the constraint is not certified, and the nearest that is."""
        if found.certificate() is not None:
            return
        asked = found.record.bundle.default
        say(explain_uncertified(found, asked), err=True)
        nearest = fit_nearest(found, profile, zoo, table, options, jobs=jobs)
        instead = alternatives(found, asked, again=again, nearest=nearest)
        if instead:
            say(instead, err=True)

    try:
        before = load_fit(folder)
        if before.record.inputs_sha256 == fit_inputs_sha256(profile, zoo, table, options):
            tell(before)
            return before, False
    except ZooError:
        pass  # there is none yet, or it is of no use
    fitted = fit(profile, zoo, table, options, jobs=jobs, progress=True)
    tell(fitted)
    kept = None if fitted.certificate() is not None else holds_certified(folder)
    if kept is not None:
        raise PrecisionError(
            f"{options.constraint} is not certified, and {folder} holds a selector that is, for {kept}. It "
            "was kept. See what can be had with 'zooselect fit --list', or name another folder with --fit."
        )
    save_fit(fitted, folder)
    return fitted, True


def _export(fitted: Fitted, zoo: Zoo, folder: Path) -> bool:
    """Write the bundle; False where it is there."""
    from selector.answering.selector import Selector
    from training.fitting.export import export_bundle

    try:
        if Selector.load(folder, watch=False).bundle == fitted.record.bundle:
            return False
    except ZooError:
        pass  # there is none yet, or it is damaged
    export_bundle(fitted, zoo, folder)
    return True


def _picture(data: str, images: LabelledImages) -> Path:
    """An image of the data to try the bundle on, or their folder."""
    folder = Path(data)
    found = (folder / name for name in images.ids)
    return next((path for path in found if path.is_file()), folder if folder.is_dir() else Path("IMAGE"))


def register(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command(rich_help_panel=START_PANEL)(make)
