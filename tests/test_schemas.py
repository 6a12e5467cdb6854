"""The published JSON Schemas are the ones of the code."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from selector.bundle.bundle import bundle_json_schema
from selector.bundle.one_file import one_file_json_schema
from selector.telemetry.report import Report
from zoo.models.card import manifest_json_schema
from zoo.releases.release import release_json_schemas

SCHEMAS = Path(__file__).parents[1] / "docs" / "schemas"


def published(name: str) -> object:
    return json.loads((SCHEMAS / f"{name}.schema.json").read_text())


def current(schema: object) -> object:
    return json.loads(json.dumps(schema))


def test_the_published_manifest_schema_is_current() -> None:
    assert published("zoo") == current(manifest_json_schema())


def test_the_published_bundle_schema_is_current() -> None:
    assert published("bundle") == current(bundle_json_schema())


def test_the_published_schema_of_one_file_is_current() -> None:
    assert published("one-file") == current(one_file_json_schema())


@pytest.mark.parametrize("name", ["model-release", "bundle-release", "assignment"])
def test_the_schema_of_what_a_publisher_offers_is_current(name: str) -> None:
    assert published(name) == current(release_json_schemas()[name])


def test_the_schema_of_what_a_device_reports_is_current() -> None:
    assert published("report") == current(msgspec.json.schema(Report))


def test_every_published_record_has_a_schema_and_nothing_else_has() -> None:
    names = {path.name.removesuffix(".schema.json") for path in SCHEMAS.iterdir()}
    assert names == {"zoo", "bundle", "one-file", "router", "report", *release_json_schemas()}
