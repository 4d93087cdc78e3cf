"""Removing objects, one process at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from phaseflow.contract import Project
from phaseflow.lease import Lock
from phaseflow.store import Store

PATIENCE: Final = 60.0
"""Seconds to wait for another that cleans or erases."""


@contextlib.contextmanager
def locked(store: Store, project: Project) -> Iterator[Lock]:
    """Hold what only one may hold that removes objects of the project; raises PlatformError where another does."""
    with store.lock(f"retention-{project.name}", PATIENCE) as lock:
        yield lock


def remove(store: Store, keys: Sequence[str]) -> None:
    """Delete the objects in that order, and on a disk the folders that are empty then."""
    for key in keys:
        store.delete(key)
    if not store.remote:
        for folder in sorted({store.path(key).parent for key in keys}, reverse=True):
            with contextlib.suppress(OSError):  # something else is in it
                folder.rmdir()
