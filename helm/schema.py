"""A chart's values -> values.schema.json, so that a wrong value or a misspelt key is an error that names it.

JSON Schema's draft 7, which Helm 3 and 4 read. A map of ours takes the keys that it has; what belongs to Kubernetes, Airflow,
Prometheus or the user (an empty map as default) stays open.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from helm.charts import IMAGE, Chart, Value

Schema = dict[str, Any]
_QUANTITIES: Final[Schema] = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
_RESOURCES: Final[Schema] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"requests": _QUANTITIES, "limits": _QUANTITIES, "claims": {"type": "array"}},
}
_DIGEST: Final = r"^(sha256:[0-9a-f]{64})?$"


def text(chart: Chart) -> str:
    """The file."""
    return json.dumps(schema(chart), indent=2, ensure_ascii=False) + "\n"


def schema(chart: Chart) -> Schema:
    """The chart's values as JSON Schema."""
    found = _map(chart.values, {value.path: value for value in chart.documented}, (), open_to=chart.parts)
    properties = found["properties"]
    # Helm hands these to every chart of a release.
    properties.setdefault("global", {"type": "object"})
    properties.setdefault("common", {"type": "object"})
    if not chart.parts:
        properties.setdefault("enabled", {"type": "boolean", "description": "The umbrella's switch."})
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": chart.name, **found}


def _map(
    values: Mapping[str, Any],
    documented: Mapping[tuple[str, ...], Value],
    path: tuple[str, ...],
    open_to: tuple[str, ...] = (),
) -> Schema:
    properties: Schema = {}
    for key, value in values.items():
        here = (*path, key)
        if here in documented:
            properties[key] = _value(documented[here])
        else:
            properties[key] = _map(value, documented, here)
            if key in open_to:
                # Each part's own schema says the rest.
                properties[key]["additionalProperties"] = True
    if values.keys() == IMAGE:
        properties["digest"]["pattern"] = _DIGEST
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _value(value: Value) -> Schema:
    return {"description": value.text, "default": value.default, **_type(value)}


def _type(value: Value) -> Schema:
    match value.default:
        case _ if value.enum:
            found: Schema = {"enum": list(value.enum)}
        case bool():
            found = {"type": "boolean"}
        case int():
            found = {"type": "integer", "minimum": value.minimum}
        case str():
            found = {"type": "string"}
        case list():
            found = {"type": "array"} | ({"items": {"type": value.items}} if value.items else {})
        case _:
            found = _RESOURCES if value.path[-1] == "resources" else {"type": "object"}
    return found
