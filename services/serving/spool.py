"""The prediction log: a row is a line on disk before its answer leaves; lines become Parquet in the store.

A spool file is locked by the process that writes it. One that nobody holds is complete, or was left by a process that died;
either is shipped by the next sweep. Its name becomes the object's, so that shipping it twice writes the same object twice. In which hour's
folder that is, `phaseflow.logs` says.
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

from phaseflow import logs, personal, registry
from phaseflow.contract import Project
from phaseflow.log import logger
from phaseflow.store import Store

TRIED: Final = "%Y%m%dT%H%M%SZ"
"""The form of a time in a file's name."""
KINDS: Final[Mapping[str, Any]] = {
    "number": pl.Float64,
    "integer": pl.Int64,
    "boolean": pl.Boolean,
    "image": pl.Binary,
}


def schema_of(project: Project, kind: str) -> dict[str, Any]:
    """Columns and types of `predictions` or `feedback`; `time` is in microseconds since the epoch.

    `client` is the name of the token that came with a truth, `group` the group of the row that the client named, "" where it named
    none; files of earlier releases lack them.
    """
    target = project.schema.target
    truth = pl.Float64 if target is not None and target.kind in {"number", "integer"} else pl.String
    if kind == "feedback":
        return {"id": pl.String, "time": pl.Int64, "truth": truth, "client": pl.String, "group": pl.String}
    features = {column.name: KINDS.get(column.kind, pl.String) for column in project.schema.features}
    return (
        {"id": pl.String, "time": pl.Int64, "version": pl.String}
        | features
        | {"prediction": truth, "score": pl.Float64, "latency_ms": pl.Float64}
    )


class Spool:
    """Rows of one kind of one project, on their way."""

    def __init__(self, folder: Path, project: Project, kind: str) -> None:
        self.rows = 0
        """Rows in the file that is being written."""
        self._folder, self._name = folder, f"{kind}-{project.name}"
        names = list(schema_of(project, kind))
        self._line = msgspec.defstruct("Line", [(name, Any) for name in names], gc=False)
        self._omitted = tuple(names.index(name) for name in personal.omitted(project) if name in names)
        self._encode = msgspec.json.Encoder().encode_lines
        self._lock = threading.Lock()
        self._file: int | None = None
        self._size = 0

    def append(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Write rows, each in the order of `schema_of`: all or, when the disk is full, none and OSError."""
        if self._omitted:
            rows = (tuple(None if place in self._omitted else value for place, value in enumerate(row)) for row in rows)
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
        unnamed.rename(path)  # only now can a sweep see it, and it is locked
        self._size = self.rows = 0
        return self._file

    def close(self) -> None:
        """End the file; the next row opens another."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
            self._file, self.rows = None, 0


class Log:
    """The spools of this process, and their way to the store."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder, self._store = folder, store
        self._spools: dict[tuple[str, str], Spool] = {}
        self._waiting = 0
        self._said = ""

    @property
    def rows(self) -> int:
        """Rows that are not in the store yet."""
        return self._waiting + sum(spool.rows for spool in list(self._spools.values()))

    def append(self, project: Project, kind: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """As `Spool.append`. Any thread."""
        spool = self._spools.get((project.name, kind))
        if spool is None:  # of two threads that get here both take the spool of the first
            spool = self._spools.setdefault((project.name, kind), Spool(self._folder, project, kind))
        spool.append(rows)

    def ship(self, beat: Callable[[], None] = lambda: None) -> None:
        """Send everything to the store; what can't be sent waits for the next time. Any thread, also two at once.

        `beat` is called after each file.
        """
        for spool in list(self._spools.values()):
            spool.close()
        waiting, said = 0, ""
        for path in sorted(self._folder.glob("*.jsonl")):
            beat()
            try:
                shipped(path, self._store)
            except (BlockingIOError, FileNotFoundError):  # another holds it, or has just shipped it
                continue
            except Exception as error:  # whatever ails one file, it is kept, and the others go on
                waiting += _lines(path)
                said = f"{path.name} and perhaps others wait: {error}"
        if said and said != self._said:
            logger.warning("%s", said)
        self._waiting, self._said = waiting, said


def shipped(path: Path, store: Store, now: datetime | None = None) -> None:
    """Write the file's rows as a Parquet object for each of their hours, then remove it.

    Raises BlockingIOError where a process holds it, FileNotFoundError where it is gone, PlatformError when the store is full.
    """
    kind, name, identity = path.stem.split("-", 2)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists():
            raise FileNotFoundError(path)
        content = file.read()
        project = registry.get(name)
        rows = frame(content, schema_of(project, kind))
        if not rows.is_empty():
            path, identity, arrived = _arrived(path, rows, now or datetime.now(UTC))
            for hour, part in logs.by_hour(rows, project, kind, arrived):
                parquet = io.BytesIO()
                part.write_parquet(parquet)
                store.write(f"{logs.folder(kind, name, hour)}/{identity}.parquet", parquet.getvalue())
        path.unlink()


def _lines(path: Path) -> int:
    """Rows of a file that could not be shipped, also where the try has given it another name."""
    identity = path.stem.split("-", 2)[-1].rpartition("~")[2]
    for each in (path, *path.parent.glob(f"*~{identity}.jsonl")):
        with contextlib.suppress(OSError):
            return each.read_bytes().count(b"\n")
    return 0


def _arrived(path: Path, rows: pl.DataFrame, now: datetime) -> tuple[Path, str, datetime]:
    """The file, the name of its object, and the time at which it counts as shipped.

    Of rows that are late, the time of the first try is kept in the file's name: whoever ships the file again writes the same object.
    After an outage of more than an hour it is another time, as readers may have read that hour; what they find twice counts once.
    """
    kind, name, identity = path.stem.split("-", 2)
    tried, mark, rest = identity.partition("~")
    if mark:
        first = datetime.strptime(tried, TRIED).replace(tzinfo=UTC)
        if now - first < logs.HOUR:
            return path, rest, first
        identity = rest
    if rows["time"].min() >= now - logs.LATE:  # type: ignore[operator]  # a time
        return path, identity, now
    marked = path.with_name(f"{kind}-{name}-{now:{TRIED}}~{identity}{path.suffix}")
    path.rename(marked)
    return marked, identity, now.replace(microsecond=0)


def frame(lines: bytes, schema: Mapping[str, Any]) -> pl.DataFrame:
    """The rows of a spool file; a torn line (its writer died in it) was never answered."""
    whole = lines[: lines.rfind(b"\n") + 1]
    try:
        rows = _parsed(whole, schema) if whole else pl.DataFrame(schema=schema)
    except pl.exceptions.ComputeError:  # a machine that lost power leaves such lines
        readable = b"".join(line + b"\n" for line in whole.split(b"\n") if _is_object(line))
        if readable == whole:
            raise
        return frame(readable, schema)
    # A line of an earlier release has neither.
    empty = [pl.col("client", "group").fill_null("")] if "truth" in schema else []
    return rows.with_columns(pl.col("time").cast(pl.Datetime("us", "UTC")), *empty)


def _parsed(lines: bytes, schema: Mapping[str, Any]) -> pl.DataFrame:
    """JSON has no bytes: msgspec writes them as base64."""
    images = [name for name, dtype in schema.items() if dtype == pl.Binary]
    rows = pl.read_ndjson(lines, schema=dict(schema) | dict.fromkeys(images, pl.String))
    return rows.with_columns(pl.col(images).str.decode("base64")) if images else rows


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
