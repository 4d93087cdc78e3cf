"""Columns that a snapshot adds to its rows (key, group, origin, client and trust), and its split into two sides.

All functions are pure. A snapshot's rows have the schema's columns, followed by `COLUMNS`.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from phaseflow.contract import Project
from phaseflow.logs import TIME
from phaseflow.toolkit.holdout import feedback_groups, groups, row_hashes, train_holdout_split
from phaseflow.toolkit.twins import twin_keys
from pipelines.etl.caps import capped

COLUMNS: Final = ("_id", "_key", "_group", "_origin", "_time", "_client", "_trusted")
"""The columns in order: the id of the prediction (null for base rows), the hash of the row, the hash of its group, `base` or
`feedback`, the time of the prediction (null for base rows), the client that sent the label ("" if anonymous and for
base rows), and whether the label is trusted."""


def of_base(rows: pl.DataFrame, project: Project) -> pl.DataFrame:
    """Add the columns of a snapshot to the source's valid rows [N].

    The rows have `_group` if `Project.group` is not a feature.
    """
    rows = rows.with_columns(
        row_hashes(rows, project),
        pl.lit(None, pl.String).alias("_id"),
        pl.lit("base").alias("_origin"),
        pl.lit(None, TIME).alias("_time"),
        pl.lit("").alias("_client"),
        pl.lit(value=True).alias("_trusted"),
    )
    return _ordered(rows.with_columns(groups(rows, project)), project)


def identified(rows: pl.DataFrame, project: Project) -> pl.DataFrame:
    """Add `_key` and `_group` to feedback rows [N], which have the schema's columns and `_sent`."""
    rows = rows.with_columns(row_hashes(rows, project))
    return rows.with_columns(feedback_groups(rows, project))


def of_feedback(rows: pl.DataFrame, project: Project) -> pl.DataFrame:
    """Add the columns of a snapshot to rows [N] of `identified`, which have `_id`, `_time` and `_client`."""
    rows = rows.with_columns(
        pl.lit("feedback").alias("_origin"),
        pl.col("_time").cast(TIME),
        pl.col("_client").is_in(list(project.trusted_clients)).alias("_trusted"),
    )
    return _ordered(rows, project)


def _ordered(rows: pl.DataFrame, project: Project) -> pl.DataFrame:
    return rows.select([column.name for column in project.schema.columns] + list(COLUMNS))


def split(base: pl.DataFrame, feedback: pl.DataFrame, project: Project) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split rows of `of_base` and `of_feedback` into training rows [N] and holdout rows [M], source rows first.

    Feedback above the caps is dropped. Feedback that is a twin of a row on the other side is dropped as well: first
    holdout feedback with a twin among the source's training rows, then training feedback with a twin in the holdout.
    Only the source itself can therefore have the same row on both sides, whatever groups clients send.
    """
    train, holdout = train_holdout_split(capped(pl.concat([base, feedback]), project), project)
    holdout = _without_twins(holdout, train.filter(pl.col("_origin") == "base"), project)
    return _without_twins(train, holdout, project), holdout


def _without_twins(rows: pl.DataFrame, others: pl.DataFrame, project: Project) -> pl.DataFrame:
    """Return rows [N] without the feedback that is a twin of one of `others` [M]."""
    twin = twin_keys(rows, project).is_in(twin_keys(others, project).implode())
    return rows.filter(~(twin & (rows["_origin"] == "feedback")))
