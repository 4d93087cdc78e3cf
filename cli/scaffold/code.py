"""Python source of values and calls in the layout of a formatter: on one line if it fits, else one item per line."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

WIDTH: Final = 120
_PIECE: Final = 80
"""Maximum characters of a string literal per line; longer strings are split."""


@dataclass(frozen=True, slots=True)
class Call:
    """A function call with its positional and keyword arguments."""

    function: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def render(value: Any, indent: int = 0, before: int = 0) -> str:
    """Return the source of a literal or a `Call`. `before` is the length of the text before it on its first line."""
    flat = _flat(value)
    if indent + before + len(flat) + 1 <= WIDTH and "\n" not in flat:
        return flat
    pad = " " * (indent + 4)
    if isinstance(value, str):
        pieces = [value[start : start + _PIECE] for start in range(0, len(value), _PIECE)]
        return "\n".join(["(", *(pad + quote(piece) for piece in pieces), " " * indent + ")"])
    items = [f"{pad}{label}{render(item, indent + 4, len(label))}," for label, item in _items(value)]
    opening, closing = (
        (f"{value.function}(", ")") if isinstance(value, Call) else "{}" if isinstance(value, Mapping) else "()"
    )
    return "\n".join([opening, *items, " " * indent + closing]) if items else flat


def quote(text: str) -> str:
    """Quote a string, preferably with double quotes. Characters that look like others are escaped."""
    mark = "'" if text.count('"') > text.count("'") else '"'
    return mark + "".join(_escaped(character, mark) for character in text) + mark


def _escaped(character: str, mark: str) -> str:
    if character in {mark, "\\"}:
        return "\\" + character
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character)
    if named or " " <= character <= "~":
        return named or character
    latin = unicodedata.normalize("NFD", character)[0].isascii() or character in "ßæøåÆØÅ€£"
    if latin and character.isprintable():
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _items(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Call):
        return [*(("", item) for item in value.args), *((f"{name}=", item) for name, item in value.kwargs.items())]
    if isinstance(value, Mapping):
        return [(f"{quote(name)}: ", item) for name, item in value.items()]
    return [("", item) for item in value]


def _flat(value: Any) -> str:
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, Call):
        return f"{value.function}({', '.join(label + _flat(item) for label, item in _items(value))})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(label + _flat(item) for label, item in _items(value)) + "}"
    if isinstance(value, tuple):
        return f"({', '.join(_flat(item) for item in value)}{',' if len(value) == 1 else ''})"
    return repr(value)
