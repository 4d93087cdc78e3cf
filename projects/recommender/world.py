"""The world that `phaseflow traffic --drift` plays: a new collection, and the visitors that come for it."""

from __future__ import annotations

import json
from typing import Final

import numpy as np
import polars as pl

NEWCOMERS: Final = 60
STYLES: Final = 5
ITEMS_OF_A_STYLE: Final = 40


def drift(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """As many visits as rows [N]: two thirds by people who were never here, everyone for items that were never here.

    A person has one style, always the same, and takes three or four items of it.
    """
    users, items = [], []
    for user in rows["user"]:
        who = f"new-{random.integers(NEWCOMERS)}" if random.random() < 2 / 3 else user
        style = sum(who.encode()) % STYLES
        wanted = random.choice(ITEMS_OF_A_STYLE, int(random.integers(3, 5)), replace=False)
        users.append(who)
        items.append(json.dumps([f"collection-{style}-{one}" for one in wanted], separators=(",", ":")))
    return rows.with_columns(user=pl.Series(users, dtype=pl.String), items=pl.Series(items, dtype=pl.String))
