"""Transforms a wholesaler's customers, and generates a sample for use without the real file."""

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
"""The schema's name of each column of the file, in the file's own spelling."""

KINDS: Final = (
    # Share of the customers, then mean and standard deviation of the logarithm of their spends, in the order of SPENDS.
    (0.45, (9.5, 7.6, 7.8, 8.1, 5.2, 6.8), (1.0, 0.9, 0.9, 1.1, 1.2, 1.2)),  # hotels and restaurants: fresh, frozen
    (0.35, (8.4, 9.3, 9.8, 6.6, 9.0, 7.0), (1.2, 0.7, 0.6, 1.1, 0.8, 1.2)),  # shops: grocery, milk, detergents
    (0.20, (6.2, 6.5, 7.6, 5.6, 6.4, 4.8), (1.1, 0.9, 0.9, 1.0, 1.0, 1.0)),  # kiosks: little of everything
)


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """Select the six yearly spends; region and sales channel are not used."""
    return raw.select(nw.col(source).alias(name) for source, name in SPENDS.items())


def sample(seed: int) -> bytes:
    """440 generated customers of three kinds in the real file's layout; channel and region are random."""
    random = np.random.default_rng(seed)
    n = 440
    kind = random.choice(len(KINDS), n, p=[share for share, _, _ in KINDS])
    middle, spread = (np.array([parameters[index] for parameters in KINDS])[kind] for index in (1, 2))
    size = random.normal(0, 0.25, (n, 1))  # a large customer buys more of everything
    spends = np.exp(random.normal(middle, spread) + size).round().astype(int)
    columns = {"Channel": random.integers(1, 3, n), "Region": random.integers(1, 4, n)}
    columns |= {name: spends[:, index] for index, name in enumerate(SPENDS)}
    return pl.DataFrame(columns).write_csv().encode()
