"""The prediction log: each row is written to disk before its response is sent, and shipped to the store as Parquet.

The process that writes a spool file holds a lock on it. A file without a lock is complete, or its process died; in
either case the next sweep ships it. The object gets the file's name, so that shipping a file twice writes the same
object twice. `phaseflow.logs` chooses the object's folder by the hour.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl

from phaseflow import discovery, kinds, logs, personal
from phaseflow.contract import Project
from phaseflow.log import logger
from phaseflow.store import Store

TIME_FORMAT: Final = "%Y%m%dT%H%M%SZ"
"""Format of the time in a file's name."""


def schema_of(project: Project, kind: str) -> dict[str, Any]:
    """Columns and types of `predictions` or `feedback`; `time` is in microseconds since the epoch.

    `client` is the name of the token that the label was sent with. `group` is the group of the row, or "" if the
    client named none. Files of earlier releases lack both.
    """
    target = project.schema.target
    label = pl.String if target is None else getattr(pl, kinds.of(target).label_dtype)
    if kind == "feedback":
        return {"id": pl.String, "time": pl.Int64, "label": label, "client": pl.String, "group": pl.String}
    features = {column.name: getattr(pl, kinds.of(column).dtype) for column in project.schema.features}
    return (
        {"id": pl.String, "time": pl.Int64, "version": pl.String}
        | features
        | {"prediction": label, "score": pl.Float64, "latency_ms": pl.Float64}
    )


class Spool:
    """Writes the rows of one kind of one project to spool files."""

    def __init__(self, folder: Path, project: Project, kind: str) -> None:
        self.rows = 0
        """Rows in the open file."""
        self._folder, self._name = folder, f"{kind}-{project.name}"
        names = list(schema_of(project, kind))
        self._line = msgspec.defstruct("Line", [(name, Any) for name in names], gc=False)
        self._omitted = tuple(names.index(name) for name in personal.omitted(project) if name in names)
        self._encode = msgspec.json.Encoder().encode_lines
        self._lock = threading.Lock()
        self._file: int | None = None
        self._size = 0

    def append(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Write all rows, each in the order of `schema_of`; if the disk is full, write none and raise OSError."""
        if self._omitted:
            rows = (
                tuple(None if position in self._omitted else value for position, value in enumerate(row))
                for row in rows
            )
        lines = [self._line(*row) for row in rows]
        content = self._encode(lines)
        with self._lock:
            file = self._file if self._file is not None else self._open()
            try:
                written = os.write(file, content)
                if written != len(content):
                    raise OSError(28, "No space left on device")
            except OSError:
                os.ftruncate(file, self._size)
                raise
            self._size += written
            self.rows += len(lines)

    def _open(self) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._name}-{uuid.uuid4()}.jsonl"
        unnamed = path.with_suffix(".new")
        self._file = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        unnamed.rename(path)  # a sweep can see it only now, when it is locked
        self._size = self.rows = 0
        return self._file

    def close(self) -> None:
        """Close the file; the next row opens a new one."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
            self._file, self.rows = None, 0


class Log:
    """Owns the spools of this process and ships all spool files to the store."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder, self._store = folder, store
        self._spools: dict[tuple[str, str], Spool] = {}
        self._waiting = 0
        self._last_warning = ""

    @property
    def rows(self) -> int:
        """Rows that are not in the store yet."""
        return self._waiting + sum(spool.rows for spool in list(self._spools.values()))

    def append(self, project: Project, kind: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """As `Spool.append`. Thread-safe."""
        spool = self._spools.get((project.name, kind))
        if spool is None:  # if two threads get here, both use the spool of the first
            spool = self._spools.setdefault((project.name, kind), Spool(self._folder, project, kind))
        spool.append(rows)

    def ship(self, beat: Callable[[], None] = lambda: None) -> None:
        """Ship all files to the store; files that can't be shipped wait for the next call. Thread-safe.

        `beat` is called for each file.
        """
        for spool in list(self._spools.values()):
            spool.close()
        waiting, warning = 0, ""
        for path in sorted(self._folder.glob("*.jsonl")):
            beat()
            try:
                ship_file(path, self._store)
            except (BlockingIOError, FileNotFoundError):  # another process holds it or has just shipped it
                continue
            except Exception as error:  # a file that fails is kept and does not stop the others
                waiting += _lines(path)
                warning = f"{path.name} and possibly other files can't be shipped yet: {error}"
        if warning and warning != self._last_warning:
            logger.warning("%s", warning)
        self._waiting, self._last_warning = waiting, warning


def ship_file(path: Path, store: Store, now: datetime | None = None) -> None:
    """Write the file's rows as one Parquet object per hour, then remove the file.

    Raises BlockingIOError if a process holds the file, FileNotFoundError if it no longer exists, and PlatformError if
    the store is full.
    """
    kind, name, identity = path.stem.split("-", 2)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists():
            raise FileNotFoundError(path)
        content = file.read()
        project = discovery.get(name)
        rows = frame(content, schema_of(project, kind))
        if not rows.is_empty():
            path, identity, arrival = _arrival(path, rows, now or datetime.now(UTC))
            for hour, part in logs.by_hour(rows, project, kind, arrival):
                parquet = io.BytesIO()
                part.write_parquet(parquet)
                store.write(f"{logs.folder(kind, name, hour)}/{identity}.parquet", parquet.getvalue())
        path.unlink()


def _lines(path: Path) -> int:
    """Number of rows of a file that could not be shipped, even if the attempt has renamed it."""
    identity = path.stem.split("-", 2)[-1].rpartition("~")[2]
    for candidate in (path, *path.parent.glob(f"*~{identity}.jsonl")):
        with contextlib.suppress(OSError):
            return candidate.read_bytes().count(b"\n")
    return 0


def _arrival(path: Path, rows: pl.DataFrame, now: datetime) -> tuple[Path, str, datetime]:
    """The file's path, the name of its object, and the time at which its rows count as shipped.

    If rows are late, the time of the first attempt is stored in the file's name, so that later attempts write the same
    object. After an outage of more than an hour the time is renewed, as readers may already have read that hour;
    readers count duplicates once.
    """
    kind, name, identity = path.stem.split("-", 2)
    attempt_time, separator, rest = identity.partition("~")
    if separator:
        first = datetime.strptime(attempt_time, TIME_FORMAT).replace(tzinfo=UTC)
        if now - first < logs.HOUR:
            return path, rest, first
        identity = rest
    if rows["time"].min() >= now - logs.LATE:  # type: ignore[operator]  # a time
        return path, identity, now
    marked = path.with_name(f"{kind}-{name}-{now:{TIME_FORMAT}}~{identity}{path.suffix}")
    path.rename(marked)
    return marked, identity, now.replace(microsecond=0)


def frame(lines: bytes, schema: Mapping[str, Any]) -> pl.DataFrame:
    """The rows of a spool file, without a truncated last line: its writer died before it sent the response."""
    whole = lines[: lines.rfind(b"\n") + 1]
    try:
        rows = _parse(whole, schema) if whole else pl.DataFrame(schema=schema)
    except pl.exceptions.ComputeError:  # a power failure can leave invalid lines
        readable = b"".join(line + b"\n" for line in whole.split(b"\n") if _is_object(line))
        if readable == whole:
            raise
        return frame(readable, schema)
    # Lines of earlier releases have neither column.
    empty = [pl.col("client", "group").fill_null("")] if "label" in schema else []
    return rows.with_columns(pl.col("time").cast(pl.Datetime("us", "UTC")), *empty)


def _parse(lines: bytes, schema: Mapping[str, Any]) -> pl.DataFrame:
    """Parse JSON lines; columns of bytes are base64 in JSON, as written by msgspec."""
    images = [name for name, dtype in schema.items() if dtype == pl.Binary]
    rows = pl.read_ndjson(lines, schema=dict(schema) | dict.fromkeys(images, pl.String))
    return rows.with_columns(pl.col(images).str.decode("base64")) if images else rows


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
