"""Gives the JSON Schema of `incident.json`: docs/incident.schema.json is what this prints.

The number in its name changes when a key changes its meaning or goes; keys may be added under it.
"""

from __future__ import annotations

import json
from typing import Any

from reports.values.incident import Incident


def incident_schema() -> dict[str, Any]:
    """The schema of a report of the version that this code writes."""
    version = Incident.model_fields["schema_version"].default
    schema = _open(Incident.model_json_schema(mode="serialization"))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:embedding-integrity:incident:{version}",
        **schema,
    }


def _open(schema: Any) -> Any:
    """The schema without what forbids further keys: a reader of this version takes them too."""
    if isinstance(schema, list):
        return [_open(value) for value in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _open(value)
        for key, value in schema.items()
        if (key, value) != ("additionalProperties", False)
    }


if __name__ == "__main__":
    print(json.dumps(incident_schema(), indent=2))
