"""The commands ``publish keys``, ``publish rotate`` and ``publish refresh``: who signs, and for how long."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selector.commands.options import JsonOption, numbers_in
from selector.commands.say import say
from zoo.errors import PublishError

if TYPE_CHECKING:
    from zoo.publisher.keys import Keys
    from zoo.publisher.signing import Expiry

MY_KEYS = Path("my-keys")
PASSPHRASE = "ZOOSELECT_PASSPHRASE"

RepoArgument = Annotated[Path, typer.Argument(help="The publisher's folder, which a web server serves.")]
KeysOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--keys",
        help=f"Folder of private keys; repeat it where they lie in several. Default: {MY_KEYS}. Encrypted "
        f"ones are opened with the environment variable {PASSPHRASE}.",
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
) -> None:
    """Make private keys, one file a role. They are encrypted if ZOOSELECT_PASSPHRASE is set.

    Keep root-*.pem and targets-*.pem away from the network: they say what devices run. The server needs
    snapshot-*.pem and timestamp-*.pem for 'refresh', and assignments-*.pem if it assigns models to groups.
    """
    from zoo.publisher.keys import create_keys

    create_keys(folder, root_keys=root_keys, passphrase=os.environ.get(PASSPHRASE))
    say(where(folder))


def rotate(
    repo: RepoArgument,
    role: Annotated[str, typer.Argument(help="root, targets, snapshot, timestamp or assignments.")],
    keys: KeysOption = None,
    lost: Annotated[bool, typer.Option("--lost", help="The old key is gone.")] = False,
    expires: ExpiresOption = "",
) -> None:
    """Replace the keys of a role by new ones, made in the first --keys folder. Devices notice nothing.

    The root key has to be at hand, for assignments the targets key.
    Example: zooselect publish rotate my-repo timestamp --keys my-keys
    """
    from zoo.publisher.keys import ROLES
    from zoo.publisher.rotation import rotate as run

    chosen = next((name for name in ROLES if name == role), None)
    if chosen is None:
        raise PublishError(f"expected one of {', '.join(ROLES)}, got {role!r}.")
    held = open_keys(keys)
    done = run(repo, held, chosen, lost=lost, expiry=parse_expiry(expires))
    say(
        f"New {role} keys {_short(done.new)} in {held.folders[0]}; {_short(done.retired)} no longer count "
        "and can be deleted."
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


def open_keys(folders: list[Path] | None, new: Path | None = None) -> Keys:
    """The keys in some folders; where a publisher `new` begins and there are none, fresh ones.

    Raises
    ------
    KeysError
        When a key cannot be read.
    """
    from zoo.publisher.keys import Keys, create_keys

    passphrase = os.environ.get(PASSPHRASE)
    held = Keys.open(*(folders or [MY_KEYS]), passphrase=passphrase)
    if new is None or (new / "metadata").exists() or any(True for _ in held):
        return held
    made = create_keys(held.folders[0], passphrase=passphrase)
    say(where(held.folders[0]), err=True)
    return made


def where(folder: Path) -> str:
    """What to do with new keys."""
    locked = "encrypted" if os.environ.get(PASSPHRASE) else f"not encrypted (set {PASSPHRASE} for that)"
    return (
        f"New private keys in {folder}, {locked}. Move root-*.pem and targets-*.pem to a place offline, and "
        "keep a copy: without the root key devices can never be given new keys."
    )


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
