"""How to install what is missing, for the way in which zooselect was installed."""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

NAME = "zooselect"


def install_command(extra: str) -> str:
    """The command that installs an extra: from the checkout, file or repository that this package came from.

    Packages that pip did not get from an index have a record of where they came from (PEP 610). It works from
    any folder.

    Examples
    --------
    >>> from zoo.extras import install_command
    >>> install_command("train").startswith("pip install ")
    True
    """
    import importlib.metadata  # takes as long to load as the rest of what a device needs to start

    try:
        record = importlib.metadata.distribution(NAME).read_text("direct_url.json")
        return _from_record(msgspec.json.decode(record or "{}", type=_Origin), extra)
    except (importlib.metadata.PackageNotFoundError, msgspec.MsgspecError, OSError, ValueError):
        return f"pip install -e '.[{extra}]' in the checkout"


class _Folder(msgspec.Struct, frozen=True):
    editable: bool = False


class _Repository(msgspec.Struct, frozen=True):
    vcs: str
    commit_id: str


class _Origin(msgspec.Struct, frozen=True):
    url: str = ""
    dir_info: _Folder | None = None
    vcs_info: _Repository | None = None


def _from_record(origin: _Origin, extra: str) -> str:
    if not origin.url:  # from an index
        return f"pip install '{NAME}[{extra}]'"
    if origin.dir_info is not None:
        folder = unquote(urlsplit(origin.url).path)
        if not Path(folder, "pyproject.toml").is_file():  # moved since
            return f"pip install -e '.[{extra}]' in the checkout"
        return f"pip install {'-e ' if origin.dir_info.editable else ''}" + shlex.quote(f"{folder}[{extra}]")
    url = origin.url
    if origin.vcs_info is not None:
        url = f"{origin.vcs_info.vcs}+{url}@{origin.vcs_info.commit_id}"
    return "pip install " + shlex.quote(f"{NAME}[{extra}] @ {url}")
