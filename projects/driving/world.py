"""The world that `phaseflow traffic --drift` plays: roads of bright sand through dark ground, a little narrower."""

from __future__ import annotations

import numpy as np
import polars as pl

from projects.driving.data import demonstrations

TOGETHER = 4


def drift(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """As many rows as `rows` [N], from laps that the expert drives on sand."""
    found = rows.clear()
    while found.height < rows.height:
        names = [f"sand-{number}" for number in random.integers(0, 10_000, TOGETHER)]
        found = pl.concat([found, demonstrations(names, random).select(rows.columns)])
    return found.head(rows.height)
