"""The command ``zoo train``: a family of networks of different sizes from labelled images."""

from __future__ import annotations

from typing import Annotated

import typer

from selector.commands.completion import either, list_of
from selector.commands.last_words import command
from selector.commands.options import (
    MY_ZOO,
    DataOption,
    EnvironmentsOption,
    EpochsOption,
    JsonOption,
    SeedOption,
    SkipBadOption,
    TorchDeviceOption,
    ZooOption,
    names_in,
)
from selector.commands.say import say
from training.commands.adding.added_model import EmbeddingOption
from training.commands.labelled_images import load_data


def train(
    data: DataOption,
    zoo: ZooOption = MY_ZOO,
    environments: EnvironmentsOption = "",
    sizes: Annotated[
        str,
        typer.Option(
            "--sizes",
            help="Which sizes; the largest teaches the others.",
            autocompletion=list_of(either("tiny", "small", "medium", "full")),
        ),
    ] = "tiny,small,medium,full",
    share: Annotated[
        float,
        typer.Option(
            "--share", help="Share of the images to train on. It is remembered: they never judge the models."
        ),
    ] = 0.4,
    epochs: EpochsOption = None,
    torch_device: TorchDeviceOption = "auto",
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Train again what the zoo holds already, and replace other models of these names."
        ),
    ] = False,
    embedding: EmbeddingOption = False,
    skip_bad: SkipBadOption = False,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Train small networks of different sizes on labelled images and add them to the zoo.

    Interrupted, the same command continues with the next model. The networks are made for small images and
    CPUs; larger ones come in with 'zooselect zoo add'.
    Example: zooselect zoo train --data digits --environments all --zoo my-zoo
    """
    import msgspec

    from training.networks.family import train_family
    from zoo.models.zoo import Zoo

    images = load_data(data, environments=environments, skip_bad=skip_bad, seed=seed)
    cards = train_family(
        Zoo.open_or_create(zoo),
        images,
        sizes=names_in(sizes),
        share=share,
        seed=seed,
        epochs=epochs,
        torch_device=torch_device,
        force=force,
        embedding=embedding,
        progress=not as_json,
    )
    if as_json:
        say(msgspec.json.encode(cards).decode())
        return
    for card in cards:
        say(f"{card.name}: {card.macs / 1e6:.2f} million multiply-accumulates, {card.source}")
    if share == 1:
        say(
            "The models were trained on all of these images: profile them on others. "
            f"Next: {command('zoo', 'list', zoo=zoo)}"
        )
        return
    following = command(
        "profile", data=data, zoo=zoo, environments=environments, skip_bad=skip_bad, seed=seed or None
    )
    say(f"Next: {following}")
