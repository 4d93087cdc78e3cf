"""A chart's folder, read: its Chart.yaml, its values, and what the comments above them say.

The comments are helm-docs': `# -- text` above a value says what it is for, and describes a whole map where it stands above one.
`# @enum a, b` names what is allowed, `# @minimum 1` the least integer, `# @items string` what a list holds.
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
"""The keys of a map that names an image."""
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
    """JSON Schema's type of a list's items; anything where empty."""

    @property
    def key(self) -> str:
        """As `helm --set` writes it."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One chart."""

    name: str
    folder: Path
    about: Mapping[str, Any]
    """Chart.yaml."""
    values: Mapping[str, Any] = field(repr=False)
    """values.yaml."""
    documented: tuple[Value, ...]
    parts: tuple[str, ...]
    """Names of the charts that it holds, the library apart."""


def names() -> tuple[str, ...]:
    """Every chart that can be installed, sorted."""
    found = (path.parent for path in FOLDER.glob("*/Chart.yaml"))
    return tuple(sorted(folder.name for folder in found if (folder / "values.yaml").exists()))


def read(name: str) -> Chart:
    """The chart helm/<name>.

    Raises ContractError when a value has no description, or a hint that is none.
    """
    folder = FOLDER / name
    about = load(folder / "Chart.yaml")
    path = folder / "values.yaml"
    values = load(path)
    parts = tuple(part["name"] for part in about.get("dependencies", []) if part["name"] != "common")
    documented = tuple(_documented(values, path.read_text().splitlines(), (), f"helm/{name}/values.yaml"))
    return Chart(name=name, folder=folder, about=about, values=values, documented=documented, parts=parts)


def load(path: Path) -> CommentedMap:
    """A YAML file, with the place of each key."""
    return yaml().load(path)  # type: ignore[no-any-return]  # the file is a map


def yaml() -> YAML:
    """Reads and writes YAML without changing how it is written."""
    found = YAML()
    found.preserve_quotes = True
    found.width = 4096
    return found


def images(
    values: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every map that names an image, with its path."""
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
    """What the comment above `line` says, and its hints."""
    first = line
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    text: list[str] = []
    hints: dict[str, str] = {}
    for found in lines[first:line]:
        words = found.lstrip().lstrip("#").strip()
        if hint := _HINT.fullmatch(words):
            if hint[1] not in _HINTS:
                raise ContractError(f"{file}: @{hint[1]} is no hint", fix=f"Use one of @{', @'.join(_HINTS)}")
            hints[hint[1]] = hint[2]
        elif words.startswith("-- "):
            text = [words.removeprefix("-- ")]
        elif text:
            text.append(words)
    return " ".join(text), hints
