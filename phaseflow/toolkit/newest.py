"""Which rows stand for what a model meets."""

from __future__ import annotations

from typing import Final

import polars as pl

from phaseflow.contract import Project

ENOUGH: Final = 300
"""Rows for ten shares each known to about two hundredths; few enough that soon after a change all of them are of the new world."""


def newest_traffic(project: Project, rows: pl.DataFrame) -> pl.DataFrame:
    """Of a snapshot's rows: the newest that came back from the service, where there are enough, else the base ones.

    Why not all of them: docs/adr/0002-reference-is-newest-traffic.md.
    """
    back = rows.filter(pl.col("_origin") == "feedback").sort("_time", maintain_order=True)
    if back.height >= project.drift.minimum_rows:
        return back.tail(max(ENOUGH, project.drift.minimum_rows))
    return rows.filter(pl.col("_origin") == "base")
