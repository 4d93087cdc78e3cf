"""The drift that `phaseflow traffic --drift` simulates: a boom."""

from __future__ import annotations

import numpy as np
import polars as pl


def simulate(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Sales [N] in a boom: new, large houses in the best neighbourhoods, and all prices at least a third higher.

    Sizes, years and neighbourhoods drift, which drift monitoring detects. The price of the same house rises too, which
    only feedback reveals.
    """
    n = rows.height
    growth = random.uniform(1.2, 1.7, n)
    quality = np.clip(rows["overall_qual"].fill_null(6).to_numpy() + random.integers(1, 3, n), 1, 10)
    factor = 1.35 * growth**0.8 * 1.06 ** (quality - rows["overall_qual"].fill_null(6).to_numpy())
    hoods = pl.Series(random.choice(["NridgHt", "Somerst", "Gilbert"], n, p=[0.5, 0.3, 0.2]))
    larger = ["living_area", "first_floor_area", "second_floor_area", "basement_area", "garage_area"]
    return rows.with_columns(
        *((pl.col(name) * pl.Series(growth)).round() for name in larger),
        overall_qual=pl.Series(quality),
        year_built=pl.Series(random.integers(2004, 2012, n).astype(float)),
        neighborhood=hoods,
        sale_price=(pl.col("sale_price") * pl.Series(factor * np.exp(random.normal(0, 0.05, n)))).round(),
    )
