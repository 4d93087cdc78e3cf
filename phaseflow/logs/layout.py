"""Where the rows of a log are: folders by the hour, and ids that contain their time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import polars as pl

from phaseflow.contract import Project
from phaseflow.store import Store

KINDS: Final = ("predictions", "feedback")
HOUR: Final = timedelta(hours=1)
LATE: Final = timedelta(minutes=15)
"""Minimum age of a row that is written to the folder of the hour of its arrival, if it is read by arrival."""
SKEW: Final = timedelta(minutes=5)
"""Maximum clock difference between two machines that readers tolerate."""
ID: Final = r"^[0-9a-f]{44}-[0-9]{1,9}$"
"""An id: 12 digits of Unix milliseconds, 32 random digits and the row number. Ids of earlier releases have no time."""
TIME: Final = pl.Datetime("us", "UTC")
_KEY: Final = re.compile(r"^[^/]+/[^/]+/date=(\d{4}-\d{2}-\d{2})/hour=(\d{2})/[^/]+$")


def folder(kind: str, project: str, hour: datetime) -> str:
    """The folder with the files of an hour."""
    return f"{kind}/{project}/date={hour:%Y-%m-%d}/hour={hour:%H}"


def floor(time: datetime) -> datetime:
    """Round a time down to the hour, in UTC."""
    return time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def hours(since: datetime, until: datetime) -> list[datetime]:
    """All hours from that of `since` to that of `until`, both included."""
    first = floor(since)
    return [first + number * HOUR for number in range(max(int((floor(until) - first) / HOUR) + 1, 0))]


def hour_of(key: str) -> datetime | None:
    """The hour of the folder of an object. None if the key does not belong to a log."""
    match = _KEY.match(key)
    try:
        return datetime.strptime(f"{match[1]} {match[2]}", "%Y-%m-%d %H").replace(tzinfo=UTC) if match else None
    except ValueError:
        return None


def all_hours(store: Store, kind: str, project: str) -> list[datetime]:
    """All hours with files, ascending. It lists the whole log, so use it only if the first hour is unknown."""
    folder_hours = (hour_of(key) for key in store.keys(f"{kind}/{project}") if key.endswith(".parquet"))
    return sorted({hour for hour in folder_hours if hour is not None})


def retained_since(store: Store, kind: str, project: str, first: datetime, until: datetime) -> datetime | None:
    """The first hour with files between `first` and `until`. None if there is none."""
    for hour in hours(first, until):
        if any(entry.key.endswith(".parquet") for entry in store.entries(folder(kind, project, hour))):
            return hour
    return None


def new_id(microseconds: int, randomness: bytes) -> str:
    """Create the id of a request from its Unix time. The rows of the request append their number."""
    return f"{microseconds // 1000:012x}{randomness.hex()}"


def id_time(ids: pl.Expr) -> pl.Expr:
    """The time in an id, in milliseconds. Null if the id has none."""
    milliseconds = ids.str.slice(0, 12).str.to_integer(base=16, strict=False)
    return pl.when(ids.str.contains(ID)).then(milliseconds * 1000).cast(TIME)


def by_arrival(project: Project, kind: str) -> bool:
    """Whether rows are read by arrival. Other rows are looked up by their ids, which contain their hour."""
    return kind == "feedback" or project.schema.target is None


def by_hour(rows: pl.DataFrame, project: Project, kind: str, now: datetime) -> Iterator[tuple[datetime, pl.DataFrame]]:
    """Split rows that are shipped at `now` by the hour of the folder to write them to."""
    times = pl.col("time").dt.truncate("1h")
    if by_arrival(project, kind):
        times = pl.when(pl.col("time") < now - LATE).then(pl.lit(floor(now), TIME)).otherwise(times)
    for (hour,), part in rows.with_columns(times.alias("_hour")).partition_by("_hour", as_dict=True).items():
        yield hour, part.drop("_hour")
