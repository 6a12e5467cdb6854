"""The commands ``publish keys``, ``publish rotate`` and ``publish refresh``: who signs, and for how long."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selector.commands.options import JsonOption, names_in, numbers_in
from selector.commands.say import say
from zoo.errors import KeysError, PublishError

if TYPE_CHECKING:
    from zoo.publisher.keys import Keys, Passphrase
    from zoo.publisher.signing import Expiry

MY_KEYS = Path("my-keys")
PASSPHRASE = "ZOOSELECT_PASSPHRASE"

RepoArgument = Annotated[Path, typer.Argument(help="The publisher's folder, which a web server serves.")]
KeysOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--keys",
        help=f"Folder of private keys; repeat it where they lie in several. Default: {MY_KEYS}. Encrypted "
        f"ones are opened with the environment variable {PASSPHRASE}; on a terminal it is asked for.",
    ),
]
NoPassphraseOption = Annotated[
    bool,
    typer.Option(
        "--no-passphrase", help="Do not encrypt new keys, for programs that open them without anybody there."
    ),
]
ExpiresOption = Annotated[
    str,
    typer.Option(
        "--expires",
        help="Days that signatures are valid. "
        "Default: root=365,targets=90,assignments=30,snapshot=7,timestamp=1.",
    ),
]


def keys(
    folder: Annotated[Path, typer.Argument(help="Where to put the keys.")] = MY_KEYS,
    root_keys: Annotated[
        int, typer.Option("--root-keys", min=1, help="How many keys of the root, for several people.")
    ] = 1,
    roles: Annotated[
        str, typer.Option("--roles", help="Only keys of these roles, separated by commas. Default: all five.")
    ] = "",
    no_passphrase: NoPassphraseOption = False,
) -> None:
    """Make private keys, one file a role. What was interrupted is continued.

    They are encrypted: with the environment variable ZOOSELECT_PASSPHRASE, else on a terminal a passphrase is
    asked for twice. A program without the variable gets keys that are not encrypted.

    Keep root-*.pem and targets-*.pem away from the network: they say what devices run. The server needs
    snapshot-*.pem and timestamp-*.pem for 'refresh', and assignments-*.pem if it assigns models to groups.

    Example: zooselect publish keys /media/offline --roles root,targets
    """
    from zoo.publisher.keys import ROLES, create_keys

    chosen = names_in(roles) or list(ROLES)
    unknown = [name for name in chosen if name not in ROLES]
    if unknown:
        raise PublishError(f"--roles: expected some of {', '.join(ROLES)}, got {', '.join(unknown)}.")
    made = create_keys(
        folder,
        roles=[role for role in ROLES if role in chosen],
        root_keys=root_keys,
        passphrase=_new_passphrase(no_passphrase),
    )
    say(_where(made))


def rotate(
    repo: RepoArgument,
    role: Annotated[str, typer.Argument(help="root, targets, snapshot, timestamp or assignments.")],
    keys: KeysOption = None,
    lost: Annotated[bool, typer.Option("--lost", help="The old key is gone.")] = False,
    expires: ExpiresOption = "",
) -> None:
    """Replace the keys of a role by new ones, made in the first --keys folder. Devices notice nothing.

    The root key has to be at hand, for assignments the targets key. New keys are encrypted where the old
    ones are.
    Example: zooselect publish rotate my-repo timestamp --keys my-keys
    """
    from zoo.publisher.keys import ROLES
    from zoo.publisher.rotation import rotate as run

    chosen = next((name for name in ROLES if name == role), None)
    if chosen is None:
        raise PublishError(f"expected one of {', '.join(ROLES)}, got {role!r}.")
    held = open_keys(keys)
    done = run(repo, held, chosen, lost=lost, expiry=parse_expiry(expires))
    locked = "encrypted" if held.are_encrypted(done.new) else "not encrypted"
    say(
        f"New {role} keys {_short(done.new)} in {held.folders[0]}, {locked}; {_short(done.retired)} "
        "no longer count and can be deleted."
    )


def refresh(
    repo: RepoArgument, keys: KeysOption = None, expires: ExpiresOption = "", as_json: JsonOption = False
) -> None:
    """Sign anew what expires before long: always the timestamp, others when due and their key is at hand.

    Made for cron, for example every six hours with the keys of snapshot and timestamp alone:
    0 */6 * * * zooselect publish refresh /srv/models --keys /etc/zooselect/keys
    """
    import msgspec

    from zoo.publisher.signing import refresh as run

    done = run(repo, open_keys(keys), expiry=parse_expiry(expires))
    if as_json:
        say(msgspec.json.encode(done).decode())
        return
    say(f"Signed anew: {', '.join(done.roles)}.")
    warn(done.warnings)


def open_keys(folders: list[Path] | None, new: Path | None = None, *, no_passphrase: bool = False) -> Keys:
    """The keys in some folders; where a publisher `new` begins and there are none, or not all, fresh ones.

    Raises
    ------
    KeysError
        When a key cannot be read.
    """
    from zoo.publisher.keys import Keys, create_keys, unfinished

    places = folders or [MY_KEYS]
    begins = new is not None and not (new / "metadata").exists()
    if not (begins and unfinished(places[0])):
        held = Keys.open(*places, passphrase=passphrase())
        if not begins or any(True for _ in held):
            return held
    made = create_keys(places[0], passphrase=_new_passphrase(no_passphrase))
    say(_where(made), err=True)
    return made


def passphrase() -> Passphrase | None:
    """What opens encrypted keys: the environment variable, or whoever sits at the terminal."""
    return os.environ.get(PASSPHRASE) or (_ask if sys.stdin.isatty() else None)


def _prompt(question: str, *, twice: bool = False) -> str:
    """Ask at the terminal; whoever runs in its background would be stopped there, and is told instead."""
    with contextlib.suppress(OSError, AttributeError):
        if os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
            raise KeysError(
                "expected somebody at the terminal to type a passphrase, got a process in the background. "
                f"Put it into the environment variable {PASSPHRASE}, or run this in the foreground."
            )
    try:
        return str(typer.prompt(question, hide_input=True, confirmation_prompt=twice, err=True))
    except typer.Abort:  # Ctrl-C, or the end of the input
        say("", err=True)
        raise KeyboardInterrupt from None


def _new_passphrase(none: bool) -> Passphrase | None:
    given = os.environ.get(PASSPHRASE)
    if none:
        return None
    if given == "":
        raise KeysError(
            f"{PASSPHRASE}: expected a passphrase, got an empty one. Unset it, or give --no-passphrase."
        )
    return given or (_ask_twice if sys.stdin.isatty() else None)


def _ask() -> str:
    return _prompt("Passphrase of the keys")


def _ask_twice() -> str:
    question = "Passphrase for the new keys (with --no-passphrase there is none)"
    return _prompt(question, twice=True)


def _where(made: Keys) -> str:
    """What to do with new keys."""
    locked = "encrypted" if made.are_encrypted() else f"not encrypted (set {PASSPHRASE} for that)"
    there = {role for role, _ in made}
    advice = (
        " Move root-*.pem and targets-*.pem to a place offline, and keep a copy: without the root key "
        "devices can never be given new keys."
        if "root" in there
        else ""
    )
    return f"New private keys in {made.folders[0]}, {locked}.{advice}"


def parse_expiry(text: str) -> Expiry:
    """Days such as ``targets=90,timestamp=1``; raises :class:`PublishError`."""
    from zoo.publisher.signing import Expiry

    days = numbers_in(
        text,
        Expiry.__dataclass_fields__,
        lambda part: PublishError(f"--expires: expected days such as targets=90,timestamp=1, got {part!r}."),
    )
    return Expiry(**days)


def warn(warnings: Iterable[str]) -> None:
    """Say on standard error what needs attention."""
    for warning in warnings:
        say(f"Warning: {warning}", err=True)


def _short(key_ids: Iterable[str]) -> str:
    return ", ".join(key_id[:16] for key_id in key_ids)
