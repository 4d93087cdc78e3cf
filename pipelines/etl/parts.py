"""What a snapshot adds to its rows: key, group, origin, client and trust; and its two sides. All functions are pure.

A snapshot's rows have the schema's columns, then `COLUMNS`.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from phaseflow.contract import Project
from phaseflow.logs import TIME
from phaseflow.toolkit.holdout import feedback_groups, groups, keys, sides
from phaseflow.toolkit.twins import twin_keys
from pipelines.etl.caps import capped

COLUMNS: Final = ("_id", "_key", "_group", "_origin", "_time", "_client", "_trusted")
"""Of a row: the id of its prediction (null of a base row), its hash, its group's, `base` or `feedback`, when it was answered (null of a
base row), who told its truth ("" of nobody in particular and of a base row), and whether that is somebody whose word counts."""


def of_base(rows: pl.DataFrame, project: Project) -> pl.DataFrame:
    """The source's valid rows [N], which have `_group` where `Project.group` is no feature, with the columns of a snapshot."""
    rows = rows.with_columns(
        keys(rows, project),
        pl.lit(None, pl.String).alias("_id"),
        pl.lit("base").alias("_origin"),
        pl.lit(None, TIME).alias("_time"),
        pl.lit("").alias("_client"),
        pl.lit(value=True).alias("_trusted"),
    )
    return _ordered(rows.with_columns(groups(rows, project)), project)


def identified(rows: pl.DataFrame, project: Project) -> pl.DataFrame:
    """Rows [N] that came back, which have the schema's columns and `_sent`, with `_key` and `_group`."""
    rows = rows.with_columns(keys(rows, project))
    return rows.with_columns(feedback_groups(rows, project))


def of_feedback(rows: pl.DataFrame, project: Project) -> pl.DataFrame:
    """Rows [N] of `identified`, which have `_id`, `_time` and `_client`, with the columns of a snapshot."""
    rows = rows.with_columns(
        pl.lit("feedback").alias("_origin"),
        pl.col("_time").cast(TIME),
        pl.col("_client").is_in(list(project.trusted_clients)).alias("_trusted"),
    )
    return _ordered(rows, project)


def _ordered(rows: pl.DataFrame, project: Project) -> pl.DataFrame:
    return rows.select([column.name for column in project.schema.columns] + list(COLUMNS))


def split(base: pl.DataFrame, feedback: pl.DataFrame, project: Project) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows to train on [N] and rows that are held out [M], of `of_base` and `of_feedback`: the source's first, then feedback as it comes.

    Feedback above the caps is left out. So is feedback that is a twin of a row on the other side: held-out feedback that the source
    has among its train rows, then train feedback that is held out. Nothing but the source itself can then put the same row on both
    sides, whatever groups clients name.
    """
    train, held = sides(capped(pl.concat([base, feedback]), project), project)
    held = _without_twins(held, train.filter(pl.col("_origin") == "base"), project)
    return _without_twins(train, held, project), held


def _without_twins(rows: pl.DataFrame, others: pl.DataFrame, project: Project) -> pl.DataFrame:
    """Rows [N] but for the feedback that is a twin of one of `others` [M]."""
    twin = twin_keys(rows, project).is_in(twin_keys(others, project).implode())
    return rows.filter(~(twin & (rows["_origin"] == "feedback")))
