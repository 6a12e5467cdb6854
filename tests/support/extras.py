"""Test files that import a package of an extra are skipped, and say so, where it is not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

EXTRAS = {
    "train": ("jinja2", "matplotlib", "pyarrow", "scipy", "skl2onnx", "sklearn", "torch", "torchvision"),
    "publish": ("cryptography", "onnx", "securesystemslib"),
    "fetch": ("tuf", "urllib3"),
    "serve": ("starlette", "uvicorn"),
}


def missing(name: str) -> str | None:
    """The extra that a package belongs to, if it is not installed."""
    extra = next((extra for extra, packages in EXTRAS.items() if name in packages), None)
    return extra if extra and importlib.util.find_spec(name) is None else None


class _Module(pytest.Module):
    def _getobj(self) -> ModuleType:
        try:
            found: ModuleType = super()._getobj()
        except (self.CollectError, ImportError) as error:
            cause: BaseException | None = error
            while cause is not None:
                name = (getattr(cause, "name", None) or "").partition(".")[0]
                if extra := missing(name):
                    reason = f"{self.path.name} needs the extra {extra!r}: {name} is not installed"
                    pytest.skip(reason, allow_module_level=True)
                cause = cause.__cause__ or cause.__context__
            raise
        return found


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    """Every test file is such a module."""
    made: pytest.Module = _Module.from_parent(parent, path=module_path)
    return made
