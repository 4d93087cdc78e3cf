"""The world that `phaseflow traffic --drift` plays: the shop sells bicycles now, and rents them."""

from __future__ import annotations

import numpy as np
import polars as pl

from projects.assistant import shop


def drift(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """As many questions as rows [N] has, about things that no help page has ever named, with the answers of the new staff."""
    asked = [shop.question(shop.CYCLES, random) for _ in range(rows.height)]
    return rows.with_columns(
        instruction=pl.Series([one for one, _, _ in asked], dtype=pl.String),
        context=pl.lit(None, pl.String),
        response=pl.Series([one for _, one, _ in asked], dtype=pl.String),
    )
