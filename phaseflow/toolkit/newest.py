"""The reference rows for drift: the newest traffic."""

from __future__ import annotations

from typing import Final

import polars as pl

from phaseflow.contract import Project

ENOUGH: Final = 300
"""Enough rows to estimate ten shares to about 0.02, and few enough that all of them postdate a change soon after it."""


def newest_traffic(project: Project, rows: pl.DataFrame) -> pl.DataFrame:
    """The newest feedback rows of a snapshot if there are enough of them, else its base rows.

    docs/adr/0002-reference-is-newest-traffic.md explains why not all rows are used.
    """
    back = rows.filter(pl.col("_origin") == "feedback").sort("_time", maintain_order=True)
    if back.height >= project.drift.minimum_rows:
        return back.tail(max(ENOUGH, project.drift.minimum_rows))
    return rows.filter(pl.col("_origin") == "base")
