"""The world that `phaseflow traffic --drift` plays: the shop sells bicycles now, and rents them."""

from __future__ import annotations

import numpy as np
import polars as pl

from projects.assistant import shop


def drift(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """As many questions as rows [N] has, about things that nobody has asked about yet, with the answers of the new staff.

    They come of no row of `rows`: the column `question` says which of them are the same, asked otherwise.
    """
    every = shop.questions(shop.CYCLES)
    chosen = [every[place] for place in random.integers(0, len(every), rows.height)]
    return rows.with_columns(
        instruction=pl.Series([shop.politely(one.asked, random) for one in chosen], dtype=pl.String),
        context=pl.lit(None, pl.String),
        response=pl.Series([one.answer for one in chosen], dtype=pl.String),
        question=pl.Series([one.asked for one in chosen], dtype=pl.String),
    )
