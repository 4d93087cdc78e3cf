"""What the engine remembers: pipelines, their versions, experiments and runs, each a JSON file written atomically."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from phaseflow.store import write_atomic
from pipelines.engine.fields import check_storable

Record = dict[str, Any]
ENDED: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELED"})
STATES: Final = ENDED | {"PENDING", "RUNNING"}
MAX_PID: Final = 1 << 22
"""Linux' own limit."""
UNREADABLE: Final = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
"""Of a file that another try does not read either; other errors of the system may pass."""
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
    """The time as KFP writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def problem_of(kind: str, identity: str, record: object) -> str:
    """Why a record can't be used; empty where it can."""
    if not isinstance(record, dict):
        return "it is no object"
    if record.get(_KEY[kind]) != identity:
        return f"its {_KEY[kind]} is not its folder's name"
    for key in _TEXTS[kind]:
        if not isinstance(record.get(key), str):
            return f"its {key} is no text"
    if kind == "versions" and not isinstance(record.get("pipeline_spec"), dict):
        return "its pipeline_spec is no object"
    return _run_problem(record) if kind == "runs" else ""


def _run_problem(run: Record) -> str:
    pid, ticks = run.get("pid"), run.get("start_ticks")
    if run["state"] not in STATES:
        return f"its state is none of {', '.join(sorted(STATES))}"
    if pid is not None and (type(pid) is not int or not 1 < pid <= MAX_PID):
        return "its pid is no number of a process"
    if ticks is not None and type(ticks) is not int:
        return "its start_ticks is no whole number"
    return ""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A record that can't be used."""

    identity: str
    problem: str
    content: Record
    """What of it can be read."""


@dataclass(frozen=True, slots=True)
class State:
    """Records under `root`, a folder a kind."""

    root: Path

    def folder(self, kind: str, identity: str) -> Path:
        """The folder of a record.

        Raises ValueError for an identity that is no UUID in its canonical form: no other names a folder here.
        """
        if str(uuid.UUID(identity)) != identity:
            raise ValueError(f"{identity!r} is no canonical UUID")
        return self.root / kind / identity

    def write(self, kind: str, identity: str, record: Record) -> Record:
        """Keep the record; raises PlatformError when the disk is full."""
        write_atomic(self.folder(kind, identity) / "record.json", json.dumps(record, indent=1).encode())
        return record

    def read(self, kind: str, identity: str) -> Record | None:
        """The record; None where there is none, and where it is damaged."""
        try:
            record = self._load(kind, self.folder(kind, identity))
        except ValueError:  # no identity of ours
            return None
        return record if isinstance(record, dict) else None

    def load(self, kind: str) -> tuple[list[Record], list[Damaged]]:
        """All records of a kind, the newest first, and those that can't be used."""
        records: list[Record] = []
        damaged: list[Damaged] = []
        for path in (self.root / kind).glob("*/record.json"):
            try:
                loaded = self._load(kind, self.folder(kind, path.parent.name))
            except ValueError:  # no folder of ours
                continue
            if isinstance(loaded, Damaged):
                damaged.append(loaded)
            elif loaded is not None:
                records.append(loaded)
        return sorted(records, key=lambda record: str(record["created_at"]), reverse=True), damaged

    def all(self, kind: str) -> list[Record]:
        """All sound records of a kind, the newest first."""
        return self.load(kind)[0]

    def pipeline(self, name: str) -> Record | None:
        """The pipeline of that name."""
        return next((record for record in self.all("pipelines") if record["name"] == name), None)

    def versions(self, pipeline_id: str) -> list[Record]:
        """A pipeline's versions, the newest first."""
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
