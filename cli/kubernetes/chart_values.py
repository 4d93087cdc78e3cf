"""Explains helm's error about a value that no chart has: with the path of the value and the closest name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from phaseflow.errors import PermanentError, suggestion

UMBRELLA: Final = "platform"
"""The chart that contains all others. Values of another chart have its name as their first key."""
UNKNOWN: Final = re.compile(r"(?:([\w-]+):\s+)?- at '([^']*)': additional propert(?:y|ies) (.+?) not allowed")
"""A chart's name, which precedes only its first error, the path of an object, and its unknown keys in quotes."""


def unknown_value(output: str, charts: Path) -> PermanentError | None:
    """The error for the first unknown value in helm's output; None if there is none.

    `charts` is the folder of the charts, with their schemas.
    """
    match = UNKNOWN.search(output)
    if match is None:
        return None
    chart, pointer, keys = match.groups()
    path = [part for part in pointer.split("/") if part]
    key = keys.split("'")[1]
    prefix = [] if chart in {None, UMBRELLA} else [chart]
    allowed = _keys(charts / (chart or UMBRELLA) / "values.schema.json", path)
    closest = suggestion(key, allowed)
    if closest:
        closest = closest.replace('"', f'"{".".join([*prefix, *path, ""])}', 1)
    return PermanentError(
        f"The chart has no value {'.'.join([*prefix, *path, key])!r}",
        fix=closest or f"The values there are: {', '.join(allowed) or 'none'}; helm/platform/README.md describes them",
    )


def _keys(schema: Path, path: list[str]) -> list[str]:
    """Keys that a chart's schema allows at the path."""
    try:
        node: Any = json.loads(schema.read_text())
    except FileNotFoundError:
        return []
    for part in path:
        node = node.get("properties", {}).get(part, {})
    return sorted(node.get("properties", {}))
