"""The drift that `phaseflow traffic --drift` simulates: a new collection, and new visitors who come for it."""

from __future__ import annotations

import json
from typing import Final

import numpy as np
import polars as pl

NEWCOMERS: Final = 60
STYLES: Final = 5
ITEMS_OF_A_STYLE: Final = 40


def simulate(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Visits [N] for new items only, two thirds of them by new users.

    Each user has one fixed style and takes three or four items of it.
    """
    users, items = [], []
    for user in rows["user"]:
        who = f"new-{random.integers(NEWCOMERS)}" if random.random() < 2 / 3 else user
        style = sum(who.encode()) % STYLES
        chosen_items = random.choice(ITEMS_OF_A_STYLE, int(random.integers(3, 5)), replace=False)
        users.append(who)
        items.append(json.dumps([f"collection-{style}-{item}" for item in chosen_items], separators=(",", ":")))
    return rows.with_columns(user=pl.Series(users, dtype=pl.String), items=pl.Series(items, dtype=pl.String))
