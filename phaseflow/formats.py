"""Versions of the JSON files that one release writes and another may read: a reader refuses a version that it does not know."""

from __future__ import annotations

from typing import Final

from phaseflow.errors import PermanentError

MODEL: Final = 1
"""`model.json` beside every registered model."""
SNAPSHOT: Final = 1
"""`manifest.json` of a snapshot."""
BACKUP: Final = 1
"""`manifest.json` of a backup."""


def require(name: str, version: object, supported: int) -> None:
    """Raise PermanentError when the file `name` has another format than the supported one.

    A file that says none (None) is of format 1: the first releases wrote none.
    """
    version = 1 if version is None else version
    if type(version) is not int or version != supported:
        raise PermanentError(
            f"{name} has the format {version!r}; this release reads format {supported}",
            fix="Use the release that wrote it or a newer one, or make it again with this one",
        )
