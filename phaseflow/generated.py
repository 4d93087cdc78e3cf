"""Comparison of generated files with what they were generated from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def stale(folder: Path, expected: Mapping[str, str], *, whole: bool = True) -> list[str]:
    """Return the sorted names of the files below `folder` that are missing or differ from `expected`.

    The names are relative to the folder. If `expected` is the `whole` folder, files that it does not contain are stale too.
    """
    names = set(expected)
    if whole:
        names |= {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return sorted(name for name in names if _text(folder / name) != expected.get(name))


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
