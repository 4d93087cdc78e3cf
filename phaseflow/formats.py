"""Versions of the JSON files that one release writes and another may read: a reader refuses a version that it does not know."""

from __future__ import annotations

from typing import Final

from phaseflow.errors import PermanentError

MODEL: Final = 1
"""`model.json` beside every registered model."""
SNAPSHOT: Final = 2
"""`manifest.json` of a snapshot. Format 1 lacks the columns `_id` and `_client`, and the state that a later snapshot extends."""
SNAPSHOTS: Final = (1, SNAPSHOT)
"""Formats of snapshots that are read."""
STATISTICS: Final = 1
"""`statistics.json` beside a compacted hour of the prediction log."""
STATE: Final = 1
"""The metadata of a snapshot's state."""
BACKUP: Final = 1
"""`manifest.json` of a backup."""


def is_state(key: str) -> bool:
    """Whether an object is a snapshot's state, `state-<time>.state`."""
    name = key.rpartition("/")[2]
    return name.startswith("state-") and name.endswith(".state")


def require(name: str, version: object, *supported: int) -> None:
    """Raise PermanentError when the file `name` has another format than the supported ones.

    A file that says none (None) is of format 1: the first releases wrote none.
    """
    version = 1 if version is None else version
    if type(version) is not int or version not in supported:
        known = " and ".join(map(str, supported))
        raise PermanentError(
            f"{name} has the format {version!r}; this release reads format {known}",
            fix="Use the release that wrote it or a newer one, or make it again with this one",
        )
