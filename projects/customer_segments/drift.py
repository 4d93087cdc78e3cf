"""The drift that `phaseflow traffic --drift` simulates: customers of new kinds."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

KINDS: Final = (
    (4.0, 6.2, 6.0, 3.5, 9.6, 3.6),  # offices: paper, and hardly any food
    (8.2, 5.0, 6.4, 10.6, 4.2, 8.6),  # delivery kitchens: everything frozen
    (5.5, 10.5, 7.5, 4.5, 6.5, 9.8),  # coffee bars: milk and delicatessen
    (11.2, 4.5, 5.0, 4.0, 3.5, 4.5),  # juice bars: fresh and nothing else
)
"""The mean of the logarithm of their spends, in the order of the schema."""


def simulate(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Customers [N] of four new kinds, more than the old segments can distinguish: two kinds fall into one segment."""
    kind = random.integers(0, len(KINDS), rows.height)
    spends = np.exp(random.normal(np.array(KINDS)[kind], 0.5)).round().astype(int)
    return rows.with_columns(pl.Series(name, spends[:, index]) for index, name in enumerate(rows.columns))
