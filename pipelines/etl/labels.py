"""Labels of the feedback log, joined to their predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from phaseflow import logs
from phaseflow.contract import Project
from phaseflow.store import Store
from phaseflow.toolkit import source
from pipelines.etl.caps import ranks

EARLIEST: Final = timedelta(days=7)
"""How much older than the first hour of the log a late prediction may be."""
COLUMNS: Final = ("id", "time", "label", "client", "group", "_hour")


def read_labels(store: Store, project: Project, hour: datetime, ids: pl.Series | None = None) -> pl.DataFrame:
    """Return the last label of each id (or of each of `ids`) in an hour's folder, with the columns `COLUMNS`."""
    matching = None if ids is None else pl.col("id").is_in(ids.implode())
    rows = pl.DataFrame()
    for batch in logs.batches(store, "feedback", project.name, hour, matching=matching):
        if not {"id", "time", "label"} <= set(batch.columns):
            continue
        whole = batch.filter(pl.all_horizontal(pl.col("id", "time", "label").is_not_null()))
        missing = [pl.lit("").alias(name) for name in ("client", "group") if name not in whole.columns]
        labels = whole.with_columns(pl.lit(hour).cast(logs.TIME).alias("_hour"), *missing).select(
            pl.col("id"),
            pl.col("time").cast(logs.TIME),
            pl.col("label"),
            pl.col("client", "group").fill_null("").cast(pl.String),
            pl.col("_hour"),
        )
        rows = logs.last(pl.concat([rows, labels], how="diagonal_relaxed") if rows.height else labels)
    return rows


def together(*frames: pl.DataFrame) -> pl.DataFrame:
    """Merge labels of several frames and keep the last label of each id."""
    filled = [frame.select(COLUMNS) for frame in frames if frame.height]
    return logs.last(pl.concat(filled, how="vertical_relaxed")) if filled else pl.DataFrame()


def labels_of(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the labels of a state's rows."""
    return rows.select(
        pl.col("_id").alias("id"),
        pl.col("_at").alias("time"),
        pl.col("_label").alias("label"),
        pl.col("_client").alias("client"),
        pl.col("_sent").alias("group"),
        "_hour",
    )


def predictions(
    project: Project, store: Store, since: datetime, labels: pl.DataFrame, existing: pl.DataFrame | None, hour: datetime
) -> Iterator[pl.DataFrame]:
    """Yield batches of the labels' predictions with `id`, `time` and all features, from the state and then the log."""
    features = [column.name for column in project.schema.features]
    keys = labels.select("id", "_hour")
    if existing is not None and existing.height:
        yield existing.select(pl.col("_id").alias("id"), pl.col("_time").alias("time"), *features)
        keys = keys.join(existing.select(pl.col("_id").alias("id")), on="id", how="anti")
    if keys.is_empty():
        return
    for batch in logs.lookup(store, project.name, keys, since - EARLIEST, hour + logs.HOUR):
        missing = [pl.lit(None).alias(name) for name in features if name not in batch.columns]
        typed = source.conform(batch.with_columns(missing), dataclasses.replace(project.schema, target=None))
        yield logs.last(typed.with_columns(batch["id"], batch["time"].cast(logs.TIME)))


def still_waiting(labels: pl.DataFrame, hour: datetime) -> pl.DataFrame:
    """Return the labels whose prediction may still arrive.

    Ids without a time are kept for a day. Other ids are kept unless their time is in the future.
    """
    moment = logs.id_time(pl.col("id"))
    return labels.filter(
        pl.when(moment.is_null())
        .then(pl.col("_hour") >= hour - logs.EARLIER)
        .otherwise(moment <= pl.col("time") + logs.SKEW)
    )


def labelled(project: Project, joined: pl.DataFrame) -> pl.DataFrame:
    """Return rows of labels and predictions, with the columns of a state except those that `_with_rows` adds."""
    target = project.schema.target
    assert target is not None  # noqa: S101  # there are no labels without a target
    rows = source.conform(joined.with_columns(pl.col("label").alias(target.name)), project.schema)
    about = joined.select(
        pl.col("id").alias("_id"),
        "_time",
        pl.col("time").alias("_at"),
        pl.col("label").alias("_label"),
        pl.col("client").alias("_client"),
        pl.col("group").alias("_sent"),
        "_hour",
        "_rank",
    )
    return pl.concat([rows, about], how="horizontal").filter(pl.col(target.name).is_not_null())


def unlabelled(project: Project, batch: pl.DataFrame, hour: datetime) -> pl.DataFrame:
    """Return the same columns for predictions of a project without a target."""
    rows = logs.last(batch)
    missing = [pl.lit(None).alias(name) for name in project.schema.feature_names if name not in rows.columns]
    return source.conform(rows.with_columns(missing), project.schema).with_columns(
        rows["id"].alias("_id"),
        rows["time"].cast(logs.TIME).alias("_time"),
        rows["time"].cast(logs.TIME).alias("_at"),
        pl.lit("").alias("_label"),
        pl.lit("").alias("_client"),
        pl.lit("").alias("_sent"),
        pl.lit(hour).cast(logs.TIME).alias("_hour"),
        ranks(rows["id"], project),
    )
