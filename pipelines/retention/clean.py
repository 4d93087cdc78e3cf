"""Remove from the store what a project no longer keeps. It may be killed at any time, and runs while everything else does."""

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
    """Remove it, and give the summary; with `dry_run` remove nothing.

    `versions` are the registered ones, None where MLflow did not answer. Raises PlatformError where the store fails, or another cleans
    the same project.
    """
    if dry_run:
        return retention.summary(items(store, project, versions, now))
    with objects.locked(store, project) as lock:
        planned = items(store, project, versions, now)
        for item in planned:
            if item.remove:
                lock.check()
                objects.remove(store, item.keys)
        return retention.summary([*planned, *_swept(forget.sweep(store, project, lock))])


def _swept(done: Mapping[str, Any]) -> list[retention.Item]:
    """What was erased once more, as items."""
    why = "erased before, and written again since"
    log = retention.Item(kind="rows of the log", name="", count=done["rows"], remove=True, why=why)
    snapshots = [retention.Item(kind="snapshots", name=name, remove=True, why=why) for name in done["snapshots"]]
    return [*([log] if done["rows"] else []), *snapshots]


def items(
    store: Store, project: Project, versions: Iterable[Mapping[str, Any]] | None, now: datetime
) -> list[retention.Item]:
    """What the project's objects are, and what becomes of each."""
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
