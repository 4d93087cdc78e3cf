"""The API server's OpenAPI document -> JSON Schemas as kubeconform reads them, where its public ones can't be reached.

`kubectl get --raw /openapi/v2 | python -m tests.cluster.schemas FOLDER` writes `<kind>-<group>-<version>.json`, strict: an unknown field is
an error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

_REF: Final = "#/definitions/"
_LOOSE: Final = ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "io.k8s.apimachinery.pkg.api.resource.Quantity")
"""Texts that may be written as numbers, which OpenAPI 2 can't say."""


def write(openapi: dict[str, Any], folder: Path) -> int:
    """Writes a file a kind; returns how many."""
    definitions = {name: _strict(schema) for name, schema in openapi["definitions"].items()}
    definitions |= {name: {"type": ["string", "number"]} for name in _LOOSE}
    count = 0
    for name, schema in openapi["definitions"].items():
        for kind in schema.get("x-kubernetes-group-version-kind", []):
            parts = [kind["kind"].lower(), *([kind["group"].split(".")[0]] if kind["group"] else []), kind["version"]]
            needed = _needed(name, definitions)
            content = {**definitions[name], "definitions": {each: definitions[each] for each in needed}}
            (folder / f"{'-'.join(parts)}.json").write_text(json.dumps(content))
            count += 1
    return count


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Without the formats that are Kubernetes's own, and with unknown fields refused."""
    found = {key: value for key, value in schema.items() if key not in {"description", "format"} and key[:2] != "x-"}
    if "properties" in found:
        found["properties"] = {key: _strict(value) for key, value in found["properties"].items()}
        found.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(found.get(key), dict):
            found[key] = _strict(found[key])
    return found


def _needed(name: str, definitions: dict[str, Any]) -> set[str]:
    """The definitions that `name` refers to, and those refer to."""
    found: set[str] = set()
    todo = [name]
    while todo:
        for ref in _refs(definitions[todo.pop()]):
            if ref not in found:
                found.add(ref)
                todo.append(ref)
    return found


def _refs(schema: object) -> list[str]:
    if isinstance(schema, list):
        return [ref for each in schema for ref in _refs(each)]
    if not isinstance(schema, dict):
        return []
    own = [schema["$ref"].removeprefix(_REF)] if isinstance(schema.get("$ref"), str) else []
    return own + [ref for each in schema.values() for ref in _refs(each)]


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    print(f"{write(json.load(sys.stdin), target)} kinds")
