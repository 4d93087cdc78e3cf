"""The drift that `phaseflow traffic --drift` simulates: posts of fans instead of reviews by critics."""

from __future__ import annotations

import numpy as np
import polars as pl

from projects.film_sentiment import grammar


def simulate(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Replace the reviews of rows [N] by fans' posts about series, with the same sentiments.

    The grammar is the same, but nearly every content word is new.
    """
    positive = (rows["sentiment"] == "positive").to_list()
    return rows.with_columns(review=pl.Series(grammar.sentences(positive, grammar.FAN, random), dtype=pl.String))
