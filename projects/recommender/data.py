"""A shop's events, one a line: who, what, how much it was liked, when. And a made shop, where the real file is out of reach."""

from __future__ import annotations

import json
from typing import Any, Final

import narwhals as nw
import numpy as np
import polars as pl

LIKED: Final = 4
"""Stars from which an event says "wanted": how much is not asked, only whether."""
VISIT: Final = 4
"""Events of a user that make one row, in their order."""
USERS, ITEMS, TASTES, EVENTS = 300, 240, 12, 24
"""Of the made shop; `EVENTS` is the mean of a user's."""


def sample(seed: int) -> bytes:
    """A made shop in MovieLens' layout: 12 departments, users with one or two tastes, items of unequal fame, two years."""
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
        wanted = random.choice(ITEMS, count, replace=False, p=wish / wish.sum())
        lines += [
            (int(moment), f"{user}\t{item + 1}\t{random.choice([3, 4, 5], p=[0.1, 0.4, 0.5])}\t{moment}")
            for item, moment in zip(wanted, moments, strict=True)
        ]
    return ("\n".join(text for _, text in sorted(lines)) + "\n").encode()


def read(content: bytes) -> pl.DataFrame:
    """`user` and `items` (a JSON list) of each visit, the oldest first: `VISIT` liked items of a user in the order of time.

    What a user liked before is left out: a shop need not recommend it again.
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
            "items": [json.dumps([str(one) for one in row], separators=(",", ":")) for row in visits["item"]],
        }
    )


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """The columns are the schema's already."""
    return raw
