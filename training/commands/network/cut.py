"""The command ``zoo cut``: where a model can be cut into a part for the device and one for a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from selector.commands.completion import in_zoo, one_of
from selector.commands.last_words import command
from selector.commands.options import MY_ZOO, JsonOption, NameOption, SeedOption, ThreadsOption, ZooOption
from selector.commands.say import say
from selector.commands.tables import table
from training.commands.adding.added_model import ForceOption, tell
from training.commands.labelled_images import load_data
from zoo.errors import DataError

if TYPE_CHECKING:
    from zoo.convert.cut.codes import Judged
    from zoo.models.card import ModelCard
    from zoo.models.cuts import CutTable
    from zoo.models.zoo import Zoo

MEASURED_IMAGES = 32


def cut(
    model: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The model of the zoo to cut.", autocompletion=one_of(in_zoo)),
    ],
    zoo: ZooOption = MY_ZOO,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="Images like those of the device, labelled as for 'zoo compress': packed bytes, times and "
            "8-bit scales are measured on them.",
        ),
    ] = "",
    at: Annotated[
        str, typer.Option("--at", help="Cut here: a number of the list, or the name of a tensor.")
    ] = "",
    every: Annotated[
        bool, typer.Option("--every", help="List also places between which nothing is multiplied.")
    ] = False,
    images: Annotated[
        int, typer.Option(min=8, help="--at: measure scales on so many images; up to as many others compare.")
    ] = 256,
    share: Annotated[
        float | None,
        typer.Option(
            help="--at: share of the images to use; it is remembered: they never judge the model. Default: "
            "what models of the zoo were trained on, or 0.4."
        ),
    ] = None,
    remote: Annotated[
        str,
        typer.Option(
            "--remote",
            help="--at: a server of the Open Inference Protocol that will hold the tail; a model "
            "with the head on the device and the tail there is added, too.",
        ),
    ] = "",
    served_as: Annotated[
        str, typer.Option("--served-as", help="--remote: what the server calls the tail. Default: NAME-tail.")
    ] = "",
    token_env: Annotated[
        str, typer.Option("--token-env", help="--remote: environment variable that holds a token for it.")
    ] = "",
    name: NameOption = None,
    force: ForceOption = False,
    threads: ThreadsOption = 1,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """List the places where a model can be cut into two parts, or cut it there.

    A place is a tensor that crosses the graph alone: the device computes it and sends it as 8-bit codes, and
    a server computes the rest. With --data, bytes and times are measured and kept for 'plan --split'.

    With --at, the zoo gets a model that answers as both parts together, codes included: profile and certify
    it as any other. The parts lie beside the zoo, in cuts/. With --remote, a second model asks that server.
    Examples: zooselect zoo cut resnet56 --data photos; zooselect zoo cut resnet56 --data photos --at 21
    """
    from zoo.inputs.kinds import check_images
    from zoo.models.zoo import Zoo

    target = Zoo.open(zoo)
    check_images(target.kind, "zoo cut")
    card = target.card(model)
    if at:
        if not data:
            raise DataError("--at: expected --data IMAGES to measure the 8-bit scales on, got none.")
        if not remote and (served_as or token_env):
            raise DataError("--served-as, --token-env: expected --remote ADDRESS as well, got none.")
        if remote:
            from zoo.convert.cut.add_cut import add_remote_cut, check_server

            check_server(remote, token_env)  # before the images are read, which may take a while
        made = _add(target, card, at, data, images, share, name, force, seed, as_json)
        if remote:
            made = add_remote_cut(
                target, made.name, remote, served_as=served_as, token_env=token_env, force=force
            )
            say(f"Serve its tail there as {served_as or f'{made.parent}-tail'}.", err=True)
        tell(made, zoo, as_json)
        return
    if remote or served_as or token_env:
        raise DataError("--remote, --served-as, --token-env: expected --at PLACE as well, got none.")
    if not data:
        _list_unmeasured(target, card, every, as_json)
        return
    from training.networks.calibration_images import read_some
    from zoo.convert.cut.measure import measure_cuts
    from zoo.models.cuts import save_cuts

    pixels, _ = read_some(load_data(data, seed=seed), MEASURED_IMAGES, seed=seed, progress=not as_json)
    say(f"Measuring the cuts of {model} on {len(pixels)} images.", err=True)
    found = measure_cuts(target, model, pixels, every=every, threads=threads, seed=seed, progress=not as_json)
    save_cuts(found, target.folder)
    if as_json:
        import msgspec

        say(msgspec.json.encode(found).decode())
        return
    _show_measured(found)
    say(f"Next: {command('plan', split=model, zoo=zoo, rate='1,10,100', rtt=20, slower=8)}")


def _list_unmeasured(zoo: Zoo, card: ModelCard, every: bool, as_json: bool) -> None:
    from zoo.convert.cut.places import find_places
    from zoo.models.model import read_graph

    content = read_graph(card, zoo.folder)
    places = find_places(content, card.resolution, name=card.name, every=every)
    if as_json:
        import msgspec

        say(msgspec.json.encode(places).decode())
        return
    rows = [
        [str(number), *_facts(place.tensor, place.shape, place.size), _share(place.macs_before, card.macs)]
        for number, place in enumerate(places, 1)
    ]
    say(table(["", "tensor", "shape", "float32", "8-bit", "work before"], rows, "rllrrr"))
    say("Bytes of one image. Packed bytes and times are measured with --data.")


def _show_measured(found: CutTable) -> None:
    rows = []
    for number, one in enumerate(found.cuts, 1):
        packed = next(way.size_bytes for way in one.encoded if way.encoding == "packed")
        size = one.float_bytes // 4
        times = f"{one.head_ms:.2f}", f"{one.tail_ms:.2f}"
        work = _share(one.macs_before, found.macs)
        rows.append([str(number), *_facts(one.tensor, one.shape, size), f"{packed:,.0f}", work, *times])
    heads = ["", "tensor", "shape", "float32", "8-bit", "packed", "work before", "head ms", "tail ms"]
    say(table(heads, rows, "rllrrrrrr"))
    pictures = ", ".join(f"{way.size_bytes:,.0f} as {way.encoding.upper()}" for way in found.encoded)
    say(f"Bytes of one image, means over {found.images}. The image itself: {pictures}.")
    say(f"The whole model: {found.whole_ms:.2f} ms here, threads: {found.threads}.")


def _facts(tensor: str, shape: tuple[int, ...], size: int) -> list[str]:
    return [tensor, "x".join(map(str, shape)), f"{4 * size:,}", f"{size:,}"]


def _share(before: int, whole: int) -> str:
    return f"{before / whole:.1%}" if whole else "–"


def _add(
    zoo: Zoo,
    card: ModelCard,
    at: str,
    data: str,
    images: int,
    share: float | None,
    name: str | None,
    force: bool,
    seed: int,
    as_json: bool,
) -> ModelCard:
    from training.data.seen import remember
    from training.networks.calibration_images import calibration_part, read_some
    from zoo.convert.cut.add_cut import add_cut, find_place
    from zoo.models.cuts import parts_folder

    find_place(zoo, card.name, at)  # before the images are read, which may take a while
    whole = load_data(data, seed=seed)
    part, images_of_it = calibration_part(zoo, whole, share=share, seed=seed)
    ranges, held_out = read_some(images_of_it, images, seed=part.seed, progress=not as_json)
    say(f"Measuring the 8-bit scales of {card.name} on {len(ranges)} images.", err=True)
    remember(zoo, part, whole)
    made = add_cut(
        zoo,
        card.name,
        at,
        ranges,
        held_out=held_out,
        calibrated_on=part,
        name=name,
        force=force,
        tell=_show_judged,
        progress=not as_json,
    )
    say(f"Both parts, for the device and the server: {parts_folder(zoo.folder, made.name)}", err=True)
    return made


def _show_judged(judged: Judged) -> None:
    if judged.steps is None:
        say("The tensor holds 8-bit codes already: nothing changes.", err=True)
        return
    scale = "a scale for each channel" if judged.steps.scale.ndim else "one scale"
    same = f"{judged.agreement:.1%} of {judged.images} images"
    say(f"8-bit codes, {scale}: the whole model's class for {same}.", err=True)
