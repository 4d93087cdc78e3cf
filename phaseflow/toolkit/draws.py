"""Rows of a world as live traffic meets them: drawn from each side of the split apart, with the group that keeps them there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import polars as pl

from phaseflow import registry
from phaseflow.contract import Project
from phaseflow.toolkit import holdout

BATCH: Final = 500
"""Rows of a batch."""


def draws(known: pl.DataFrame, project: Project, random: np.random.Generator, *, drift: bool) -> Iterator[pl.DataFrame]:
    """Batches without end of rows [N] drawn with replacement from `known`, each of the schema's columns and `_group`; drifted if told.

    `known` is what `source.grouped_rows` gives, `_group` 64 hexadecimal digits, or "" where the row says all itself: then its feature
    names the group, its time decides, or nothing resembles it. A batch is drawn from the train rows and the holdout apart, each in its
    proportion, and each is drifted by itself: what the scenario makes of several rows is of one side.

    Where rows are a history only its newest ones are drawn, which no model was trained on: the past does not come again.
    """
    train, held = holdout.sides(known, project)
    share = 1.0 if project.history else held.height / known.height
    while True:
        of_held = int(random.binomial(BATCH, share))
        parts = [
            _drawn(side, count, project, random, drift=drift)
            for side, count in ((train, BATCH - of_held), (held, of_held))
            if count
        ]
        rows = pl.concat(parts)
        yield rows[random.permutation(rows.height)]


def _drawn(
    side: pl.DataFrame, count: int, project: Project, random: np.random.Generator, *, drift: bool
) -> pl.DataFrame:
    rows = side[random.integers(0, side.height, count)]
    return drifted(rows, project, random) if drift else _told(rows, rows["_group"], project)


def drifted(rows: pl.DataFrame, project: Project, random: np.random.Generator) -> pl.DataFrame:
    """Rows [N] of one side, with `_group`, in the changed world of `Drift.scenario`, with the groups that they have there.

    Row i comes of row i, whose group it inherits. A scenario that makes rows of nothing says so by the column `Project.group`, whose
    values name the groups; of a feature that is so of itself.
    """
    names = [column.name for column in project.schema.columns]
    world = pl.DataFrame(registry.load(project.drift.scenario)(rows.select(names), random))
    inherited = project.group not in world.columns or project.group in project.schema.feature_names
    return _told(world, rows["_group"] if inherited else holdout.hashed_groups(world, project), project)


def _told(rows: pl.DataFrame, groups: pl.Series, project: Project) -> pl.DataFrame:
    by_itself = project.history or project.group in project.schema.feature_names
    told = pl.Series("_group", [""] * rows.height) if by_itself else groups.fill_null("").rename("_group")
    return rows.select([column.name for column in project.schema.columns]).with_columns(told)
