"""Remove a project's expired objects from the store. It may be killed at any time and run next to everything else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from phaseflow import erasure, retention
from phaseflow.contract import Project
from phaseflow.log import logger
from phaseflow.store import Entry, Store
from pipelines.retention import forget, objects


def clean(
    store: Store,
    project: Project,
    versions: Iterable[Mapping[str, Any]] | None,
    now: datetime,
    *,
    dry_run: bool = False,
) -> list[dict[str, Any]]:
    """Remove the expired objects and return the summary. With `dry_run`, remove nothing.

    `versions` are the registered versions, or None if MLflow was unavailable. Raises PlatformError if the store fails
    or another process cleans the same project.
    """
    if dry_run:
        return retention.summary(items(store, project, versions, now))
    with objects.locked(store, project) as lock:
        planned = items(store, project, versions, now)
        for item in planned:
            if item.remove:
                lock.check()
                objects.remove(store, item.keys)
        return retention.summary([*planned, *_sweep_items(forget.sweep(store, project, lock))])


def _sweep_items(result: Mapping[str, Any]) -> list[retention.Item]:
    """Convert the result of a sweep to items."""
    why = "erased before, and written again since"
    log = retention.Item(kind="rows of the log", name="", count=result["rows"], remove=True, why=why)
    snapshots = [retention.Item(kind="snapshots", name=name, remove=True, why=why) for name in result["snapshots"]]
    return [*([log] if result["rows"] else []), *snapshots]


def items(
    store: Store, project: Project, versions: Iterable[Mapping[str, Any]] | None, now: datetime
) -> list[retention.Item]:
    """Return the project's objects with the action for each."""
    entries = {prefix: list(store.entries(f"{prefix}/{project.name}")) for prefix in retention.PREFIXES}
    needs = retention.needs_of(versions)
    renamed = {erasure.current(store, project.name, name): why for name, why in needs.snapshots.items()}
    return list(
        retention.plan(
            entries,
            project.keep,
            replace(needs, snapshots=renamed),
            now,
            manifests=_contents(store, entries["datasets"], "manifest.json"),
            reports=_contents(store, entries["reports"], "report.json"),
        )
    )


def _contents(store: Store, entries: Iterable[Entry], file: str) -> dict[str, dict[str, Any]]:
    """Return the JSON of `file` by folder name. Unreadable files are logged and count as empty objects."""
    contents = {}
    for entry in entries:
        parts = entry.key.split("/")
        if len(parts) == 4 and parts[3] == file:
            try:
                value = json.loads(store.read(entry.key))
            except FileNotFoundError:  # removed in the meantime
                continue
            except ValueError:
                logger.warning("%s can't be read as JSON; its folder is kept", entry.key)
                value = {}
            contents[parts[2]] = value if isinstance(value, dict) else {}
    return contents
