"""Reads the events of a shop (user, item, rating, time), and generates a sample for use without the real file."""

from __future__ import annotations

import json
from typing import Any, Final

import narwhals as nw
import numpy as np
import polars as pl

LIKED: Final = 4
"""Minimum stars of an event that counts as positive; the number of stars is not used otherwise."""
VISIT: Final = 4
"""Consecutive events of a user per row."""
USERS, ITEMS, TASTES, EVENTS = 300, 240, 12, 24
"""Sizes of the generated shop; `EVENTS` is the mean number of events per user."""


def sample(seed: int) -> bytes:
    """A generated shop in MovieLens' layout: 12 departments, two tastes per user, unequal popularity, two years."""
    random = np.random.default_rng(seed)
    department = np.arange(ITEMS) % TASTES
    fame = 1 / (1 + np.arange(ITEMS) // TASTES) ** 0.5
    lines = []
    for user in range(1, USERS + 1):
        tastes = np.full(TASTES, 0.02)
        tastes[random.choice(TASTES, 2, replace=False)] += (1.0, 0.6)
        wish = fame * tastes[department]
        count = min(int(random.poisson(EVENTS)) + 4, ITEMS // 2)
        moments = np.sort(random.integers(880_000_000, 943_000_000, count))
        chosen_items = random.choice(ITEMS, count, replace=False, p=wish / wish.sum())
        lines += [
            (int(moment), f"{user}\t{item + 1}\t{random.choice([3, 4, 5], p=[0.1, 0.4, 0.5])}\t{moment}")
            for item, moment in zip(chosen_items, moments, strict=True)
        ]
    return ("\n".join(text for _, text in sorted(lines)) + "\n").encode()


def read(content: bytes) -> pl.DataFrame:
    """`user` and `items` (a JSON list) of each visit, oldest first: `VISIT` liked items of a user in order of time.

    Items that a user liked before are dropped, because a shop need not recommend them again.
    """
    table = np.loadtxt(content.decode().splitlines(), delimiter="\t", dtype=np.int64, ndmin=2)
    events = pl.DataFrame(table, schema=["user", "item", "stars", "time"]).filter(pl.col("stars") >= LIKED)
    events = events.sort("time", maintain_order=True).unique(["user", "item"], keep="first", maintain_order=True)
    visit = (pl.int_range(pl.len()).over("user") // VISIT).alias("visit")
    visits = events.with_columns(visit).group_by("user", "visit").agg(pl.col("time").max(), pl.col("item"))
    visits = visits.sort("time", "user", "visit")
    return pl.DataFrame(
        {
            "user": visits["user"].cast(pl.String),
            "items": [json.dumps([str(item) for item in row], separators=(",", ":")) for row in visits["item"]],
        }
    )


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """Return the rows unchanged: they already have the schema's columns."""
    return raw
