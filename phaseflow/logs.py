"""The one reader of the prediction log and of the feedback log.

A log is small Parquet files in a folder for each hour, `<kind>/<project>/date=<YYYY-MM-DD>/hour=<HH>/`. The service writes them;
`pipelines.etl.compact` merges those of a finished hour. The rules that every reader shares:

- A compacted file names its sources in its metadata. Whoever sees both reads the compacted file and leaves its sources out.
- An id may come twice, from a file that was shipped twice or when an hour is compacted while it is read. It counts once.
- Of several labels of an id the latest counts; of the same moment the one whose other columns sort last. The name of a file decides
  nothing, since a compaction changes it.
- A row is in the folder of its own hour. The exception is a row that is read by its arrival (a label, or a row of a project without a
  target) and is shipped more than `LATE` after its time: it is in the folder of the hour in which it arrived, where a reader that has
  read its own hour already finds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from phaseflow.contract import Project
from phaseflow.errors import PlatformError
from phaseflow.log import logger
from phaseflow.store import Entry, Store

KINDS: Final = ("predictions", "feedback")
HOUR: Final = timedelta(hours=1)
LATE: Final = timedelta(minutes=15)
"""The age from which on a row is written to the folder of the hour in which it is shipped, if readers read it by arrival."""
SKEW: Final = timedelta(minutes=5)
"""The largest difference between the clocks of two machines that readers allow for."""
COMPACTED: Final = "compacted-"
"""How the name of a compacted file begins."""
STATISTICS: Final = "statistics.json"
"""The file beside it: how the hour's values were spread."""
SOURCES: Final = "phaseflow.sources"
"""The key of a compacted file's metadata that holds the names of its sources, as JSON."""
BATCH_BYTES: Final = 64 << 20
"""About how much memory a batch of rows takes."""
BATCH_FILES: Final = 1000
READERS: Final = 16
"""Objects of an object store that are read at the same time: each takes tens of milliseconds, and most of that is waiting."""
ATTEMPTS: Final = 5
"""Listings of an hour whose files vanish while they are read."""
ID: Final = r"^[0-9a-f]{44}-[0-9]{1,9}$"
"""An id with its time: 12 digits of unix milliseconds, 32 random ones, and the number of the row. Ids of earlier releases have no time."""
TIME: Final = pl.Datetime("us", "UTC")

_KEY: Final = re.compile(r"^[^/]+/[^/]+/date=(\d{4}-\d{2}-\d{2})/hour=(\d{2})/[^/]+$")


def folder(kind: str, project: str, hour: datetime) -> str:
    """Where the files of an hour are."""
    return f"{kind}/{project}/date={hour:%Y-%m-%d}/hour={hour:%H}"


def floor(time: datetime) -> datetime:
    """The begin of its hour."""
    return time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def hours(since: datetime, until: datetime) -> list[datetime]:
    """The hours that hold any of the time from `since` to `until`, both included."""
    first = floor(since)
    return [first + number * HOUR for number in range(max(int((floor(until) - first) / HOUR) + 1, 0))]


def hour_of(key: str) -> datetime | None:
    """The hour in whose folder an object is; None where the key is not of a log."""
    match = _KEY.match(key)
    try:
        return datetime.strptime(f"{match[1]} {match[2]}", "%Y-%m-%d %H").replace(tzinfo=UTC) if match else None
    except ValueError:
        return None


def all_hours(store: Store, kind: str, project: str) -> list[datetime]:
    """Every hour that has files, ascending. It lists the whole log: only for what can't know where to begin."""
    found = (hour_of(key) for key in store.keys(f"{kind}/{project}") if key.endswith(".parquet"))
    return sorted({hour for hour in found if hour is not None})


def new_id(microseconds: int, randomness: bytes) -> str:
    """The id of a request at that unix time; its rows append their number."""
    return f"{microseconds // 1000:012x}{randomness.hex()}"


def id_time(ids: pl.Expr) -> pl.Expr:
    """When an id was given, to the millisecond; null where it does not say."""
    milliseconds = ids.str.slice(0, 12).str.to_integer(base=16, strict=False)
    return pl.when(ids.str.contains(ID)).then(milliseconds * 1000).cast(TIME)


def by_arrival(project: Project, kind: str) -> bool:
    """Whether rows are read by when they arrived; others are looked up by their ids, which tell their hour."""
    return kind == "feedback" or project.schema.target is None


def by_hour(rows: pl.DataFrame, project: Project, kind: str, now: datetime) -> Iterator[tuple[datetime, pl.DataFrame]]:
    """Rows that are shipped at `now`, by the hours in whose folders they are written."""
    times = pl.col("time").dt.truncate("1h")
    if by_arrival(project, kind):
        times = pl.when(pl.col("time") < now - LATE).then(pl.lit(floor(now), TIME)).otherwise(times)
    for (hour,), part in rows.with_columns(times.alias("_hour")).partition_by("_hour", as_dict=True).items():
        yield hour, part.drop("_hour")


@dataclass(frozen=True, slots=True)
class Hour:
    """The files of an hour, as they were listed."""

    read: tuple[Entry, ...]
    """What is to be read, by key."""
    covered: tuple[Entry, ...] = ()
    """Files whose rows a compacted file among `read` holds as well."""

    @property
    def compacted(self) -> tuple[Entry, ...]:
        """The compacted files among those to be read."""
        return tuple(entry for entry in self.read if is_compacted(entry.key))


def is_compacted(key: str) -> bool:
    """Whether a compaction wrote the object."""
    return key.rpartition("/")[2].startswith(COMPACTED)


def listed(store: Store, kind: str, project: str, hour: datetime) -> Hour:
    """The files of an hour."""
    return sorted_out(store, list(store.entries(folder(kind, project, hour))))


def sorted_out(store: Store, entries: Sequence[Entry]) -> Hour:
    """An hour's files, those that are to be read apart from those whose rows are in one of them; raises FileNotFoundError."""
    files = [entry for entry in entries if entry.key.endswith(".parquet")]
    merged = [entry for entry in files if is_compacted(entry.key)]
    if not merged or len(files) == 1:
        return Hour(tuple(files))
    names = {name for entry in merged for name in sources(store, entry.key)}
    read = tuple(entry for entry in files if entry.key.rpartition("/")[2] not in names)
    return Hour(read, tuple(entry for entry in files if entry not in read))


def sources(store: Store, key: str) -> tuple[str, ...]:
    """Names of the files whose rows a compacted file holds, those of files that it has replaced included; raises FileNotFoundError."""
    try:
        metadata = pl.read_parquet_metadata(_source(store, key))
    except pl.exceptions.PolarsError as error:
        logger.warning("%s is left out: %s", key, error)
        return ()
    return tuple(json.loads(metadata.get(SOURCES) or "[]"))


def written(frame: pl.DataFrame, names: Iterable[str]) -> tuple[str, bytes]:
    """The name and the content of the compacted file of `frame`, which holds the rows of the files `names`.

    Equal sources give the same name, so that a second run writes the same object.
    """
    covered = sorted(set(names))
    digest = hashlib.sha256("\n".join(covered).encode()).hexdigest()[:16]
    content = io.BytesIO()
    # Small groups of rows, sorted by time: a look-up by ids, whose times are known, reads few of them.
    frame.write_parquet(content, row_group_size=ROW_GROUP, metadata={SOURCES: json.dumps(covered)})
    return f"{COMPACTED}{digest}.parquet", content.getvalue()


ROW_GROUP: Final = 16_384
"""Rows."""


def batches(
    store: Store,
    kind: str,
    project: str,
    hour: datetime,
    columns: Collection[str] | None = None,
    matching: pl.Expr | None = None,
) -> Iterator[pl.DataFrame]:
    """The rows of an hour's files, a bounded number at a time, in no order; an id may come twice.

    `columns` are those wanted, of which a file may lack some; `matching` leaves rows out before they are read. A file that
    can't be read is named and left out. Raises PlatformError when the store is away, and when files keep vanishing.
    """
    done: set[str] = set()
    for _ in range(ATTEMPTS):
        try:
            yield from _batches(store, listed(store, kind, project, hour), columns, matching, done)
        except FileNotFoundError:  # merged since it was listed: the compacted file is there now
            continue
        return
    raise PlatformError(
        f"The files of {folder(kind, project, hour)} vanish while they are read",
        fix="See what removes them, and try again",
    )


def _batches(
    store: Store, files: Hour, columns: Collection[str] | None, matching: pl.Expr | None, done: set[str]
) -> Iterator[pl.DataFrame]:
    small: list[Entry] = []
    for entry in files.read:
        if entry.key in done:
            continue
        if entry.size > BATCH_BYTES // 16:
            yield from _slices(store, entry, columns, matching)
            done.add(entry.key)
            continue
        small.append(entry)
        if len(small) == BATCH_FILES or sum(each.size for each in small) > BATCH_BYTES // 8:
            yield from _together(store, small, columns, matching, done)
            small = []
    yield from _together(store, small, columns, matching, done)


def _together(
    store: Store, entries: list[Entry], columns: Collection[str] | None, matching: pl.Expr | None, done: set[str]
) -> Iterator[pl.DataFrame]:
    """One frame of small files."""
    frame = together(store, [entry.key for entry in entries], columns, matching)[0] if entries else pl.DataFrame()
    done.update(entry.key for entry in entries)
    if frame.height:
        yield frame


def _slices(
    store: Store, entry: Entry, columns: Collection[str] | None, matching: pl.Expr | None
) -> Iterator[pl.DataFrame]:
    """A large file, some of its rows at a time."""
    try:
        source = _source(store, entry.key)
        scan = pl.scan_parquet(source)
        rows = scan.select(pl.len()).collect().item()
        step = max(
            1000, int(rows * BATCH_BYTES / (4 * entry.size))
        )  # Parquet of tables is a fourth of their size, or less
        wanted = _selected(scan, columns)
        for begin in range(0, rows, step):
            part = wanted.slice(begin, step)
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
    """The rows of small files, and the keys of those that can't be read, which are named; raises FileNotFoundError.

    All are read in one call, which takes a fourth of the time of a call for each, and one by one where that fails.
    """
    contents = _each(store, keys)
    with contextlib.suppress(pl.exceptions.PolarsError):
        scan = pl.scan_parquet(list(contents), extra_columns="raise", missing_columns="raise")
        return _narrowed(scan, columns, matching), set()
    frames, unreadable = [], set()
    for key, content in zip(keys, contents, strict=True):
        try:
            frames.append(_narrowed(pl.scan_parquet(io.BytesIO(content)), columns, matching))
        except pl.exceptions.PolarsError as error:
            logger.warning("%s is left out: %s", key, error)
            unreadable.add(key)
    return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame(), unreadable


def _each(store: Store, keys: list[str]) -> list[bytes]:
    """The content of each object; an unreadable one is empty. Raises FileNotFoundError."""

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
    wanted = _selected(scan, columns)
    return (wanted if matching is None else wanted.filter(matching)).collect()


def _selected(scan: pl.LazyFrame, columns: Collection[str] | None) -> pl.LazyFrame:
    if columns is None:
        return scan
    return scan.select([name for name in scan.collect_schema().names() if name in columns])


def _source(store: Store, key: str) -> Path | io.BytesIO:
    """What Polars reads an object from: of a folder the file itself, so that it reads only the parts that it needs."""
    return io.BytesIO(store.read(key)) if store.remote else store.path(key)


def frame(
    store: Store, kind: str, project: str, hour: datetime, columns: Collection[str] | None = None
) -> pl.DataFrame:
    """All rows of an hour, each id once, by time."""
    parts = list(batches(store, kind, project, hour, columns))
    return last(pl.concat(parts, how="diagonal_relaxed")) if parts else pl.DataFrame()


def last(rows: pl.DataFrame) -> pl.DataFrame:
    """The last row of each id, sorted by time and id. Of rows of the same moment it is the one whose other columns sort last."""
    if rows["id"].n_unique() == rows.height:  # as nearly always
        return rows.sort("time", "id")
    twice = pl.col("id").is_duplicated()
    once, again = rows.filter(~twice), rows.filter(twice)
    if again.height:
        others = [name for name, dtype in again.schema.items() if name not in {"id", "time"} and dtype != pl.Binary]
        # Columns that a reader has added, such as the folder's hour, come after what the log itself says.
        order = sorted(others, key=lambda name: (name.startswith("_"), name))
        again = again.sort("time", *order).unique("id", keep="last")
        once = pl.concat([once, again])
    return once.sort("time", "id")


def window(
    store: Store,
    kind: str,
    project: str,
    since: datetime,
    until: datetime,
    columns: Collection[str] | None = None,
    matching: pl.Expr | None = None,
) -> Iterator[pl.DataFrame]:
    """Rows of the hours from that of `since` to that of `until`, in batches as `batches` gives them."""
    for hour in hours(since, until):
        yield from batches(store, kind, project, hour, columns, matching)


def newest(
    store: Store, kind: str, project: str, since: datetime, until: datetime, limit: int, columns: Collection[str]
) -> pl.DataFrame:
    """The newest `limit` rows of a window, each id once, by time; hours are read from the last one until they are enough."""
    rows = pl.DataFrame()
    for hour in reversed(hours(since, until)):
        for batch in batches(store, kind, project, hour, columns):
            rows = last(_concat(rows, batch)).tail(limit)
        if rows.height >= limit:
            break
    return rows


def sample(
    store: Store,
    kind: str,
    project: str,
    since: datetime,
    until: datetime,
    limit: int,
    seed: int,
    columns: Collection[str] | None = None,
) -> pl.DataFrame:
    """A random sample of `limit` rows of a window, each id once, by time.

    It keeps the rows with the smallest hashes of their ids, as a bottom-k sample (Cohen and Kaplan, PODC 2007): no more than
    `limit` rows and a batch are in memory, and an id that comes again is the same row.
    """
    rows = pl.DataFrame()
    for batch in window(store, kind, project, since, until, columns, pl.col("time") >= since):
        joined = last(_concat(rows.drop("_hash", strict=False), batch))
        rows = joined.with_columns(pl.col("id").hash(seed).alias("_hash")).bottom_k(limit, by="_hash")
    return rows.drop("_hash").sort("time", "id") if rows.height else rows


def labels_of(store: Store, project: str, ids: pl.Series, since: datetime, until: datetime) -> pl.DataFrame:
    """The last label of each of `ids` in a window, where it has one: `id`, `time`, `truth`, `client`."""
    rows = pl.DataFrame()
    for batch in window(store, "feedback", project, since, until, matching=pl.col("id").is_in(ids.implode())):
        rows = last(_concat(rows, batch))
    return rows


def lookup(store: Store, project: str, ids: pl.DataFrame, since: datetime, until: datetime) -> Iterator[pl.DataFrame]:
    """Predictions of `ids` (columns `id` and `_hour`, the hour in which its label is), in batches; an id may come twice.

    An id that tells its time is looked up in that hour alone (within a minute after its begin also in the one before, since a file of an
    earlier release is where its first row belongs). Other ids, of earlier
    releases, are looked up in the day before their label and in the hour after. Nothing is read before `since` or after `until`.
    """
    timed = ids.with_columns(id_time(pl.col("id")).alias("_moment"))
    wanted: dict[datetime, list[pl.Series]] = {}
    dated = timed.select("id", low=pl.col("_moment") - REACH, high=pl.col("_moment")).drop_nulls("high")
    old = timed.filter(pl.col("_moment").is_null())
    days = old.select("id", low=pl.col("_hour") - EARLIER, high=pl.col("_hour") + HOUR)
    for (low, high), part in (
        pl.concat([dated.with_columns(pl.col("low", "high").dt.truncate("1h")), days])
        .partition_by("low", "high", as_dict=True)
        .items()
    ):
        for hour in hours(max(low, floor(since)), min(high, until)):
            wanted.setdefault(hour, []).append(part["id"])
    for hour in sorted(wanted):
        series = pl.concat(wanted[hour])
        known = series.implode()
        moments = pl.DataFrame({"id": series}).select(id_time(pl.col("id")).alias("at"))["at"]
        matching = pl.col("id").is_in(known)
        if not moments.null_count():  # the statistics of each group of rows say whether it can hold any of these
            ends: tuple[Any, Any] = moments.min(), moments.max()
            matching = pl.col("time").is_between(ends[0] - SLACK, ends[1] + SLACK) & matching
        yield from batches(store, "predictions", project, hour, matching=matching)


EARLIER: Final = timedelta(days=1)
"""How long before its label a prediction without a time in its id is looked for."""
REACH: Final = timedelta(minutes=1)
"""How long the rows of a file of an earlier release reach into the next hour."""
SLACK: Final = timedelta(minutes=5)
"""The largest difference between the time of a row and the time of its id."""


def _concat(rows: pl.DataFrame, more: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([rows, more], how="diagonal_relaxed") if rows.height else more


def retained_since(store: Store, kind: str, project: str, first: datetime, until: datetime) -> datetime | None:
    """The first hour from `first` on that still has files; None where none has."""
    for hour in hours(first, until):
        if any(entry.key.endswith(".parquet") for entry in store.entries(folder(kind, project, hour))):
            return hour
    return None
