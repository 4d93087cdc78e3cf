"""Read a chart's folder: its Chart.yaml, its values and their comments.

The comments have the format of helm-docs: `# -- text` above a value or a map is its description. `# @enum a, b` lists
the allowed values, `# @minimum 1` is the minimum of an integer, and `# @items string` is the type of a list's items.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from phaseflow.errors import ContractError
from phaseflow.settings import ROOT

FOLDER: Final = ROOT / "helm"
IMAGE: Final = frozenset({"repository", "tag", "digest"})
"""Keys of a map that specifies an image."""
_HINT: Final = re.compile(r"@(\w+) (.+)")
_HINTS: Final = ("enum", "minimum", "items")


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One documented value."""

    path: tuple[str, ...]
    default: Any
    text: str
    enum: tuple[str, ...] = ()
    minimum: int = 0
    items: str = ""
    """JSON Schema type of a list's items; empty for any type."""

    @property
    def key(self) -> str:
        """The path in the format of `helm --set`."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One chart."""

    name: str
    folder: Path
    about: Mapping[str, Any]
    """Content of Chart.yaml."""
    values: Mapping[str, Any] = field(repr=False)
    """Content of values.yaml."""
    documented: tuple[Value, ...]
    parts: tuple[str, ...]
    """Names of its subcharts, except the library chart."""


def names() -> tuple[str, ...]:
    """Names of all installable charts, sorted."""
    folders = (path.parent for path in FOLDER.glob("*/Chart.yaml"))
    return tuple(sorted(folder.name for folder in folders if (folder / "values.yaml").exists()))


def read(name: str) -> Chart:
    """Read the chart helm/<name>.

    Raises ContractError if a value has no description or an unknown hint.
    """
    folder = FOLDER / name
    about = load(folder / "Chart.yaml")
    path = folder / "values.yaml"
    values = load(path)
    parts = tuple(part["name"] for part in about.get("dependencies", []) if part["name"] != "common")
    documented = tuple(_documented(values, path.read_text().splitlines(), (), f"helm/{name}/values.yaml"))
    return Chart(name=name, folder=folder, about=about, values=values, documented=documented, parts=parts)


def load(path: Path) -> CommentedMap:
    """Load a YAML file with the line number of each key."""
    return yaml().load(path)  # type: ignore[no-any-return]  # the file is a map


def yaml() -> YAML:
    """Return a YAML parser that preserves comments and formatting."""
    round_trip = YAML()
    round_trip.preserve_quotes = True
    round_trip.width = 4096
    return round_trip


def images(
    values: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield every map that specifies an image, with its path."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            if value.keys() == IMAGE:
                yield (*path, key), value
            else:
                yield from images(value, (*path, key))


def _documented(values: CommentedMap, lines: Sequence[str], path: tuple[str, ...], file: str) -> Iterator[Value]:
    for key, default in values.items():
        here = (*path, key)
        text, hints = _comment(lines, values.lc.key(key)[0], file)
        if not text and isinstance(default, CommentedMap) and default:
            yield from _documented(default, lines, here, file)
            continue
        if not text:
            raise ContractError(f"{file}: {'.'.join(here)} has no description", fix="Write `# -- …` above it")
        enum = tuple(word.strip() for word in hints.get("enum", "").split(",")) if "enum" in hints else ()
        yield Value(
            path=here,
            default=default,
            text=text,
            enum=enum,
            minimum=int(hints.get("minimum", "0")),
            items=hints.get("items", ""),
        )


def _comment(lines: Sequence[str], line: int, file: str) -> tuple[str, dict[str, str]]:
    """The text and the hints of the comment above `line`."""
    first = line
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    text: list[str] = []
    hints: dict[str, str] = {}
    for comment in lines[first:line]:
        text_of_line = comment.lstrip().lstrip("#").strip()
        if match := _HINT.fullmatch(text_of_line):
            if match[1] not in _HINTS:
                raise ContractError(f"{file}: @{match[1]} is not a known hint", fix=f"Use one of @{', @'.join(_HINTS)}")
            hints[match[1]] = match[2]
        elif text_of_line.startswith("-- "):
            text = [text_of_line.removeprefix("-- ")]
        elif text:
            text.append(text_of_line)
    return " ".join(text), hints
