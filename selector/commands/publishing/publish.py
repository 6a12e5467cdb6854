"""The commands ``publish``: models and bundles become signed files that any web server can hold."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from selector.commands.options import MY_ZOO, PUBLISHING_PANEL, JsonOption, ModelsOption, ZooOption, names_in
from selector.commands.publishing.signing import (
    ExpiresOption,
    KeysOption,
    NoPassphraseOption,
    RepoArgument,
    keys,
    open_keys,
    parse_expiry,
    refresh,
    rotate,
    warn,
)
from selector.commands.say import say
from selector.commands.tables import table
from zoo.errors import PublishError

if TYPE_CHECKING:
    from zoo.models.zoo import Zoo
    from zoo.publisher.publish import Publication
    from zoo.releases.bundle_files import BundleFiles
    from zoo.releases.release import BundleRelease, ModelRelease

ACCURACY = "zooselect.accuracy"  # entry points: (profile, zoo) → accuracy of every model


class _AddByDefault(TyperGroup):
    """``zooselect publish FOLDER …`` is ``zooselect publish add FOLDER …``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["add", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    group = typer.Typer(
        cls=_AddByDefault,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        help="Publish models and bundles for devices: signed files that any web server can hold.\n\n"
        "The short form is **zooselect publish REPO --zoo my-zoo --bundle NAME=my-bundle**; the first "
        "time it makes keys as well. Have **zooselect publish refresh REPO** run every few hours, or devices "
        "take nothing new after a day.",
    )
    for command in (add, show, remove, keys, rotate, refresh, clean):
        group.command("list" if command is show else None)(command)
    app.add_typer(group, name="publish", rich_help_panel=PUBLISHING_PANEL)


def add(
    repo: RepoArgument,
    zoo: ZooOption = MY_ZOO,
    bundle: Annotated[
        list[str] | None,
        typer.Option(
            "--bundle", help="NAME=FOLDER: the task on devices, and what 'zooselect export' made. Repeat it."
        ),
    ] = None,
    keys: KeysOption = None,
    models: ModelsOption = "",
    profile: Annotated[
        Path | None,
        typer.Option("--profile", help="Folder of a profile: its test split says how accurate models are."),
    ] = None,
    latency: Annotated[
        list[Path] | None,
        typer.Option("--latency", help="A latency table, for times on one device. Repeat it."),
    ] = None,
    anew: Annotated[
        bool,
        typer.Option(
            "--anew", help="Believe nothing that is published, check all again: after a stolen key."
        ),
    ] = False,
    root_threshold: Annotated[
        int,
        typer.Option("--root-threshold", min=1, help="The first time: how many root keys have to sign."),
    ] = 1,
    no_passphrase: NoPassphraseOption = False,
    expires: ExpiresOption = "",
    as_json: JsonOption = False,
) -> None:
    """Publish models of a zoo, and bundles made for them. The default: 'publish REPO' means this.

    Every model is checked, taken apart and measured first. Only then files are written, the one that
    publishes last; what devices have or another model shares is not stored again. To go back, publish the
    older zoo again. Run it on the machine that serves the folder, or copy the folder there as a whole.
    Example: zooselect publish my-repo --zoo my-zoo --bundle birds=my-bundle
    """
    import msgspec

    from zoo.models.zoo import Zoo
    from zoo.publisher.publish import publish

    whole = Zoo.open(zoo)
    chosen = whole.only(names_in(models)) if models else whole
    folders = _bundles(bundle or [])
    accuracy, latency_ms = _measured(chosen, profile, latency or [])
    result = publish(
        repo,
        whole,
        models=names_in(models) if models else None,
        keys=open_keys(keys, repo, no_passphrase=no_passphrase),
        bundles=folders,
        accuracy=accuracy,
        latency_ms=latency_ms,
        expiry=parse_expiry(expires),
        root_threshold=root_threshold,
        anew=anew,
        progress=lambda name: say(f"checking and measuring {name} …", err=True),
    )
    if as_json:
        say(msgspec.json.encode(result).decode())
        return
    say(_table(result))
    warn(result.warnings)
    if there := [card.name for card in chosen.cards if card.remote is not None]:
        say(f"On servers, so published only in the bundles that name them: {', '.join(there)}.", err=True)
    say(
        f"Version {result.targets_version} in {repo}, {result.new_bytes / 1e6:.2f} MB new. Devices start "
        f"with {repo / 'metadata' / '1.root.json'}."
        if result.changed
        else "Nothing to publish: all of it is there already."
    )


def show(repo: RepoArgument, as_json: JsonOption = False) -> None:
    """List what is published, without looking at who signed it."""
    import msgspec

    from zoo.publisher.publish import published

    index = published(repo)
    if as_json:
        say(msgspec.json.encode(index).decode())
        return
    offered: list[tuple[str, ModelRelease | BundleRelease]] = []
    offered += [("model", item) for item in index.models.values()]
    offered += [("bundle", item) for item in index.bundles.values()]
    rows = [
        [kind, item.name, str(item.version), f"{item.size_bytes / 1e6:.2f}", ""] for kind, item in offered
    ]
    rows += [
        ["group", one.group, str(one.version), "", ", ".join((*one.bundles, *one.models))]
        for one in index.assignments.values()
    ]
    say(table(["kind", "name", "version", "MB", "assigned"], rows, "llrrl"))


def remove(
    repo: RepoArgument,
    models: Annotated[str, typer.Option("--models", help="Names, separated by commas.")] = "",
    bundles: Annotated[str, typer.Option("--bundles", help="Names, separated by commas.")] = "",
    keys: KeysOption = None,
    expires: ExpiresOption = "",
) -> None:
    """Offer models or bundles no longer. Their files stay until 'zooselect publish clean'.

    Example: zooselect publish remove my-repo --models tiny,small
    """
    from zoo.publisher.publish import remove as run

    if not models and not bundles:
        raise PublishError("expected --models or --bundles with names to remove, got none.")
    left = run(
        repo,
        keys=open_keys(keys),
        models=names_in(models),
        bundles=names_in(bundles),
        expiry=parse_expiry(expires),
    )
    say(f"Left: models {', '.join(left.models) or 'none'}; bundles {', '.join(left.bundles) or 'none'}.")


def clean(
    repo: RepoArgument,
    grace_days: Annotated[
        float, typer.Option("--grace-days", min=0, help="Keep what was offered within so many days.")
    ] = 7.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove files that nothing published needs any more. Devices in the middle of a download keep going."""
    from zoo.publisher.cleaning import clean as run

    done = run(repo, grace_days=grace_days, dry_run=dry_run)
    say(f"{'Would remove' if dry_run else 'Removed'} {done.files} files, {done.bytes / 1e6:.2f} MB.")


def _bundles(items: Iterable[str]) -> dict[str, BundleFiles]:
    """Bundles that load as a device would load them."""
    from selector.answering.selector import Selector
    from selector.bundle.bundle import read_bundle_files

    found = {}
    for item in items:
        name, _, folder = item.partition("=")
        if not name or not folder:
            raise PublishError(f"--bundle: expected NAME=FOLDER such as birds=my-bundle, got {item!r}.")
        Selector.load(folder)
        found[name] = read_bundle_files(folder)
    return found


def _measured(
    zoo: Zoo, profile: Path | None, latency: list[Path]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Accuracy on the test split of a profile, and typical times of latency tables."""
    from zoo.models.latency import load_table

    accuracy: dict[str, float] = {}
    if profile is not None:
        accuracy = dict(_accuracy(profile, zoo))
    tables = [load_table(path) for path in latency]
    return accuracy, {table.device: table.costs_ms(zoo) for table in tables}


def _accuracy(profile: Path, zoo: Zoo) -> Mapping[str, float]:
    """Of every model on the test split of a profile, by the package that reads profiles."""
    for point in importlib.metadata.entry_points(group=ACCURACY):
        found: Mapping[str, float] = point.load()(profile, zoo)
        return found
    raise PublishError(
        f"--profile: nothing that is installed reads profiles, got {profile}. "
        "Install zooselect with the extra 'train', or publish without --profile."
    )


def _table(result: Publication) -> str:
    rows = [
        [
            item.kind,
            item.name,
            str(item.version),
            f"{item.size_bytes / 1e6:.2f}",
            f"{item.new_bytes / 1e6:.2f}",
            "" if item.changed else "unchanged",
        ]
        for item in result.items
    ]
    return table(["kind", "name", "version", "MB", "new MB", ""], rows, "llrrrl")
