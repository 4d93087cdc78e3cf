"""Which rows stand for what a model meets."""

from __future__ import annotations

import polars as pl

from phaseflow.contract import Project


def newest_traffic(project: Project, rows: pl.DataFrame) -> pl.DataFrame:
    """Of a snapshot's rows: the newest that came back from the service, where there are enough, else the base ones.

    Why not all of them: docs/adr/0002-reference-is-newest-traffic.md.
    """
    back = rows.filter(pl.col("_origin") == "feedback").sort("_time", maintain_order=True)
    if back.height >= project.drift.minimum_rows:
        return back.tail(max(500, project.drift.minimum_rows))
    return rows.filter(pl.col("_origin") == "base")
