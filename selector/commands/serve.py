"""The commands ``serve``: published files over HTTP, reports of devices in, signed assignments out."""

from __future__ import annotations

import contextlib
import functools
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from selector.commands.options import PUBLISHING_PANEL, JsonOption
from selector.commands.say import say
from zoo.errors import CardError, DataError, KeysError, MissingExtraError
from zoo.extras import install_command

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from selector.fleet.app import Background
    from selector.fleet.decide import Decision
    from selector.fleet.schedule import Turns
    from selector.fleet.signatures import Signatures
    from selector.fleet.tally import Tally
    from selector.fleet.tokens import Token

MY_SERVICE = Path("my-service")
TOKENS_FILE = "tokens.json"
FIRST = "start"
LATELY_DAYS = 7.0
LEFT_OUT_EVERY_S = 60.0  # between words about lines that were left out of the log

RepoArgument = Annotated[Path, typer.Argument(help="Folder of a publisher, made by 'zooselect publish'.")]
DataOption = Annotated[
    Path, typer.Option(help="Folder of the service: reports, tokens.json, and groups.json if there is one.")
]
TokensOption = Annotated[
    Path | None, typer.Option(help="File of the tokens' digests. Default: tokens.json in --data.")
]
KeysOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the keys of snapshot, timestamp and assignments. Default: sign nothing."),
]
LatelyOption = Annotated[float, typer.Option(min=0.01, help="Days for which a report of a device counts.")]


class _StartByDefault(TyperGroup):
    """``serve REPO`` is short for ``serve start REPO``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [FIRST, *args]
        return super().parse_args(ctx, args)


commands = typer.Typer(
    name="serve",
    cls=_StartByDefault,
    no_args_is_help=True,
    help="Serve what is published, take reports of devices, and assign models to their groups.\n\n"
    "**zooselect serve REPO** serves the files. With a token (**serve token**) devices of a group report "
    "what they were asked; with --keys the service signs what they are to hold.",
)


@commands.command()
def start(
    repo: RepoArgument,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Others reach it over a proxy with TLS.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any that is free.")] = 8765,
    keys: KeysOption = None,
    tokens: TokensOption = None,
    data: DataOption = MY_SERVICE,
    every: Annotated[float, typer.Option(min=1, help="Seconds between decisions about groups.")] = 300.0,
    lately: LatelyOption = LATELY_DAYS,
) -> None:
    """Serve until interrupted. 'zooselect serve REPO' is short for it.

    Without tokens only files are served. With --keys the timestamp is signed again before it expires.
    Example: zooselect serve published --keys online-keys
    """
    try:
        from selector.fleet.app import Limits, Service, make_app
        from selector.fleet.ledger import Ledger
        from selector.fleet.rate_limits import LogLimit
        from selector.fleet.server import address_of, bind, serve
        from selector.fleet.tokens import Tokens
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"serving needs the package {error.name!r}: {install_command('serve')}"
        ) from error
    from selector.fleet.schedule import Turns
    from selector.fleet.schedule import every as again
    from zoo.releases.catalogue import index_from_folder

    handler = logging.StreamHandler()
    handler.addFilter(limit := LogLimit())
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO, handlers=[handler])
    _check_repo(repo)
    signatures = _signatures(repo, keys)
    path = tokens or data / TOKENS_FILE
    service = None
    closing = contextlib.ExitStack()
    closing.callback(limit.tell)
    background: list[Background] = [functools.partial(again, LEFT_OUT_EVERY_S, limit.tell)]
    if path.exists():
        ledger = closing.enter_context(contextlib.closing(Ledger(data)))
        read_index = functools.partial(index_from_folder, repo)
        limits = Limits(lately_s=lately * 86400)
        service = Service(Tokens(path), ledger, limits, published=read_index)
        if ledger.damaged:
            say(f"{ledger.damaged} damaged reports in {ledger.path.parent} were left out.", err=True)
    if signatures is not None:
        background.append(functools.partial(again, 60.0, signatures.timestamp))
        if service is not None:
            decide = _decide(
                repo, service.ledger.tally, signatures, data, lately, service.tokens.valid, Turns()
            )
            background.append(functools.partial(again, every, decide, first_s=1.0))
    with closing, bind(host, port) as listening:
        url = address_of(listening)
        say(f"Files of {repo} at {url}/ (devices are given {url} and {repo}/metadata/1.root.json)")
        say(
            f"Reports of devices at {url}/v1/reports, kept in {data}"
            if service is not None
            else f"No reports are taken: no tokens in {path}. Make one: zooselect serve token --group NAME"
        )
        say(
            ("Assignments and timestamp are" if service is not None else "The timestamp is") + " signed here."
            if signatures is not None
            else "Nothing is signed here; the timestamp expires unless 'zooselect publish refresh' runs."
        )
        if host not in ("127.0.0.1", "::1", "localhost"):
            say("Put a proxy with TLS in front, see docs/nginx.conf: tokens travel in the clear.", err=True)
        serve(make_app(repo, service, background=tuple(background)), listening)


@commands.command()
def token(
    group: Annotated[str | None, typer.Option(help="Group whose devices report with the token.")] = None,
    operator: Annotated[
        bool, typer.Option("--operator", help="Instead: a token to read the demand of groups with.")
    ] = False,
    tokens: TokensOption = None,
    data: DataOption = MY_SERVICE,
) -> None:
    """Make a token and print it once; only its digest is kept.

    Delete its entry in tokens.json to withdraw it: reports that came with it do not count any more.
    Example: zooselect serve token --group cameras
    """
    from selector.fleet.tokens import Tokens

    if (group is None) != operator:
        raise DataError("expected either --group NAME or --operator, got both or none of them.")
    path = tokens or data / TOKENS_FILE
    say(Tokens(path).add("operator" if operator else "device", group))
    say(f"Its digest is in {path}; the token itself is shown only now.", err=True)


@commands.command()
def assign(
    repo: RepoArgument,
    keys: KeysOption = None,
    tokens: TokensOption = None,
    data: DataOption = MY_SERVICE,
    lately: LatelyOption = LATELY_DAYS,
    withdraw: Annotated[
        list[str] | None,
        typer.Option(
            help="Group that is assigned nothing any more, until groups.json says otherwise; may be repeated."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Decide once what every group is to hold; with --keys it is signed.

    Also while the service runs. Example: zooselect serve assign published --keys online-keys
    """
    import msgspec

    from selector.fleet.ledger import read_tally
    from selector.fleet.tokens import Tokens
    from zoo.releases.catalogue import index_from_folder

    _check_repo(repo)
    signatures = _signatures(repo, keys)
    tally = read_tally(data)
    if withdraw:
        if signatures is None:
            raise KeysError("expected --keys with --withdraw, got none: a withdrawal is signed.")
        _withdraw(withdraw, {*index_from_folder(repo).assignments, *tally.groups}, data)
    valid = Tokens(tokens or data / TOKENS_FILE).valid
    decisions = _decide(repo, tally, signatures, data, lately, valid, None)()
    if as_json:
        say(msgspec.json.encode(decisions).decode())
        return
    for one in decisions:
        models = ", ".join(one.assignment.models) if one.assignment else "nothing assigned"
        done = ("signed" if signatures else "would be signed") if one.changed else "unchanged"
        say(f"{one.group}: {models} ({one.size_bytes / 1e6:.3f} MB), {done}: {one.reason}")
    if not decisions:
        say(f"No group has reported yet, and none is fixed in {data / 'groups.json'}.")


def _withdraw(groups: Sequence[str], known: Collection[str], data: Path) -> None:
    """Note in groups.json that these groups are assigned nothing, for the next decision."""
    from selector.fleet.groups import withdraw

    unknown = [group for group in groups if group not in known]
    if unknown:
        raise DataError(
            f"expected groups that have an assignment or have reported, got {', '.join(unknown)}. "
            f"There are: {', '.join(sorted(known)) or 'none'}."
        )
    for group in groups:
        withdraw(data, group)
    say(
        f"{data / 'groups.json'} says now that {', '.join(groups)} is assigned nothing; take "
        '"assigned": false out of it to have the service decide again.',
        err=True,
    )


def _check_repo(repo: Path) -> None:
    if not (repo / "metadata" / "timestamp.json").is_file():
        raise CardError(
            f"expected the folder of a publisher, got no metadata/timestamp.json in {repo}. "
            "Publish there first: zooselect publish --help"
        )


def _signatures(repo: Path, keys: Path | None) -> Signatures | None:
    if keys is None:
        return None
    from selector.commands.publishing.signing import passphrase
    from selector.fleet.signatures import Signatures

    signatures = Signatures(repo, keys, passphrase=passphrase())
    if signatures.offline_here:
        say(
            f"{keys} also holds the keys of {' and '.join(signatures.offline_here)}: whoever takes over this "
            "machine can publish. Keep them offline.",
            err=True,
        )
    return signatures


def _decide(
    repo: Path,
    tally: Tally,
    signatures: Signatures | None,
    data: Path,
    lately: float,
    tokens: Callable[[], Collection[Token]],
    turns: Turns | None,
) -> Callable[[], list[Decision]]:
    from selector.fleet.group_tasks import tasks_for
    from selector.fleet.schedule import assign_groups

    return functools.partial(
        assign_groups,
        repo,
        tally,
        functools.partial(tasks_for, repo),
        sign=None if signatures is None else signatures.assignments,
        settings=data,
        lately_s=lately * 86400,
        tokens=tokens,
        turns=turns,
    )


def register(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    app.add_typer(commands, rich_help_panel=PUBLISHING_PANEL)
