"""Simulated traffic: rows drawn from each side of the split, with the group that keeps them on that side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import polars as pl

from phaseflow import discovery
from phaseflow.contract import Project
from phaseflow.toolkit import holdout

BATCH: Final = 500
"""Rows per batch."""


def draws(
    source_rows: pl.DataFrame, project: Project, random: np.random.Generator, *, drift: bool
) -> Iterator[pl.DataFrame]:
    """Endless batches of `BATCH` rows, drawn with replacement: the schema's columns and `_group`.

    `source_rows` comes from `source.grouped_rows`. `_group` is 64 hexadecimal digits, or "" if the row itself
    determines its side: by the feature that names its group, by its time, or because no other row resembles it. Train
    rows and holdout rows are drawn separately, in proportion, and each part is drifted separately, so that rows that
    the scenario derives from several rows belong to one side.

    With `drift`, the rows are drifted. If the rows are a history, only its newest rows are drawn, which no model was
    trained on: the past does not repeat.
    """
    train_rows, holdout_rows = holdout.train_holdout_split(source_rows, project)
    share = 1.0 if project.temporal_group else holdout_rows.height / source_rows.height
    while True:
        holdout_count = int(random.binomial(BATCH, share))
        parts = [
            _draw(side, count, project, random, drift=drift)
            for side, count in ((train_rows, BATCH - holdout_count), (holdout_rows, holdout_count))
            if count
        ]
        rows = pl.concat(parts)
        yield rows[random.permutation(rows.height)]


def _draw(
    side: pl.DataFrame, count: int, project: Project, random: np.random.Generator, *, drift: bool
) -> pl.DataFrame:
    rows = side[random.integers(0, side.height, count)]
    return drifted(rows, project, random) if drift else _with_groups(rows, rows["_group"], project)


def drifted(rows: pl.DataFrame, project: Project, random: np.random.Generator) -> pl.DataFrame:
    """Rows [N] of one side, with `_group`, after the drift of `Drift.scenario`, with their new groups.

    Row i of the result is derived from row i and inherits its group. A scenario that creates new rows returns the
    column `Project.group` with the names of their groups, unless that column is a feature.
    """
    names = [column.name for column in project.schema.columns]
    drifted_rows = pl.DataFrame(discovery.load(project.drift.scenario)(rows.select(names), random))
    inherited = project.group not in drifted_rows.columns or project.group in project.schema.feature_names
    return _with_groups(
        drifted_rows, rows["_group"] if inherited else holdout.hash_groups(drifted_rows, project), project
    )


def _with_groups(rows: pl.DataFrame, groups: pl.Series, project: Project) -> pl.DataFrame:
    implied = project.temporal_group or project.group in project.schema.feature_names
    group_column = pl.Series("_group", [""] * rows.height) if implied else groups.fill_null("").rename("_group")
    return rows.select([column.name for column in project.schema.columns]).with_columns(group_column)
