"""Removal of objects by one process at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from phaseflow.contract import Project
from phaseflow.lease import Lock
from phaseflow.store import Store

PATIENCE: Final = 60.0
"""Seconds to wait for another process that cleans or erases."""


@contextlib.contextmanager
def locked(store: Store, project: Project) -> Iterator[Lock]:
    """Hold the project's lock for removals. Raises PlatformError if another process holds it."""
    with store.lock(f"retention-{project.name}", PATIENCE) as lock:
        yield lock


def remove(store: Store, keys: Sequence[str]) -> None:
    """Delete the objects in this order, and on a local disk the folders that become empty."""
    for key in keys:
        store.delete(key)
    if not store.remote:
        for folder in sorted({store.path(key).parent for key in keys}, reverse=True):
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
