"""Generate values.schema.json from a chart's values, so that Helm reports wrong values and misspelt keys by name.

Helm 3 and 4 support JSON Schema draft 7. Maps accept only the keys of values.yaml. Maps with an empty default, whose
keys belong to Kubernetes, Airflow, Prometheus or the user, accept any key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from cli.charts.charts import IMAGE, Chart, Value

Schema = dict[str, Any]
_QUANTITIES: Final[Schema] = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
_RESOURCES: Final[Schema] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"requests": _QUANTITIES, "limits": _QUANTITIES, "claims": {"type": "array"}},
}
_MAP: Final[Schema] = {"type": "object"}
_TEXTS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
_ENTRIES: Final[Schema] = {"type": "array", "items": _MAP}
_POD: Final[Schema] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        **dict.fromkeys(("labels", "annotations", "nodeSelector"), _TEXTS),
        **dict.fromkeys(("extraEnv", "envFrom", "volumes", "volumeMounts", "initContainers", "tolerations"), _ENTRIES),
        **dict.fromkeys(("affinity", "securityContext"), _MAP),
        "topologySpreadConstraints": _ENTRIES,
        "priorityClassName": {"type": "string"},
    },
}
"""What `phaseflow.podTemplate` adds to pods."""
_DIGEST: Final = r"^(sha256:[0-9a-f]{64})?$"


def text(chart: Chart) -> str:
    """The content of values.schema.json."""
    return json.dumps(schema(chart), indent=2, ensure_ascii=False) + "\n"


def schema(chart: Chart) -> Schema:
    """The chart's values as JSON Schema."""
    root = _map(chart.values, {value.path: value for value in chart.documented}, (), open_to=chart.parts)
    properties = root["properties"]
    # Helm passes these to every chart of a release.
    properties.setdefault("global", {"type": "object"})
    properties.setdefault("common", {"type": "object"})
    if not chart.parts:
        properties.setdefault("enabled", {"type": "boolean", "description": "The umbrella's switch."})
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": chart.name, **root}


def _map(
    values: Mapping[str, Any],
    documented: Mapping[tuple[str, ...], Value],
    path: tuple[str, ...],
    open_to: tuple[str, ...] = (),
) -> Schema:
    properties: Schema = {}
    for key, value in values.items():
        key_path = (*path, key)
        if key_path in documented:
            properties[key] = _value(documented[key_path])
        else:
            properties[key] = _map(value, documented, key_path)
            if key in open_to:
                # The schema of the subchart validates these values.
                properties[key]["additionalProperties"] = True
    if values.keys() == IMAGE:
        properties["digest"]["pattern"] = _DIGEST
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _value(value: Value) -> Schema:
    return {"description": value.text, "default": value.default, **_type(value)}


def _type(value: Value) -> Schema:
    match value.default:
        case _ if value.enum:
            type_schema: Schema = {"enum": list(value.enum)}
        case bool():
            type_schema = {"type": "boolean"}
        case int():
            type_schema = {"type": "integer", "minimum": value.minimum}
        case str():
            type_schema = {"type": "string"}
        case list():
            type_schema = {"type": "array"} | ({"items": {"type": value.items}} if value.items else {})
        case _:
            type_schema = {"resources": _RESOURCES, "pod": _POD}.get(value.path[-1], _MAP)
    return type_schema
