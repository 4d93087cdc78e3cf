"""Converts the API server's OpenAPI document to JSON Schemas for kubeconform, for use without its public schemas.

`kubectl get --raw /openapi/v2 | python -m tests.cluster.schemas FOLDER` writes `<kind>-<group>-<version>.json`. The
schemas are strict: an unknown field is an error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

_REF: Final = "#/definitions/"
_LOOSE: Final = ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "io.k8s.apimachinery.pkg.api.resource.Quantity")
"""Strings that may be written as numbers, which OpenAPI 2 can't express."""


def write(openapi: dict[str, Any], folder: Path) -> int:
    """Write one file per kind; return the number of files."""
    definitions = {name: _strict(schema) for name, schema in openapi["definitions"].items()}
    definitions |= {name: {"type": ["string", "number"]} for name in _LOOSE}
    count = 0
    for name, schema in openapi["definitions"].items():
        for kind in schema.get("x-kubernetes-group-version-kind", []):
            parts = [kind["kind"].lower(), *([kind["group"].split(".")[0]] if kind["group"] else []), kind["version"]]
            dependencies = _dependencies(name, definitions)
            content = {
                **definitions[name],
                "definitions": {dependency: definitions[dependency] for dependency in dependencies},
            }
            (folder / f"{'-'.join(parts)}.json").write_text(json.dumps(content))
            count += 1
    return count


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema without Kubernetes's own formats and extensions, and with unknown fields forbidden."""
    strict = {key: value for key, value in schema.items() if key not in {"description", "format"} and key[:2] != "x-"}
    if "properties" in strict:
        strict["properties"] = {key: _strict(value) for key, value in strict["properties"].items()}
        strict.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(strict.get(key), dict):
            strict[key] = _strict(strict[key])
    return strict


def _dependencies(name: str, definitions: dict[str, Any]) -> set[str]:
    """Return the definitions that `name` refers to, directly or indirectly."""
    dependencies: set[str] = set()
    pending = [name]
    while pending:
        for ref in _refs(definitions[pending.pop()]):
            if ref not in dependencies:
                dependencies.add(ref)
                pending.append(ref)
    return dependencies


def _refs(schema: object) -> list[str]:
    if isinstance(schema, list):
        return [ref for item in schema for ref in _refs(item)]
    if not isinstance(schema, dict):
        return []
    refs = [schema["$ref"].removeprefix(_REF)] if isinstance(schema.get("$ref"), str) else []
    return refs + [ref for value in schema.values() for ref in _refs(value)]


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    print(f"{write(json.load(sys.stdin), target)} kinds")
