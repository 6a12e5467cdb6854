"""The published JSON Schemas are the ones of the code."""

from __future__ import annotations

import json
from pathlib import Path

from selector.bundle import bundle_json_schema
from zoo.card import manifest_json_schema

SCHEMAS = Path(__file__).parent.parent / "docs" / "schemas"


def test_the_published_manifest_schema_is_current() -> None:
    assert json.loads((SCHEMAS / "zoo.schema.json").read_text()) == manifest_json_schema()


def test_the_published_bundle_schema_is_current() -> None:
    assert json.loads((SCHEMAS / "bundle.schema.json").read_text()) == json.loads(
        json.dumps(bundle_json_schema())
    )
