"""What the engine remembers: pipelines, their versions, experiments and runs, each a JSON file written atomically."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from phaseflow.store import write_atomic

Record = dict[str, Any]
ENDED: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELED"})


def now() -> str:
    """The time as KFP writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class State:
    """Records under `root`, a folder a kind."""

    root: Path

    def folder(self, kind: str, identity: str) -> Path:
        """The folder of a record; identities are made here, so one that is no UUID names nothing."""
        return self.root / kind / str(uuid.UUID(identity))

    def write(self, kind: str, identity: str, record: Record) -> Record:
        """Keep the record."""
        write_atomic(self.folder(kind, identity) / "record.json", json.dumps(record, indent=1).encode())
        return record

    def read(self, kind: str, identity: str) -> Record | None:
        """The record, None where there is none."""
        try:
            found: Record = json.loads((self.folder(kind, identity) / "record.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return found

    def all(self, kind: str) -> Iterator[Record]:
        """All records of a kind, the newest first."""
        found = [json.loads(path.read_bytes()) for path in (self.root / kind).glob("*/record.json")]
        yield from sorted(found, key=lambda record: str(record["created_at"]), reverse=True)

    def pipeline(self, name: str) -> Record | None:
        """The pipeline of that name."""
        return next((record for record in self.all("pipelines") if record["name"] == name), None)

    def versions(self, pipeline_id: str) -> list[Record]:
        """A pipeline's versions, the newest first."""
        return [record for record in self.all("versions") if record["pipeline_id"] == pipeline_id]
