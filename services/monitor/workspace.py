"""The Evidently workspace of the platform's reports: a folder that mirrors the runs in the store.

The store is the only place where reports are kept, aged and erased; the workspace holds the newest of them. A run
disappears from Evidently's pages when its report does, and a new or lost folder fills itself. Runs that somebody else
writes by `RemoteWorkspace` are in Evidently projects of their own and are left alone.

Format of the folder: Evidently's `LocalState` (evidently/ui/storage/local/base.py).
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from phaseflow.contract import Project
from phaseflow.log import logger
from phaseflow.reports import project_id, run_id
from phaseflow.store import Store, write_atomic
from services.monitor.dashboard import dashboard

RUN: Final = re.compile(r"reports/(?P<project>[^/]+)/(?P<window>[^/]+)/(?P<run>[a-z]+)\.run\.json\.gz")
WINDOWS: Final = 20
"""Newest windows per project. Evidently holds every run in memory: 2 MiB for a window of 21 columns, 0.8 MiB for 10."""
RUN_FILE: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.json")


def prepare(projects: Sequence[Project], folder: Path) -> None:
    """Make the folder one that Evidently can load, with the metadata and the dashboard of each project."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    repair(folder)
    for project in projects:
        home = folder / str(project_id(project.name))
        (home / "snapshots").mkdir(parents=True, exist_ok=True)
        metadata = {
            "id": str(project_id(project.name)),
            "name": project.name,
            "description": project.description,
            "org_id": None,
            "version": "2",
        }
        write_atomic(home / "dashboard.json", json.dumps(dashboard(project)).encode())
        write_atomic(home / "metadata.json", json.dumps(metadata).encode())


def repair(folder: Path) -> list[Path]:
    """Rename the files of `folder` that are not JSON, and return their new paths.

    Evidently writes files in place, and a writer that is killed leaves a part of one, with which Evidently would not
    start.
    """
    renamed = []
    for path in sorted([*folder.glob("*/*.json"), *folder.glob("*/snapshots/*.json")]):
        try:
            json.loads(path.read_bytes())
        except ValueError:
            damaged = path.with_name(f"{path.name}.damaged")
            path.replace(damaged)
            renamed.append(damaged)
            logger.warning("%s is not JSON, so it is now %s", path, damaged.name)
    return renamed


def mirror(store: Store, project: Project, folder: Path) -> None:
    """Make the runs of a project in the folder the newest of the store.

    Raises PlatformError if the store can't be read. What is done until then holds, and the next call does the rest.
    """
    snapshots = folder / str(project_id(project.name)) / "snapshots"
    runs = [match for key in store.keys(f"reports/{project.name}") if (match := RUN.fullmatch(key))]
    windows = sorted({match["window"] for match in runs})[-WINDOWS:]
    newest = {
        f"{run_id(project.name, match['window'], match['run'])}.json": match[0]
        for match in runs
        if match["window"] in windows
    }
    existing = {path.name for path in snapshots.iterdir() if RUN_FILE.fullmatch(path.name)}
    for name in sorted(existing - set(newest)):
        (snapshots / name).unlink(missing_ok=True)
    for name in sorted(set(newest) - existing):
        with contextlib.suppress(FileNotFoundError):  # the report was removed meanwhile
            write_atomic(snapshots / name, gzip.decompress(store.read(newest[name])))


def refresh(state: Any, project: Project) -> None:
    """Make the runs of a project that Evidently holds in memory (its `LocalState`) those of the folder.

    Evidently's own watcher isn't used: its thread ends for good if it reads a file that Evidently is writing.
    """
    identity = project_id(project.name)
    state.reload_snapshots(identity)
    files = Path(state.path) / str(identity) / "snapshots"
    for run in [run for run in state.snapshots[identity] if not (files / f"{run}.json").exists()]:
        del state.snapshots[identity][run]
