"""Remove from the store what a project no longer keeps. It may be killed at any time, and runs while everything else does."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from phaseflow import retention
from phaseflow.contract import Project
from phaseflow.log import logger
from phaseflow.store import Entry, Store

PATIENCE: Final = 60.0
"""Seconds to wait for another that cleans or erases."""


def clean(
    store: Store,
    project: Project,
    versions: Iterable[Mapping[str, Any]] | None,
    now: datetime,
    *,
    dry_run: bool = False,
) -> list[dict[str, Any]]:
    """Remove it, and give the summary; with `dry_run` remove nothing.

    `versions` are the registered ones, None where MLflow did not answer. Raises PlatformError where the store fails, or another cleans
    the same project.
    """
    if dry_run:
        return retention.summary(items(store, project, versions, now))
    with store.lock(f"retention-{project.name}", PATIENCE) as lock:
        planned = items(store, project, versions, now)
        for item in planned:
            if item.remove:
                lock.check()
                remove(store, item.keys)
        return retention.summary(planned)


def items(
    store: Store, project: Project, versions: Iterable[Mapping[str, Any]] | None, now: datetime
) -> list[retention.Item]:
    """What the project's objects are, and what becomes of each."""
    entries = {prefix: list(store.entries(f"{prefix}/{project.name}")) for prefix in retention.PREFIXES}
    return list(
        retention.plan(
            entries,
            project.keep,
            retention.needs_of(versions),
            now,
            manifests=_contents(store, entries["datasets"], "manifest.json"),
            reports=_contents(store, entries["reports"], "report.json"),
        )
    )


def remove(store: Store, keys: Iterable[str]) -> None:
    """Delete the objects in that order, and on a disk the folders that are empty then."""
    for key in keys:
        store.delete(key)
    if not store.remote:
        for folder in sorted({store.path(key).parent for key in keys}, reverse=True):
            with contextlib.suppress(OSError):  # something else is in it
                folder.rmdir()


def _contents(store: Store, entries: Iterable[Entry], file: str) -> dict[str, dict[str, Any]]:
    """The JSON of each folder's `file`, by the folder's name; what can't be read is named, and stays as what it is: nothing is known of it."""
    contents = {}
    for entry in entries:
        parts = entry.key.split("/")
        if len(parts) == 4 and parts[3] == file:
            try:
                value = json.loads(store.read(entry.key))
            except FileNotFoundError:  # removed meanwhile
                continue
            except ValueError:
                logger.warning("%s can't be read as JSON, and what it belongs to stays", entry.key)
                value = {}
            contents[parts[2]] = value if isinstance(value, dict) else {}
    return contents
