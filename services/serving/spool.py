"""The prediction log: a line a request is on disk before the answer leaves; lines become Parquet in the store.

A spool file is locked by the process that writes it. One that nobody holds was left by a process that died, and is shipped at
the next start. Its name becomes the object's, so that shipping it twice writes the same object twice.
"""

from __future__ import annotations

import fcntl
import io
import os
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from phaseflow import registry
from phaseflow.contract import Project
from phaseflow.store import Store

TIME = pl.Datetime("us", "UTC")
KINDS = {"number": pl.Float64, "integer": pl.Int64, "boolean": pl.Boolean}


class Predictions(msgspec.Struct, array_like=True):
    """One request's rows."""

    time: float
    version: str
    ids: list[str]
    rows: list[list[Any]]
    predictions: list[Any]
    scores: list[float | None]
    latency_ms: float


class Truths(msgspec.Struct, array_like=True):
    """One request's feedback."""

    time: float
    ids: list[str]
    truths: list[Any]


def target_type(project: Project) -> Any:
    """Of predictions and truths: Float64 for a number, else String."""
    target = project.schema.target
    return pl.Float64 if target is not None and target.kind in {"number", "integer"} else pl.String


def predictions_frame(project: Project, entries: list[Predictions]) -> pl.DataFrame:
    """The prediction log's columns, a row an answered row."""
    rows = [row for entry in entries for row in entry.rows]
    count = [len(entry.ids) for entry in entries]
    spread = [entry for entry, n in zip(entries, count, strict=True) for _ in range(n)]
    features = {
        column.name: pl.Series([row[place] for row in rows], dtype=KINDS.get(column.kind, pl.String), strict=False)
        for place, column in enumerate(project.schema.features)
    }
    return pl.DataFrame(
        {
            "id": [identity for entry in entries for identity in entry.ids],
            "time": pl.Series([datetime.fromtimestamp(entry.time, UTC) for entry in spread], dtype=TIME),
            "version": [entry.version for entry in spread],
            **features,
            "prediction": pl.Series(
                [p for e in entries for p in e.predictions], dtype=target_type(project), strict=False
            ),
            "score": pl.Series([s for e in entries for s in e.scores], dtype=pl.Float64, strict=False),
            "latency_ms": pl.Series([entry.latency_ms for entry in spread], dtype=pl.Float64),
        }
    )


def truths_frame(project: Project, entries: list[Truths]) -> pl.DataFrame:
    """The feedback log's columns, a row a truth."""
    spread = [entry for entry in entries for _ in entry.ids]
    kind = target_type(project)
    values = [value for entry in entries for value in entry.truths]
    if kind is pl.String:
        values = [str(value) for value in values]
    return pl.DataFrame(
        {
            "id": [identity for entry in entries for identity in entry.ids],
            "time": pl.Series([datetime.fromtimestamp(entry.time, UTC) for entry in spread], dtype=TIME),
            "truth": pl.Series(values, dtype=kind, strict=False),
        }
    )


FRAMES: dict[str, tuple[type[Any], Callable[[Project, Any], pl.DataFrame]]] = {
    "predictions": (Predictions, predictions_frame),
    "feedback": (Truths, truths_frame),
}


class Spool:
    """Lines of one kind of one project."""

    def __init__(self, folder: Path, store: Store, project: Project, kind: str) -> None:
        self.folder, self.store, self.project, self.kind = folder, store, project, kind
        self.pending = 0
        """Rows not yet shipped."""
        self._lock = threading.Lock()
        self._encode = msgspec.json.Encoder().encode
        self._file: int | None = None
        self._path = folder
        self._rows = 0
        folder.mkdir(parents=True, exist_ok=True)

    def _open(self) -> int:
        self._path = self.folder / f"{self.kind}-{self.project.name}-{uuid.uuid4()}.jsonl"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._rows = 0
        return self._file

    def append(self, entry: Predictions | Truths) -> None:
        """One line, whole or not at all; a killed process loses none. Raises OSError when the disk is full."""
        line = self._encode(entry) + b"\n"
        with self._lock:
            file = self._file if self._file is not None else self._open()
            size = os.fstat(file).st_size
            try:
                written = os.write(file, line)
                if written != len(line):
                    raise OSError(28, "the disk is full")
            except OSError:
                os.ftruncate(file, size)
                raise
            self._rows += len(entry.ids)
            self.pending += len(entry.ids)

    def ship(self) -> int:
        """Send what is spooled to the store, and return the rows; called by one thread at a time."""
        with self._lock:
            file, path, rows = self._file, self._path, self._rows
            self._file = None
        if file is None:
            return 0
        try:
            shipped(path, self.store)
        finally:
            os.close(file)  # unlocked: where shipping failed, the next sweep takes it
        self.pending -= rows
        return rows


def shipped(path: Path, store: Store) -> None:
    """Write the file's rows as one Parquet object, then remove it; a torn last line was never answered."""
    kind, name, identity = path.stem.split("-", 2)
    project = registry.get(name)
    type_, frame_of = FRAMES[kind]
    decoder = msgspec.json.Decoder(type_)
    entries = []
    for line in path.read_bytes().split(b"\n"):
        if line:
            try:
                entries.append(decoder.decode(line))
            except msgspec.DecodeError:
                continue
    if entries:
        moment = datetime.fromtimestamp(entries[0].time, UTC)
        content = io.BytesIO()
        frame_of(project, entries).write_parquet(content)
        store.write(f"{kind}/{name}/date={moment:%Y-%m-%d}/hour={moment:%H}/{identity}.parquet", content.getvalue())
    path.unlink(missing_ok=True)


def sweep(folder: Path, store: Store) -> int:
    """Ship files that no process holds, and return their number."""
    done = 0
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shipped(path, store)
            done += 1
    return done


def now() -> float:
    """Seconds since the epoch."""
    return time.time()
