"""The world that `phaseflow traffic --drift` plays: fans write instead of critics."""

from __future__ import annotations

import numpy as np
import polars as pl

from projects.film_sentiment import grammar


def drift(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """As many friendly and unfriendly posts as rows [N] has, about series, in words that no critic of 2005 wrote.

    The grammar is the same; nearly every word that carries meaning is new.
    """
    friendly = (rows["sentiment"] == "positive").to_list()
    return rows.with_columns(review=pl.Series(grammar.sentences(friendly, grammar.FAN, random), dtype=pl.String))
