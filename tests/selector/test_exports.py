"""Claims about what folders of the selector export: short names, and nothing is loaded that is not used."""

from __future__ import annotations

import importlib

import pytest

import selector.bundle
import selector.device
from tests.support.fresh_interpreter import loaded_after


@pytest.mark.parametrize("package", [selector.bundle, selector.device])
def test_all_that_a_folder_exports_is_there(package: object) -> None:
    names = package.__all__
    assert names == sorted(names)
    assert all(getattr(package, name).__name__ == name for name in names)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = package.Nothing


def test_short_names_are_the_same_things() -> None:
    assert selector.device.Device is importlib.import_module("selector.device.device").Device
    assert selector.bundle.subject is importlib.import_module("selector.bundle.bundle").subject


def test_a_part_of_the_device_does_not_load_the_device() -> None:
    assert "selector.device.device" not in loaded_after("import selector.device.settings")
    assert "selector.device.device" in loaded_after("from selector.device import Device")
