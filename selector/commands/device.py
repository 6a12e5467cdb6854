"""The commands of a device: set it up, answer, keep it up to date, look after its store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from selector.commands.answer import answer_images, leave
from selector.commands.last_words import say_last
from selector.commands.options import (
    DEVICE_PANEL,
    AnswerMemoryOption,
    AnswerTimeoutOption,
    BudgetOption,
    CertifiedOption,
    ImagesArgument,
    JsonOption,
    SkipBadOption,
    ThreadsOption,
    asking_answer,
)
from selector.commands.rows import fetching_bar
from selector.commands.say import say
from selector.commands.tables import table
from zoo.errors import DataError, LeftOutError
from zoo.files import open_file
from zoo.releases.published import MAX_METADATA_BYTES

if TYPE_CHECKING:
    from selector.device.device import Device
    from selector.device.reconciler import Round
    from zoo.client.change import Change

StoreArgument = Annotated[Path, typer.Argument(help="Folder of the device's store.")]
TOKEN = "ZOOSELECT_TOKEN"
TaskOption = Annotated[str | None, typer.Option(help="Which installed task. Default: the only one.")]
NamesArgument = Annotated[list[str], typer.Argument(help="Names of models or tasks.")]

commands = typer.Typer(
    name="device",
    no_args_is_help=True,
    help="A device with a store: it fetches the models that its inputs need, or that a server assigns.",
)


@commands.command()
def init(
    store: StoreArgument,
    url: Annotated[str, typer.Option(help="Address of the published files.")],
    root: Annotated[
        Path, typer.Option(help="The publisher's metadata/1.root.json, obtained over a way you trust.")
    ],
    task: Annotated[
        list[str] | None,
        typer.Option(help="Task to install; repeat for more. Default: all published, without variants."),
    ] = None,
    budget: BudgetOption = None,
    group: Annotated[
        str | None, typer.Option(help="Group whose assignment a server signs. Default: the device decides.")
    ] = None,
    mode: Annotated[
        Literal["local", "local_then_update", "latest"],
        typer.Option(help="local: never update by itself; latest: update before the first answer."),
    ] = "local_then_update",
    service: Annotated[
        str | None, typer.Option(help="Address of the service to tell what was asked: counts, never images.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar=TOKEN, help="The group's token for the service. Others on this machine see an option."
        ),
    ] = None,
    model_server: Annotated[
        list[str] | None,
        typer.Option(
            "--model-server",
            help="Address of a server that models may be asked at, which sends it inputs; repeat for more. "
            "Default: none; models on servers are left out.",
        ),
    ] = None,
) -> None:
    """Set a device up and install its tasks with a model to start with.

    Example: zooselect device init my-device --url http://127.0.0.1:8000 --root repo/metadata/1.root.json
    """
    from selector.device.device import Device

    try:
        with open_file(root) as stream:
            content = stream.read(MAX_METADATA_BYTES)
    except OSError as error:
        raise DataError(
            f"{root}: expected the publisher's root metadata, got: {error.strerror}. Check --root."
        ) from error
    _check_reporting(service, group, token)
    device = Device.set_up(
        store,
        url,
        content,
        group=group,
        budget_bytes=None if budget is None else int(budget * 1e6),
        mode=mode,
        service=service,
        token=token,
        servers=model_server or (),
    )
    if device.last is not None:
        say(f"Warning: {device.last.problem}", err=True)
    if group is not None and not task:
        _tell(device.update(progress=fetching_bar()))
        if not device.tasks:
            raise DataError(
                f"expected an assignment for the group {group!r}, got none yet: a server signs one when "
                f"devices of it report{_no_reports(service)}. The device is set up; give it something to "
                "start with: --task NAME."
            )
    else:
        published = device.client.refresh().index.bundles.values()
        for name in task or sorted(one.name for one in published if one.name == one.task):
            _tell(device.install(name, progress=fetching_bar()))
    _status(device)
    if group is not None and service is None:
        say(
            f"Devices of the group report{_no_reports(service)}; it follows assignments all the same.",
            err=True,
        )


def _check_reporting(service: str | None, group: str | None, token: str | None) -> None:
    """What :func:`.check_reporting` checks, in the words of the command line."""
    if service is None and token is not None:
        raise DataError(
            "expected --service with a token, got the token alone. Give the address of the service to report "
            f"to, or unset the environment variable {TOKEN}."
        )
    if service is not None and group is None:
        raise DataError(
            "--service: expected --group NAME with it, the group that the token is for, got none."
        )
    if service is not None and not token:
        raise DataError(
            f"--service: expected the token of the group in the environment variable {TOKEN}, got none. "
            f"Make one where the service runs: zooselect serve token --group {group}"
        )


def _no_reports(service: str | None) -> str:
    return "" if service else f", for which this one lacks --service and the group's token in {TOKEN}"


@commands.command()
@asking_answer
def predict(
    store: StoreArgument,
    images: ImagesArgument,
    task: TaskOption = None,
    *,
    asked: dict[str, Any],
    threads: ThreadsOption = 1,
    answer_timeout: AnswerTimeoutOption = None,
    answer_memory: AnswerMemoryOption = None,
    skip_bad: SkipBadOption = False,
    require_certified: CertifiedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Answer images with what is installed; afterwards fetch the models that pay, unless the mode is local.

    A device watches its inputs. Images are answered in random order: sorted by class, they would look like
    inputs that change.

    Example: zooselect device predict my-device photos/ --precision 0.95
    """
    from selector.device.device import FIRST_LOOK_TIMEOUT_S, Device

    memory = None if answer_memory is None else int(answer_memory * 1e6)
    with Device.open(
        store, threads=threads, answer_timeout_s=answer_timeout, answer_memory_bytes=memory
    ) as device:
        if device.config.mode == "latest":
            _after(device, timeout_s=FIRST_LOOK_TIMEOUT_S)
        chooser = device.selector(task)
        answered = answer_images(chooser, images, asked, as_json=as_json, shuffled=True)
        for error in device.left_out:
            say_last(f"left out: {error}")
        if device.config.mode == "local_then_update":
            _after(device)
    leave(answered, skip_bad=skip_bad, require_certified=require_certified)


@commands.command()
def update(store: StoreArgument) -> None:
    """Bring everything to its newest version, or do what the group's assignment says."""
    from selector.device.device import Device

    with Device.open(store) as device:
        change = device.update(progress=fetching_bar())
        _tell(change)
        _status(device)
    if change.left_out:
        raise LeftOutError(" ".join(change.left_out.values()))


@commands.command()
def run(
    store: StoreArgument,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks at the publisher.")] = 60.0,
    rounds: Annotated[int, typer.Option(min=0, help="End after so many looks; 0: go on.")] = 0,
) -> None:
    """Keep the store up to date until interrupted, for devices whose application does not do it itself."""
    from selector.device.device import Device

    with Device.open(store) as device:
        done = 0
        while True:
            found = device.look()
            _show(found)
            done += 1
            if done == rounds:
                break
            time.sleep(every)


@commands.command()
def status(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Show what is installed, how much it takes and what the device was set up with."""
    from selector.device.device import Device

    _status(Device.open(store), as_json=as_json)


@commands.command()
def use(
    store: StoreArgument,
    task: Annotated[str, typer.Argument(help="An installed task.")],
    environment: Annotated[
        str | None, typer.Option(help="Of the variant to answer with. Default: the one of the task's name.")
    ] = None,
) -> None:
    """Answer with another installed variant of a task, until inputs say otherwise.

    Example: zooselect device use my-device objects --environment dark
    """
    from selector.device.device import Device

    with Device.open(store) as device:
        device.use(task, environment)
        _status(device)


@commands.command()
def verify(store: StoreArgument) -> None:
    """Read every file of the store again and compare it with its digest.

    What does not fit is moved out of the way, so that the next update fetches it again.
    """
    from selector.device.device import Device

    device = Device.open(store)
    bad = device.store.verify()
    if bad:
        raise DataError(
            f"{len(bad)} files were damaged and have been taken out of use: {', '.join(bad)}. "
            f"Fetch them again: zooselect device update {store}"
        )
    say("All files are as they were published.")


@commands.command()
def remove(store: StoreArgument, names: NamesArgument) -> None:
    """Take models or tasks off the device, with all bytes that nothing else needs."""
    from selector.device.device import Device

    device = Device.open(store)
    change = device.client.remove(names)
    missing = sorted(set(names) - set(change.removed))
    if missing:
        raise DataError(f"not installed: {', '.join(missing)}. Others were removed; see 'device status'.")
    _status(device)


@commands.command()
def pin(
    store: StoreArgument,
    names: NamesArgument,
    off: Annotated[bool, typer.Option("--off", help="Let them be evicted again.")] = False,
) -> None:
    """Keep models or tasks whatever happens, or let them go again with --off."""
    from selector.device.device import Device

    with Device.open(store) as device:
        device.client.pin(names, pinned=not off)
        _status(device)


def _after(device: Device, *, timeout_s: float | None = None) -> None:
    """One round after or before answers; a problem is told, not raised."""
    _show(device.look(timeout_s=timeout_s))


def _show(found: Round) -> None:
    if found.change is not None and not found.change.nothing:
        _tell(found.change, err=True)
    for task in found.unknown:
        say(
            f"the inputs of {task} have drifted, and look like those of no published variant; "
            "the most accurate model answers, uncertified",
            err=True,
        )
    if found.problem is not None:
        say(f"{'stale' if found.freshness.stale else 'problem'}: {found.problem}", err=True)


def _tell(change: Change, *, err: bool = False) -> None:
    if change.nothing:
        say("Everything else is up to date." if change.left_out else "Everything is up to date.", err=err)
    else:
        parts = [f"installed {', '.join(change.installed)}"] if change.installed else []
        parts += [f"removed {', '.join(change.removed)}"] if change.removed else []
        parts += [f"evicted {', '.join(change.evicted)}"] if change.evicted else []
        say(
            f"{'; '.join(parts)}: {change.bytes_on_wire / 1e6:.3f} MB in {change.requests} requests, "
            f"{change.seconds:.2f} s",
            err=err,
        )
    for why in change.no_room.values():
        say(f"left out: {why}", err=True)


def _status(device: Device, *, as_json: bool = False) -> None:
    import msgspec

    installed, usage = device.store.installed, device.store.usage()
    used, budget = device.store.used_bytes(), device.config.budget_bytes
    if as_json:
        facts = {
            "config": device.config,
            "used_bytes": used,
            "models": {
                item.release.name: {
                    "version": item.release.version,
                    "bytes": item.release.size_bytes,
                    "pinned": item.pinned,
                    "last_used": usage.get(item.release.name),
                }
                for item in installed.models
            },
            "bundles": {item.release.name: item.release.version for item in installed.bundles},
            "answering": {task: device.variant(task).bundle for task in device.tasks},
        }
        say(msgspec.json.encode(facts).decode())
        return
    answering = {device.variant(task).bundle for task in device.tasks}
    several = len(answering) < len(installed.bundles)
    for bundle in installed.bundles:
        answers = ", answers now" if several and bundle.release.name in answering else ""
        say(f"task {bundle.release.name}, version {bundle.release.version}{answers}")
    models = [
        [
            model.release.name,
            str(model.release.version),
            f"{model.release.size_bytes / 1e6:.3f}",
            "pinned" if model.pinned else "",
        ]
        for model in installed.models
    ]
    say(table(["model", "version", "MB", ""], models, "lrrl"))
    allowed = "" if budget is None else f" of {budget / 1e6:.3f} MB"
    say(f"{used / 1e6:.3f} MB{allowed} used; {device.config.url}, mode {device.config.mode}")
    if device.config.asked:
        say(f"servers that models may be asked at: {', '.join(device.config.asked)}")
    if device.store.unwritable is not None:
        say(f"It answers, but nothing can be kept or updated: {device.store.unwritable}", err=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    app.add_typer(commands, rich_help_panel=DEVICE_PANEL)
