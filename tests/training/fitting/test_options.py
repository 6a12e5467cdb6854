"""Claims about the options of a fit: one record, the same in Python and on the command line."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

import training
from tests.support.command_line import CommandLine
from tests.support.fresh_interpreter import loaded_after
from tests.support.world import World
from training.evaluation.findings import proven_by
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


def test_the_test_of_a_precision_is_chosen_stored_and_said(
    world: World, zooselect: CommandLine, tmp_path: Path
) -> None:
    chosen = world.fits["cascade"].record.bundle.calibration
    assert (chosen.test, chosen.test_reason) == ("binomial", "some samples are variants of one original")
    asked = {"precision": 0.6, "environment": "clear", "certificate": "control-variate"}
    fitted = world.fit("cascade", **asked)
    save_fit(fitted, tmp_path)
    bundle = load_fit(tmp_path).record.bundle
    tests = {(c.constraint.kind, c.test) for c in bundle.certificates}
    assert ("precision", "control-variate") in tests
    assert {test for kind, test in tests if kind != "precision"} == {None}
    assert bundle.calibration.test == "control-variate"
    certificate = fitted.certificate()
    assert certificate is not None
    text = proven_by(fitted, certificate)
    assert text.startswith("proven by a control variate (asked for: 3 models")
    assert text.endswith("over the draw of all labelled samples")
    with pytest.raises(PrecisionError, match="expected certificate auto or binomial with max_drop"):
        FitOptions(max_drop=0.01, certificate="control-variate")
    with pytest.raises(PrecisionError, match="expected certificate among auto, binomial"):
        FitOptions(certificate="normal")  # type: ignore[arg-type]
    with pytest.raises(PrecisionError, match="got: some samples are variants of one original"):
        fit(world.profile, world.zoo, world.table, certificate="control-variate")
    on_time = ("--mean-ms", 1, "--certificate", "control-variate")
    assert "which is a test of a precision" in zooselect("fit", *on_time, code=1).err


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
