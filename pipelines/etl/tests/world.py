"""A service's log over simulated time: predictions, labels, late files and compactions."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from phaseflow import discovery, logs
from phaseflow.contract import Project
from phaseflow.store import Store
from phaseflow.toolkit import source

TITANIC = dataclasses.replace(discovery.get("titanic"), group="")
BEGIN = datetime(2026, 3, 1, 12, 5, tzinfo=UTC)


def parquet(frame: pl.DataFrame) -> bytes:
    content = io.BytesIO()
    frame.write_parquet(content)
    return content.getvalue()


def base(project: Project, count: int) -> pl.DataFrame:
    """Return distinct rows of the source."""
    rows = {
        column.name: [project.example.get(column.name)] * count
        for column in project.schema.features
        if column.name != "fare"
    }
    rows |= {
        "fare": [number / 7 for number in range(count)],
        "survived": ["0", "1"] * (count // 2) + ["0"] * (count % 2),
    }
    columns = [column.name for column in project.schema.columns]
    types = {column.name: source.dtype(column) for column in project.schema.columns}
    return pl.DataFrame(rows, schema_overrides=types).select(columns)


@dataclass(slots=True)
class World:
    """The log of a project without its service."""

    store: Store
    project: Project = TITANIC
    now: datetime = BEGIN
    ids: list[str] = field(default_factory=list)
    spooled: list[tuple[str, pl.DataFrame, str]] = field(default_factory=list)
    """Files that wait in the service's spool."""
    files: int = 0

    def predict(self, count: int, *, old: bool = False, hold: bool = False) -> list[str]:
        """Log predictions now and return their ids. With `old`, the ids have the format of earlier releases."""
        microseconds = int(self.now.timestamp() * 1_000_000)
        digest = f"{self.files:032x}"
        request = digest if old else f"{microseconds // 1000:012x}{digest}"
        ids = [f"{request}-{number}" for number in range(count)]
        columns: dict[str, Any] = {
            name: [self.project.example.get(name)] * count for name in self.project.schema.feature_names
        }
        if "fare" in columns:
            columns["fare"] = [float(1000 * self.files + number) for number in range(count)]
        frame = pl.DataFrame({"id": ids, "time": [self.now] * count, "version": ["1"] * count} | columns)
        self._ship("predictions", frame, hold)
        self.ids += ids
        return ids

    def label(self, ids: list[str], label: str, client: str, *, group: str = "", hold: bool = False) -> None:
        """Log labels now."""
        about = {"time": self.now, "label": label, "client": client, "group": group}
        rows = {"id": ids} | {name: [value] * len(ids) for name, value in about.items()}
        self._ship("feedback", pl.DataFrame(rows), hold)

    def _ship(self, kind: str, frame: pl.DataFrame, hold: bool) -> None:
        frame = frame.with_columns(pl.col("time").cast(logs.TIME))
        name = f"{self.files:06d}"
        self.files += 1
        if hold:
            self.spooled.append((kind, frame, name))
        else:
            self.write(kind, frame, name)

    def write(self, kind: str, frame: pl.DataFrame, name: str) -> None:
        """Write a file as the service ships it at this time."""
        for hour, part in logs.by_hour(frame, self.project, kind, self.now):
            self.store.write(f"{logs.folder(kind, self.project.name, hour)}/{name}.parquet", parquet(part))

    def release(self) -> None:
        """Ship the spooled files."""
        for kind, frame, name in self.spooled:
            self.write(kind, frame, name)
        self.spooled.clear()

    def pass_(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)

    def forget_first_hour(self) -> None:
        """Remove the first hour, as retention does."""
        hours = sorted({hour for kind in logs.KINDS for hour in logs.all_hours(self.store, kind, self.project.name)})
        for kind in logs.KINDS:
            for key in list(self.store.keys(logs.folder(kind, self.project.name, hours[0]))) if len(hours) > 1 else []:
                self.store.delete(key)


def small(project: Project = TITANIC, **changes: Any) -> Project:
    """Return the project with caps that few rows reach."""
    return dataclasses.replace(project, **{"feedback_share": 0.5, "feedback_share_per_client": 0.3, **changes})
