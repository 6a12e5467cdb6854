"""Claims about the options of a fit: one record, the same in Python and on the command line."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

import training
from tests.support.command_line import CommandLine
from tests.support.fresh_interpreter import loaded_after
from tests.support.world import World
from training.fitting.fit import fit, fit_inputs_sha256
from training.fitting.fitted import load_fit, save_fit
from training.fitting.options import FitOptions
from zoo.errors import PrecisionError


def test_accuracy_is_another_name_for_precision(world: World) -> None:
    inputs = (world.profile, world.zoo, world.table)
    assert FitOptions(accuracy=0.9).constraint == FitOptions(precision=0.9).constraint
    assert fit_inputs_sha256(*inputs, accuracy=0.9) == fit_inputs_sha256(*inputs, FitOptions(precision=0.9))
    assert fit_inputs_sha256(*inputs) == fit_inputs_sha256(*inputs, precision=0.95)
    with pytest.raises(PrecisionError, match="got precision and accuracy, which mean the same"):
        FitOptions(precision=0.9, accuracy=0.9)
    with pytest.raises(PrecisionError, match="expected one constraint, got precision and mean_ms"):
        fit(*inputs, FitOptions(precision=0.9), mean_ms=1.0)
    with pytest.raises(PrecisionError, match="expected delta strictly between 0 and 1"):
        FitOptions(delta=1.0)
    with pytest.raises(TypeError, match="presicion"):
        fit(*inputs, presicion=0.9)


def test_the_command_has_every_option(zooselect: CommandLine) -> None:
    text = zooselect("fit", "--help").out
    renamed = {"agree_with_reference": "no-labels"}
    for item in fields(FitOptions):
        assert f"--{renamed.get(item.name, item.name).replace('_', '-')} " in text
    both = zooselect("fit", "--precision", 0.9, "--accuracy", 0.9, code=1)
    assert "got --precision and --accuracy, which mean the same" in both.err


def test_a_certified_selector_is_replaced_only_when_asked_to(world: World, tmp_path: Path) -> None:
    certified, not_certified = (world.fit("cascade", precision=level) for level in (0.8, 0.999))
    save_fit(not_certified, tmp_path)
    save_fit(certified, tmp_path)
    with pytest.raises(PrecisionError, match=r"which is certified for precision 0\.8; .*replace=True"):
        save_fit(not_certified, tmp_path)
    assert load_fit(tmp_path).record == certified.record
    save_fit(not_certified, tmp_path, replace=True)
    assert load_fit(tmp_path).record == not_certified.record


def test_the_steps_are_imported_from_the_package_and_only_when_asked_for() -> None:
    names = "{'FitOptions', 'evaluate', 'export_bundle', 'fit', 'profile'}"
    loaded = loaded_after(f"import training; assert {names} <= set(dir(training))")
    assert not {"torch", "sklearn", "numpy"} & loaded
    loaded = loaded_after("from training import FitOptions; assert FitOptions().delta == 0.05")
    assert not {"torch", "sklearn"} & loaded
    assert training.fit is fit
    assert set(training.__all__) <= set(dir(training))


def test_unknown_names_of_the_package_are_said_so() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fits'"):
        _ = training.fits
