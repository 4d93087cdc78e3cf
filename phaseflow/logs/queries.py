"""Rows of several hours: windows, the newest, samples, labels, and predictions by their ids."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl

from phaseflow.logs.files import batches
from phaseflow.logs.layout import HOUR, floor, hours, id_time
from phaseflow.store import Store

EARLIER: Final = timedelta(days=1)
"""Maximum age of a prediction at the time of its label, if its id contains no time."""
REACH: Final = timedelta(minutes=1)
"""Maximum time that rows in files of earlier releases extend into the next hour."""
SLACK: Final = timedelta(minutes=5)
"""Maximum difference between the time of a row and the time in its id."""


def frame(
    store: Store, kind: str, project: str, hour: datetime, columns: Collection[str] | None = None
) -> pl.DataFrame:
    """Read all rows of an hour, sorted by time, with one row per id."""
    parts = list(batches(store, kind, project, hour, columns))
    return last(pl.concat(parts, how="diagonal_relaxed")) if parts else pl.DataFrame()


def last(rows: pl.DataFrame) -> pl.DataFrame:
    """Keep the last row of each id, sorted by time and id. At equal times, the order of the other columns decides."""
    if rows["id"].n_unique() == rows.height:  # the usual case
        return rows.sort("time", "id")
    is_duplicate = pl.col("id").is_duplicated()
    unique, duplicates = rows.filter(~is_duplicate), rows.filter(is_duplicate)
    if duplicates.height:
        others = [
            name for name, dtype in duplicates.schema.items() if name not in {"id", "time"} and dtype != pl.Binary
        ]
        # Columns that a reader has added, such as the hour of the folder, sort after those of the log.
        order = sorted(others, key=lambda name: (name.startswith("_"), name))
        duplicates = duplicates.sort("time", *order).unique("id", keep="last")
        unique = pl.concat([unique, duplicates])
    return unique.sort("time", "id")


def window(
    store: Store,
    kind: str,
    project: str,
    since: datetime,
    until: datetime,
    columns: Collection[str] | None = None,
    matching: pl.Expr | None = None,
) -> Iterator[pl.DataFrame]:
    """Read the rows of all hours from that of `since` to that of `until`, in batches like `batches`."""
    for hour in hours(since, until):
        yield from batches(store, kind, project, hour, columns, matching)


def newest(
    store: Store, kind: str, project: str, since: datetime, until: datetime, limit: int, columns: Collection[str]
) -> pl.DataFrame:
    """Read the newest `limit` rows of a window, sorted by time, with one row per id. Older hours are not read."""
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
    """Read a random sample of `limit` rows of a window, sorted by time, with one row per id.

    It keeps the rows with the smallest hashes of their ids, a bottom-k sample (Cohen and Kaplan, PODC 2007). At most
    `limit` rows and one batch are in memory, and duplicates of an id have the same hash.
    """
    rows = pl.DataFrame()
    for batch in window(store, kind, project, since, until, columns, pl.col("time") >= since):
        joined = last(_concat(rows.drop("_hash", strict=False), batch))
        rows = joined.with_columns(pl.col("id").hash(seed).alias("_hash")).bottom_k(limit, by="_hash")
    return rows.drop("_hash").sort("time", "id") if rows.height else rows


def labels_of(store: Store, project: str, ids: pl.Series, since: datetime, until: datetime) -> pl.DataFrame:
    """Read the last label of each of `ids` in a window, if there is one: `id`, `time`, `label`, `client`."""
    rows = pl.DataFrame()
    for batch in window(store, "feedback", project, since, until, matching=pl.col("id").is_in(ids.implode())):
        rows = last(_concat(rows, batch))
    return rows


def lookup(store: Store, project: str, ids: pl.DataFrame, since: datetime, until: datetime) -> Iterator[pl.DataFrame]:
    """Read the predictions of `ids` in batches. An id may occur twice.

    `ids` has the columns `id` and `_hour`, the hour of the label. An id that contains its time is looked up in that
    hour alone. In the first minute of an hour it is also looked up in the hour before, because earlier releases put all
    rows of a file into the hour of its first row. Ids without a time, also of earlier releases, are looked up in the
    day before their label and in the hour after it. Nothing is read before `since` or after `until`.
    """
    timed = ids.with_columns(id_time(pl.col("id")).alias("_moment"))
    ids_by_hour: dict[datetime, list[pl.Series]] = {}
    dated = timed.select("id", low=pl.col("_moment") - REACH, high=pl.col("_moment")).drop_nulls("high")
    old = timed.filter(pl.col("_moment").is_null())
    days = old.select("id", low=pl.col("_hour") - EARLIER, high=pl.col("_hour") + HOUR)
    for (low, high), part in (
        pl.concat([dated.with_columns(pl.col("low", "high").dt.truncate("1h")), days])
        .partition_by("low", "high", as_dict=True)
        .items()
    ):
        for hour in hours(max(low, floor(since)), min(high, until)):
            ids_by_hour.setdefault(hour, []).append(part["id"])
    for hour in sorted(ids_by_hour):
        series = pl.concat(ids_by_hour[hour])
        moments = pl.DataFrame({"id": series}).select(id_time(pl.col("id")).alias("at"))["at"]
        matching = pl.col("id").is_in(series.implode())
        if not moments.null_count():  # lets Polars skip row groups by their statistics
            ends: tuple[Any, Any] = moments.min(), moments.max()
            matching = pl.col("time").is_between(ends[0] - SLACK, ends[1] + SLACK) & matching
        yield from batches(store, "predictions", project, hour, matching=matching)


def _concat(rows: pl.DataFrame, more: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([rows, more], how="diagonal_relaxed") if rows.height else more
