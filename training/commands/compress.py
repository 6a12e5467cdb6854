"""The command ``zoo compress``: a smaller model out of one of the zoo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from selector.commands.options import (
    MY_ZOO,
    DataOption,
    EnvironmentsOption,
    JsonOption,
    NameOption,
    SeedOption,
    ZooOption,
)
from training.commands.added_model import ForceOption, tell
from training.commands.labelled_images import load_data

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.models.card import ModelCard


def compress(
    model: Annotated[str, typer.Argument(metavar="NAME", help="The model of the zoo to make smaller.")],
    data: DataOption,
    zoo: ZooOption = MY_ZOO,
    method: Annotated[
        Literal["int8", "distill"],
        typer.Option(
            help="int8: 8-bit integer weights and activations, no training; distill: the model teaches a "
            "narrower network."
        ),
    ] = "int8",
    images: Annotated[
        int, typer.Option(min=8, help="int8: how many images the value ranges are measured on.")
    ] = 256,
    student: Annotated[
        Literal["tiny", "small", "medium", "full"],
        typer.Option(help="distill: size of the narrower network."),
    ] = "small",
    share: Annotated[
        float | None,
        typer.Option(
            help="distill: share of the images to train on. Default: what the model was trained on, or 0.4."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="distill: passes over the images. Default: what suits the data.")
    ] = None,
    name: NameOption = None,
    force: ForceOption = False,
    environments: EnvironmentsOption = "",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Make a smaller, faster model out of one of the zoo; both stay in it, and the selector chooses.

    The images should be like those of the device, and not be the ones that judge the model: where it was
    trained on the same data, only its training images are used.
    Examples: zooselect zoo compress resnet56 --data photos/train --method int8; zooselect zoo compress
    resnet56 --data photos/train --method distill --student small --share 1
    """
    from zoo.models.zoo import Zoo

    target = Zoo.open(zoo)
    parent = target.card(model)
    if method == "distill":
        from training.networks.distill import distill

        card = distill(
            target,
            model,
            load_data(data, environments=environments, seed=seed),
            student=student,
            name=name,
            share=share,
            epochs=epochs,
            force=force,
            progress=not as_json,
        )
        tell(card, zoo, as_json)
        return
    from zoo.convert.add import add_int8

    chosen = _calibration_images(
        parent, data, images, environments=environments, seed=seed, progress=not as_json
    )
    typer.echo(f"Quantising {model} on {len(chosen)} images.", err=True)
    tell(add_int8(target, model, chosen, name=name, force=force, progress=not as_json), zoo, as_json)


def _calibration_images(
    card: ModelCard, spec: str, count: int, *, environments: str, seed: int, progress: bool
) -> list[NDArray[np.uint8]]:
    """Random images out of a data set; only training images where the model was trained on that data."""
    import numpy as np
    from tqdm import tqdm

    from training.data.splits import TRAIN, Splits

    data = load_data(spec, environments=environments, seed=seed)
    allowed = np.arange(len(data.ids))
    trained = card.trained_on
    if trained is not None and trained.data_sha256 == data.originals_sha256:
        names = Splits(seed=trained.seed, train=trained.share).assign(data.groups)
        allowed = allowed[names == TRAIN]
    chosen = np.random.default_rng(seed).permutation(allowed)[:count]
    bar = tqdm(
        sorted(chosen.tolist()),
        desc="reading",
        unit="image",
        delay=2,
        disable=not progress or None,
        leave=False,
    )
    return [data.image(index) for index in bar]
