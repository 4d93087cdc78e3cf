"""The drift that `phaseflow traffic --drift` simulates: another ship with another rule."""

from __future__ import annotations

import numpy as np
import polars as pl


def simulate(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Passengers [N] of a cruise: older, with more expensive tickets, mostly men, and no longer women first.

    The inputs drift (age, fare, class), which drift monitoring detects. So does the relation between inputs and label,
    which only feedback reveals: here the young and the first class survive, whatever their sex.
    """
    n = rows.height
    age = pl.Series(np.clip(random.normal(55, 15, n), 1, 95).round())
    pclass = random.choice(["1", "2", "3"], n, p=[0.6, 0.3, 0.1])
    fare = rows["fare"].fill_null(10.0).to_numpy() * 3 + random.uniform(20, 60, n)
    male = random.random(n) < 0.8
    logit = 2.2 * (pclass == "1") - 0.12 * (age.to_numpy() - 55) - 0.8
    survived = random.random(n) < 1 / (1 + np.exp(-logit))
    return rows.with_columns(
        age=age,
        pclass=pl.Series(pclass),
        fare=pl.Series(fare.round(4)),
        sex=pl.Series(np.where(male, "male", "female")),
        title=pl.Series(np.where(male, "Mr", "Mrs")),
        survived=pl.Series(np.where(survived, "1", "0")),
    )
