"""Format versions of files that other releases may read. A reader refuses versions that it does not support."""

from __future__ import annotations

from typing import Final

from phaseflow.errors import PermanentError

MODEL: Final = 1
"""Format of `model.json`, which is stored with every registered model."""
CONTRACT: Final = 1
"""Format of `contract.json`, which is stored with every registered model."""
SNAPSHOT: Final = 2
"""Format of the `manifest.json` of a snapshot.

Format 1 lacks the columns `_id` and `_client`, and the state that a later snapshot extends.
"""
SNAPSHOTS: Final = (1, SNAPSHOT)
"""Supported formats of snapshots."""
STATISTICS: Final = 1
"""Format of `statistics.json`, which is stored with every compacted hour of the prediction log."""
STATE: Final = 1
"""Format of the metadata of a snapshot state."""
BACKUP: Final = 1
"""Format of the `manifest.json` of a backup."""


def is_state(key: str) -> bool:
    """Whether an object is the state of a snapshot, `state-<time>.state`."""
    name = key.rpartition("/")[2]
    return name.startswith("state-") and name.endswith(".state")


def require(name: str, version: object, *supported: int) -> None:
    """Raise PermanentError unless the format `version` of the file `name` is one of `supported`.

    None means format 1, because the first releases wrote no version.
    """
    version = 1 if version is None else version
    if type(version) is not int or version not in supported:
        versions = " and ".join(map(str, supported))
        raise PermanentError(
            f"{name} has the format {version!r}; this release reads format {versions}",
            fix="Use the release that wrote it or a newer one, or make it again with this one",
        )
