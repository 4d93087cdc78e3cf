"""Reading a wholesaler's customers, and making some where the real file is out of reach."""

from __future__ import annotations

from typing import Any, Final

import narwhals as nw
import numpy as np
import polars as pl

SPENDS: Final = {
    "Fresh": "fresh",
    "Milk": "milk",
    "Grocery": "grocery",
    "Frozen": "frozen",
    "Detergents_Paper": "detergents",
    "Delicassen": "delicatessen",
}
"""The file's columns and ours; the file's own spelling."""

KINDS: Final = (
    # Share of the customers, and the middle and the spread of the logarithm of what they spend, in the order of SPENDS.
    (0.45, (9.5, 7.6, 7.8, 8.1, 5.2, 6.8), (1.0, 0.9, 0.9, 1.1, 1.2, 1.2)),  # hotels and restaurants: fresh, frozen
    (0.35, (8.4, 9.3, 9.8, 6.6, 9.0, 7.0), (1.2, 0.7, 0.6, 1.1, 0.8, 1.2)),  # shops: grocery, milk, detergents
    (0.20, (6.2, 6.5, 7.6, 5.6, 6.4, 4.8), (1.1, 0.9, 0.9, 1.0, 1.0, 1.0)),  # kiosks: little of everything
)


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """The six yearly spends; where a customer is and through which channel it buys is not asked."""
    return raw.select(nw.col(theirs).alias(ours) for theirs, ours in SPENDS.items())


def sample(seed: int) -> bytes:
    """440 made customers of three kinds in the real file's layout; its channel and region say nothing here."""
    random = np.random.default_rng(seed)
    n = 440
    kind = random.choice(len(KINDS), n, p=[share for share, _, _ in KINDS])
    middle, spread = (np.array([one[place] for one in KINDS])[kind] for place in (1, 2))
    size = random.normal(0, 0.25, (n, 1))  # a large customer buys more of everything
    spends = np.exp(random.normal(middle, spread) + size).round().astype(int)
    columns = {"Channel": random.integers(1, 3, n), "Region": random.integers(1, 4, n)}
    columns |= {name: spends[:, place] for place, name in enumerate(SPENDS)}
    return pl.DataFrame(columns).write_csv().encode()
