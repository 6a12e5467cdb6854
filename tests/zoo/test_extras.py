"""The advice to install something is right for the way in which zooselect was installed."""

import importlib.metadata
import shlex
from pathlib import Path

import msgspec
import pytest

from zoo.extras import install_command

INDEX = "pip install 'zooselect[train]'"


class Installed(importlib.metadata.Distribution):
    """A distribution with a record of where it came from (PEP 610), or without one."""

    def __init__(self, record: str | None) -> None:
        self.record = record

    def read_text(self, filename: str) -> str | None:
        return self.record if filename == "direct_url.json" else None

    def locate_file(self, path: object) -> Path:
        return Path(str(path))


def advice(monkeypatch: pytest.MonkeyPatch, record: object) -> str:
    text = record if isinstance(record, str | None) else msgspec.json.encode(record).decode()
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed(text))
    return install_command("train")


@pytest.mark.parametrize("editable", [True, False])
def test_a_checkout_is_named_and_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, editable: bool
) -> None:
    checkout = tmp_path / "my 'zoo'"
    checkout.mkdir()
    (checkout / "pyproject.toml").touch()
    record = {"url": checkout.as_uri(), "dir_info": {"editable": True} if editable else {}}
    words = shlex.split(advice(monkeypatch, record))
    assert words == ["pip", "install", *(["-e"] if editable else []), f"{checkout}[train]"]


def test_a_checkout_that_is_gone_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"url": (tmp_path / "gone").as_uri(), "dir_info": {"editable": True}}
    assert advice(monkeypatch, record) == "pip install -e '.[train]' in the checkout"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (None, INDEX),
        (
            {"url": "https://x.org/z.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "pip install 'zooselect[train] @ git+https://x.org/z.git@abc'",
        ),
        (
            {"url": "file:///w/z-1-py3-none-any.whl", "archive_info": {}},
            "pip install 'zooselect[train] @ file:///w/z-1-py3-none-any.whl'",
        ),
        ("{", "pip install -e '.[train]' in the checkout"),
        ('{"url": "http://[x", "dir_info": {}}', "pip install -e '.[train]' in the checkout"),
    ],
)
def test_other_sources_are_named_as_pip_takes_them(
    monkeypatch: pytest.MonkeyPatch, record: object, expected: str
) -> None:
    assert advice(monkeypatch, record) == expected


def test_a_package_that_was_never_installed_is_one_in_its_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    assert install_command("train") == "pip install -e '.[train]' in the checkout"
