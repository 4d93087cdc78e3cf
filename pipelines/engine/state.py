"""The engine's state: pipelines, versions, experiments and runs, each in a JSON file that is written atomically."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from phaseflow.clients.kfp import ENDED, LIVE
from phaseflow.store import write_atomic
from pipelines.engine.fields import check_storable

Record = dict[str, Any]
STATES: Final = ENDED | LIVE
MAX_PID: Final = 1 << 22
"""Linux's limit."""
UNREADABLE: Final = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
"""Errors of files that a retry can't read either. Other system errors may be temporary."""
_KEY: Final = {
    "pipelines": "pipeline_id",
    "versions": "pipeline_version_id",
    "experiments": "experiment_id",
    "runs": "run_id",
}
_TEXTS: Final[Mapping[str, tuple[str, ...]]] = {
    "pipelines": ("name", "display_name", "created_at"),
    "versions": ("name", "display_name", "created_at", "pipeline_id"),
    "experiments": ("display_name", "created_at"),
    "runs": ("display_name", "created_at", "state", "pipeline_name", "experiment_id"),
}


def now() -> str:
    """Return the current time in KFP's format."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def problem_of(kind: str, identity: str, record: object) -> str:
    """Return why a record is unusable, or "" if it is valid."""
    if not isinstance(record, dict):
        return "it is not an object"
    if record.get(_KEY[kind]) != identity:
        return f"its {_KEY[kind]} is not its folder's name"
    for key in _TEXTS[kind]:
        if not isinstance(record.get(key), str):
            return f"its {key} is not a string"
    if kind == "versions" and not isinstance(record.get("pipeline_spec"), dict):
        return "its pipeline_spec is not an object"
    return _run_problem(record) if kind == "runs" else ""


def _run_problem(run: Record) -> str:
    pid, ticks = run.get("pid"), run.get("start_ticks")
    if run["state"] not in STATES:
        return f"its state is not one of {', '.join(sorted(STATES))}"
    if pid is not None and (type(pid) is not int or not 1 < pid <= MAX_PID):
        return "its pid is not a process ID"
    if ticks is not None and type(ticks) is not int:
        return "its start_ticks is not an integer"
    return ""


@dataclass(frozen=True, slots=True)
class Damaged:
    """An unusable record."""

    identity: str
    problem: str
    content: Record
    """The readable part of the record."""


@dataclass(frozen=True, slots=True)
class State:
    """Records under `root`, with one folder per kind."""

    root: Path

    def folder(self, kind: str, identity: str) -> Path:
        """Return the folder of a record.

        Raises ValueError if the identity is not a canonical UUID, because only those name folders here.
        """
        if str(uuid.UUID(identity)) != identity:
            raise ValueError(f"{identity!r} is not a canonical UUID")
        return self.root / kind / identity

    def write(self, kind: str, identity: str, record: Record) -> Record:
        """Write the record. Raises PlatformError if the disk is full."""
        write_atomic(self.folder(kind, identity) / "record.json", json.dumps(record, indent=1).encode())
        return record

    def read(self, kind: str, identity: str) -> Record | None:
        """Return the record, or None if it does not exist or is damaged."""
        try:
            record = self._load(kind, self.folder(kind, identity))
        except ValueError:  # not a valid identity
            return None
        return record if isinstance(record, dict) else None

    def load(self, kind: str) -> tuple[list[Record], list[Damaged]]:
        """Return the valid records of a kind, newest first, and the damaged ones."""
        records: list[Record] = []
        damaged: list[Damaged] = []
        for path in (self.root / kind).glob("*/record.json"):
            try:
                loaded = self._load(kind, self.folder(kind, path.parent.name))
            except ValueError:  # not a record's folder
                continue
            if isinstance(loaded, Damaged):
                damaged.append(loaded)
            elif loaded is not None:
                records.append(loaded)
        return sorted(records, key=lambda record: str(record["created_at"]), reverse=True), damaged

    def all(self, kind: str) -> list[Record]:
        """Return the valid records of a kind, newest first."""
        return self.load(kind)[0]

    def pipeline(self, name: str) -> Record | None:
        """Return the pipeline with that name, or None."""
        return next((record for record in self.all("pipelines") if record["name"] == name), None)

    def versions(self, pipeline_id: str) -> list[Record]:
        """Return a pipeline's versions, newest first."""
        return [record for record in self.all("versions") if record["pipeline_id"] == pipeline_id]

    def _load(self, kind: str, folder: Path) -> Record | Damaged | None:
        identity = folder.name
        try:
            record = json.loads((folder / "record.json").read_bytes())
            check_storable(record)
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError, *UNREADABLE) as error:
            return Damaged(identity, f"it can't be read ({type(error).__name__}: {error})", {})
        problem = problem_of(kind, identity, record)
        if problem:
            return Damaged(identity, problem, record if isinstance(record, dict) else {})
        sound: Record = record
        return sound
