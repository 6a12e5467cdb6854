"""The command ``zoo add``, and the group that holds all commands of the zoo."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from selector.commands.options import MY_ZOO, TRAINING_PANEL, JsonOption, NameOption, ZooOption
from selector.commands.say import say
from selector.serving.command import serve_models
from training.commands.adapt import adapt
from training.commands.adding.added_model import EmbeddingOption, ForceOption, tell
from training.commands.adding.check_option import CheckOption, check_added, check_images
from training.commands.adding.class_names import read_class_names
from training.commands.adding.signal_options import (
    FirstOption,
    LastOption,
    LengthOption,
    PadOption,
    RateOption,
    SecondsOption,
    SignalOption,
    StripOption,
    TensorsOption,
    signal_ends,
    signal_front,
    signal_kind,
)
from training.commands.compress import compress
from training.commands.expand import expand
from training.commands.members import list_models, remove, rename
from training.commands.network.cut import cut
from training.commands.source_options import (
    ClassesOption,
    CropOption,
    DeadlineOption,
    EncodingOption,
    HuggingfaceOption,
    ModelOption,
    QualityOption,
    RemoteOption,
    SizeOption,
    TimmOption,
    TokenEnvOption,
    TokenFileOption,
    VersionOption,
    WeightsOption,
    add_from_server,
    check_source,
    check_weights,
    given,
    parse_side,
    parse_size,
    parse_triple,
)
from training.commands.train import train
from zoo.errors import ModelError

if TYPE_CHECKING:
    from training.outcomes.check import Source
    from zoo.models.card import ModelCard


def register(app: typer.Typer) -> None:
    """Add the commands of the zoo to the command line."""
    zoo_app = typer.Typer(
        no_args_is_help=True, help="Build the zoo: models of different sizes in one folder."
    )
    zoo_app.command("train")(train)
    zoo_app.command("add")(add)
    zoo_app.command("compress")(compress)
    zoo_app.command("adapt")(adapt)
    zoo_app.command("expand")(expand)
    zoo_app.command("cut")(cut)
    zoo_app.command("list")(list_models)
    zoo_app.command("rename")(rename)
    zoo_app.command("serve")(serve_models)
    zoo_app.command("remove")(remove)
    app.add_typer(zoo_app, name="zoo", rich_help_panel=TRAINING_PANEL)


def add(
    context: typer.Context,
    zoo: ZooOption = MY_ZOO,
    name: NameOption = None,
    cifar_resnet: Annotated[
        int | None, typer.Option(help="A CIFAR ResNet of this depth (20, 32, 44, 56); needs --weights.")
    ] = None,
    torchvision: Annotated[
        str | None, typer.Option(help="A torchvision classifier, e.g. resnet18; --pretrained or --weights.")
    ] = None,
    timm: TimmOption = None,
    efficientnet_lite: Annotated[
        int | None, typer.Option(help="EfficientNet-Lite 0, 1 or 2 with its ImageNet weights.")
    ] = None,
    onnx: Annotated[
        Path | None,
        typer.Option(
            help="Any ONNX classifier: of images, needs --classes, --size; of a --signal; of --tensors."
        ),
    ] = None,
    huggingface: HuggingfaceOption = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="torchvision, timm: the published weights (a download).")
    ] = False,
    weights: WeightsOption = None,
    classes: ClassesOption = None,
    size: SizeOption = "",
    mean: Annotated[
        str,
        typer.Option(
            help="Mean of R,G,B on the 0..1 scale, e.g. 0.485,0.456,0.406, or one for all. ONNX: 0."
        ),
    ] = "",
    std: Annotated[str, typer.Option(help="Standard deviation of R,G,B on the 0..1 scale. ONNX: 1.")] = "",
    crop: CropOption = None,
    interpolation: Annotated[
        Literal["bilinear", "bicubic"] | None, typer.Option(help="Resizing. ONNX: bilinear.")
    ] = None,
    channels: Annotated[
        Literal["rgb", "bgr", "gray"] | None,
        typer.Option(
            help="What the network sees: R,G,B (usual); B,G,R; or one grey channel (luma of ITU-R BT.601)."
        ),
    ] = None,
    layout: Annotated[
        Literal["nchw", "nhwc"], typer.Option(help="ONNX: axes of the input, channels first or last.")
    ] = "nchw",
    scale: Annotated[
        Literal["0..1", "0..255"] | None,
        typer.Option(help="ONNX: range of pixels before mean and std. 0..1; for whole numbers 0..255."),
    ] = None,
    input_name: Annotated[
        str | None, typer.Option("--input", help="ONNX: the image input, if there are several.")
    ] = None,
    output_name: Annotated[
        str | None, typer.Option("--output", help="ONNX: the class output, if there are several.")
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="ONNX: the network ends in a softmax or sigmoid.")
    ] = False,
    signal: SignalOption = None,
    first: FirstOption = 0,
    last: LastOption = 0,
    pad: PadOption = 0.0,
    strip: StripOption = 0,
    rate: RateOption = None,
    seconds: SecondsOption = None,
    tensors: TensorsOption = False,
    length: LengthOption = None,
    embedding: EmbeddingOption = False,
    remote: RemoteOption = None,
    model: ModelOption = "",
    version: VersionOption = "",
    token_env: TokenEnvOption = "",
    token_file: TokenFileOption = None,
    encoding: EncodingOption = None,
    quality: QualityOption = 90,
    deadline_ms: DeadlineOption = 10_000,
    check: CheckOption = "",
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add a model to the zoo from one source: --onnx, --torchvision, --timm, --huggingface and others.

    Resizing, cropping and normalising become part of the stored model, so that every model of the zoo takes
    the same image, of any size. The result is checked against the original before it is added; with --check
    also on images with labels, and you are warned where something else fits better.

    Examples: zooselect zoo add --cifar-resnet 56 --weights cifar10-resnet56.npz; zooselect zoo add --onnx
    net.onnx --classes names.txt --size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --crop 0.875
    """
    check_source(context)
    names = read_class_names(classes) if classes else ()
    kind = None if signal is None else signal_kind(signal, rate)
    if check and tensors and onnx is not None:
        from zoo.convert.add import kind_of_tensors
        from zoo.models.zoo import Zoo

        stored, called = Zoo.open_or_create(zoo), name or onnx.stem.lower()
        shown = check_images(check, kind_of_tensors(stored, called, onnx, length=length, pad=pad))
    else:
        shown = check_images(check, kind)
    if remote is not None:
        from zoo.remote.discover import Wanted

        if channels == "gray":
            raise ModelError("--remote: expected --channels rgb or bgr, got gray.")
        wanted = Wanted(
            kind=kind,
            ends=signal_ends(kind, first=first, last=last, pad=pad, strip=strip, seconds=seconds),
            tensors=tensors,
            length=length,
            classes=names,
            size=parse_size(size) if size else None,
            encoding=encoding,
            quality=quality,
            layout=layout if "layout" in given(context) else None,
            scale=scale,
            mean=parse_triple(mean, "--mean") if mean else None,
            std=parse_triple(std, "--std") if std else None,
            crop=crop,
            interpolation=interpolation,
            channels=channels,
            input=input_name or "",
            output=output_name or "",
            output_kind="probabilities" if probabilities else "logits",
        )
        token = (token_env, token_file)
        add_from_server(zoo, remote, model, wanted, version, token, deadline_ms, name, force, as_json)
        return
    say("Loading, exporting and checking; this takes some seconds.", err=True)

    from zoo.architectures.preprocessing import Preprocessing
    from zoo.convert import add as building
    from zoo.models.zoo import Zoo

    whole = Zoo.open_or_create(zoo)
    target = whole
    if embedding:  # with it, a model enters the zoo in one step
        target = Zoo.open_or_create(context.with_resource(TemporaryDirectory(prefix="zooselect-")))
    card: ModelCard
    seen: dict[str, Any] = {"channels": channels} if channels is not None else {}
    seen |= {"mean": parse_triple(mean, "--mean")} if mean else {}
    seen |= {"std": parse_triple(std, "--std")} if std else {}
    seen |= {"crop": crop} if crop is not None else {}
    seen |= {"interpolation": interpolation} if interpolation is not None else {}
    if cifar_resnet is not None:
        if weights is None:
            raise ModelError("--cifar-resnet: expected --weights FILE.npz, got none.")
        chosen: dict[str, Any] = {"classes": names} if names else {}
        card = building.add_cifar_resnet(target, cifar_resnet, weights, name=name, force=force, **chosen)
    elif torchvision is not None:
        card = building.add_torchvision(
            target,
            torchvision,
            weights=check_weights("--torchvision", pretrained, weights),
            classes=names,
            resolution=parse_size(size) if size else None,
            name=name,
            force=force,
            **seen,
        )
    elif timm is not None:
        card = building.add_timm(
            target,
            timm,
            weights=check_weights("--timm", pretrained, weights),
            classes=names,
            resolution=parse_size(size) if size else None,
            name=name,
            force=force,
            say=partial(say, err=True),
            **seen,
        )
    elif huggingface is not None:
        from zoo.convert.huggingface import add_huggingface

        card = add_huggingface(
            target,
            huggingface,
            classes=names,
            resolution=parse_size(size) if size else None,
            name=name,
            force=force,
            say=partial(say, err=True),
            input=input_name,
            output=output_name,
            output_kind="probabilities" if probabilities else "logits",
            **seen,
        )
    elif efficientnet_lite is not None:
        if not names:
            raise ModelError(
                "--efficientnet-lite: expected --classes FILE with the 1000 ImageNet class names."
            )
        card = building.add_efficientnet_lite(
            target,
            efficientnet_lite,
            classes=names,
            resolution=parse_side(size) if size else None,
            name=name,
            force=force,
        )
    else:
        assert onnx is not None
        told: dict[str, Any] = {
            "output": output_name,
            "output_kind": "probabilities" if probabilities else "logits",
            "force": force,
        }
        if not names:
            raise ModelError("--onnx: expected --classes FILE as well.")
    if onnx is not None and tensors:
        card = building.add_tensors(
            target, name or onnx.stem.lower(), onnx, names, length=length, pad=pad, **told
        )
    elif onnx is not None and kind is not None:
        front = signal_front(kind, first=first, last=last, pad=pad, strip=strip, seconds=seconds)
        card = building.add_signal(
            target, name or onnx.stem.lower(), onnx, front, names, input=input_name, **told
        )
    elif onnx is not None:
        if not size:
            raise ModelError("--onnx: expected --size PIXELS as well; or --signal, --tensors.")
        card = building.add_foreign(
            target,
            name or onnx.stem.lower(),
            onnx,
            Preprocessing(parse_size(size), **seen),
            names,
            layout=layout,
            scale=scale,
            input=input_name,
            **told,
        )
    if embedding:
        from zoo.convert.head import bring_with_embedding

        card = bring_with_embedding(target, card.name, whole, force=force)
    found = None
    if shown is not None:
        images = onnx is not None and kind is None and not tensors
        source: Source = "onnx" if images else "torchvision" if torchvision else "fixed"
        found = check_added(whole, card, shown, source=source, as_json=as_json)
    tell(card, zoo, as_json, check=found)
