"""The files of an hour: which of them to read, and their rows in batches of bounded size."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import polars as pl

from phaseflow.errors import PlatformError
from phaseflow.log import logger
from phaseflow.logs.layout import folder
from phaseflow.store import Entry, Store

COMPACTED: Final = "compacted-"
"""Prefix of the name of a compacted file."""
STATISTICS: Final = "statistics.json"
"""Name of the file with the distribution of the values of an hour, next to its compacted file."""
SOURCES: Final = "phaseflow.sources"
"""Metadata key of a compacted file with the names of its sources, as JSON."""
ROW_GROUP: Final = 16_384
"""Rows per row group of a compacted file."""
RENAMED: Final = {"feedback": {"truth": "label"}}
"""Columns of each log that version 0.1.0 wrote under another name: `{kind: {old name: name}}`."""
BATCH_BYTES: Final = 64 << 20
"""Approximate memory of a batch of rows."""
BATCH_FILES: Final = 1000
READERS: Final = 16
"""Number of objects of an object store to read concurrently. Each takes tens of milliseconds, mostly waiting."""
ATTEMPTS: Final = 5
"""Maximum number of listings of an hour whose files disappear while they are read."""


@dataclass(frozen=True, slots=True)
class Hour:
    """The listed files of an hour."""

    read: tuple[Entry, ...]
    """Files to read, sorted by key."""
    covered: tuple[Entry, ...] = ()
    """Files whose rows are also in a compacted file in `read`."""

    @property
    def compacted(self) -> tuple[Entry, ...]:
        """The compacted files in `read`."""
        return tuple(entry for entry in self.read if is_compacted(entry.key))


def is_compacted(key: str) -> bool:
    """Whether an object is a compacted file."""
    return key.rpartition("/")[2].startswith(COMPACTED)


def listed(store: Store, kind: str, project: str, hour: datetime) -> Hour:
    """List the files of an hour."""
    return sorted_out(store, list(store.entries(folder(kind, project, hour))))


def sorted_out(store: Store, entries: Sequence[Entry]) -> Hour:
    """Separate the files to read from those whose rows a compacted file contains. Raises FileNotFoundError."""
    files = [entry for entry in entries if entry.key.endswith(".parquet")]
    merged = [entry for entry in files if is_compacted(entry.key)]
    if not merged or len(files) == 1:
        return Hour(tuple(files))
    names = {name for entry in merged for name in sources(store, entry.key)}
    read = tuple(entry for entry in files if entry.key.rpartition("/")[2] not in names)
    return Hour(read, tuple(entry for entry in files if entry not in read))


def sources(store: Store, key: str) -> tuple[str, ...]:
    """Names of the sources of a compacted file, including those of files it replaced. Raises FileNotFoundError."""
    try:
        metadata = pl.read_parquet_metadata(_source(store, key))
    except pl.exceptions.PolarsError as error:
        logger.warning("%s is left out: %s", key, error)
        return ()
    return tuple(json.loads(metadata.get(SOURCES) or "[]"))


def written(frame: pl.DataFrame, names: Iterable[str]) -> tuple[str, bytes]:
    """Create a compacted file from `frame`, the rows of the files `names`. Returns its name and its content.

    The name depends only on the sources, so that a second run writes the same object.
    """
    covered = sorted(set(names))
    digest = hashlib.sha256("\n".join(covered).encode()).hexdigest()[:16]
    content = io.BytesIO()
    # Small row groups, sorted by time: a lookup by ids, which contain their times, reads only few of them.
    frame.write_parquet(content, row_group_size=ROW_GROUP, metadata={SOURCES: json.dumps(covered)})
    return f"{COMPACTED}{digest}.parquet", content.getvalue()


def batches(
    store: Store,
    kind: str,
    project: str,
    hour: datetime,
    columns: Collection[str] | None = None,
    matching: pl.Expr | None = None,
) -> Iterator[pl.DataFrame]:
    """Read the rows of an hour in batches of bounded size, in any order. An id may occur twice.

    `columns` are the columns to read, of which a file may lack some. `matching` filters rows while reading. An
    unreadable file is logged and skipped. Raises PlatformError if the store is not available, or if files keep
    disappearing.
    """
    completed: set[str] = set()
    for _ in range(ATTEMPTS):
        try:
            yield from _batches(store, listed(store, kind, project, hour), columns, matching, completed)
        except FileNotFoundError:  # merged after the listing: the compacted file exists now
            continue
        return
    raise PlatformError(
        f"The files of {folder(kind, project, hour)} disappear while they are read",
        fix="Find out what removes them, and try again",
    )


def _batches(
    store: Store, files: Hour, columns: Collection[str] | None, matching: pl.Expr | None, completed: set[str]
) -> Iterator[pl.DataFrame]:
    small: list[Entry] = []
    for entry in files.read:
        if entry.key in completed:
            continue
        if entry.size > BATCH_BYTES // 16:
            yield from _slices(store, entry, columns, matching)
            completed.add(entry.key)
            continue
        small.append(entry)
        if len(small) == BATCH_FILES or sum(file.size for file in small) > BATCH_BYTES // 8:
            yield from _together(store, small, columns, matching, completed)
            small = []
    yield from _together(store, small, columns, matching, completed)


def _together(
    store: Store, entries: list[Entry], columns: Collection[str] | None, matching: pl.Expr | None, completed: set[str]
) -> Iterator[pl.DataFrame]:
    """Read small files into one frame."""
    frame = together(store, [entry.key for entry in entries], columns, matching)[0] if entries else pl.DataFrame()
    completed.update(entry.key for entry in entries)
    if frame.height:
        yield frame


def _slices(
    store: Store, entry: Entry, columns: Collection[str] | None, matching: pl.Expr | None
) -> Iterator[pl.DataFrame]:
    """Read a large file in slices."""
    try:
        scan = _current(pl.scan_parquet(_source(store, entry.key)), entry.key)
        rows = scan.select(pl.len()).collect().item()
        # A Parquet file takes at most about a fourth of the size of its rows in memory.
        step = max(1000, int(rows * BATCH_BYTES / (4 * entry.size)))
        selection = _selected(scan, columns)
        for start in range(0, rows, step):
            part = selection.slice(start, step)
            frame = (part if matching is None else part.filter(matching)).collect()
            if frame.height:
                yield frame
    except FileNotFoundError:
        raise
    except (OSError, pl.exceptions.PolarsError) as error:
        logger.warning("%s is left out: %s", entry.key, error)


def together(
    store: Store, keys: list[str], columns: Collection[str] | None = None, matching: pl.Expr | None = None
) -> tuple[pl.DataFrame, set[str]]:
    """Read the rows of small files of one log. Returns them with the keys of unreadable files, which are logged.

    One call reads all files, which takes a fourth of the time of one call per file. If it fails, the files are read one
    by one. Raises FileNotFoundError if a file does not exist.
    """
    contents = _each(store, keys)
    with contextlib.suppress(pl.exceptions.PolarsError):
        scan = pl.scan_parquet(list(contents), extra_columns="raise", missing_columns="raise")
        return _narrowed(_current(scan, keys[0]), columns, matching), set()
    frames, unreadable = [], set()
    for key, content in zip(keys, contents, strict=True):
        try:
            scan = _current(pl.scan_parquet(io.BytesIO(content)), key)
            frames.append(_narrowed(scan, columns, matching))
        except pl.exceptions.PolarsError as error:
            logger.warning("%s is left out: %s", key, error)
            unreadable.add(key)
    return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame(), unreadable


def _each(store: Store, keys: list[str]) -> list[bytes]:
    """Read the content of each object. An unreadable object is empty. Raises FileNotFoundError."""

    def content(key: str) -> bytes:
        try:
            return store.read(key)
        except FileNotFoundError:
            raise
        except OSError as error:
            logger.warning("%s is left out: %s", key, error)
            return b""

    if not store.remote:
        return [content(key) for key in keys]
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(content, keys))


def _narrowed(scan: pl.LazyFrame, columns: Collection[str] | None, matching: pl.Expr | None) -> pl.DataFrame:
    selection = _selected(scan, columns)
    return (selection if matching is None else selection.filter(matching)).collect()


def _current(scan: pl.LazyFrame, key: str) -> pl.LazyFrame:
    """Give the columns of a file of an earlier version their current names."""
    renamed = RENAMED.get(key.partition("/")[0])
    return scan.rename(renamed, strict=False) if renamed else scan


def _selected(scan: pl.LazyFrame, columns: Collection[str] | None) -> pl.LazyFrame:
    if columns is None:
        return scan
    return scan.select([name for name in scan.collect_schema().names() if name in columns])


def _source(store: Store, key: str) -> Path | io.BytesIO:
    """The input of Polars for an object. For a folder, it is the path, so that Polars reads only the parts it needs."""
    return io.BytesIO(store.read(key)) if store.remote else store.path(key)
