"""The JSON Schemas of stored and published records, from the records themselves."""

from __future__ import annotations

import json

import msgspec

from selector.bundle.bundle import bundle_json_schema
from selector.bundle.one_file import one_file_json_schema
from selector.routing.record import RouterRecord
from selector.telemetry.report import Report
from zoo.models.card import manifest_json_schema
from zoo.releases.release import release_json_schemas


def schemas() -> dict[str, str]:
    """Name of the record → its schema as text."""
    found = {
        "zoo": manifest_json_schema(),
        "bundle": bundle_json_schema(),
        "router": msgspec.json.schema(RouterRecord),
        "one-file": one_file_json_schema(),
        "report": msgspec.json.schema(Report),
        **release_json_schemas(),
    }
    return {name: json.dumps(schema, indent=2) + "\n" for name, schema in found.items()}
