"""How much of a snapshot may come from its service's clients: a share for all of them together, and one for each.

Anyone who can predict and tell truths could otherwise outvote the base rows, in what a model learns and in the holdout that judges it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import polars as pl

from phaseflow.contract import Project
from phaseflow.toolkit.holdout import sides


def capped(rows: pl.DataFrame, project: Project) -> pl.DataFrame:
    """Rows [N] of a snapshot, in order, without the feedback rows above the caps, those with the largest SHA-256 of `_id`.

    `rows` has the columns of a snapshot, of which `_client` is the name of the token that came with a row's truth, "" of nobody in
    particular.
    Both caps hold on each side of the split. Without a target no truth is told, so that the cap of a client has no meaning, and only the
    other one holds. Of a history what is left out may change which rows are held out, so that it is looked at again until nothing is.
    """
    hashes = [None if name is None else hashlib.sha256(name.encode()).hexdigest() for name in rows["_id"]]
    rows = rows.with_row_index("_place").with_columns(pl.Series("_rank", hashes, dtype=pl.String))
    while True:
        surplus = [place for side in sides(rows, project) for place in _surplus(side, project)]
        if not surplus:
            return rows.drop("_place", "_rank")
        rows = rows.filter(~pl.col("_place").is_in(surplus))


def _surplus(side: pl.DataFrame, project: Project) -> list[int]:
    """Places of a side's feedback rows above the caps, the last ones by hash of each client and then of all."""
    feedback = side.filter(pl.col("_origin") == "feedback").sort("_rank")
    if feedback.is_empty():
        return []
    client_share = 1.0 if project.schema.target is None else project.feedback_share_per_client
    counts = dict(feedback.group_by("_client").len().iter_rows())
    most, per_client = allowed(side.height - feedback.height, counts, project.feedback_share, client_share)
    kept = feedback.filter(pl.int_range(pl.len()).over("_client") < per_client).head(most)
    return feedback.join(kept, on="_place", how="anti")["_place"].to_list()


def allowed(base: int, counts: Mapping[str, int], share: float, client_share: float) -> tuple[int, int]:
    """Most feedback rows beside `base` other rows, of all clients and of each, of whom each has `counts` rows.

    A client's share is one of all rows that stay, which are fewer when a client's are: from above this falls to the most that agrees.
    """
    most = sum(counts.values())
    if share < 1:
        most = min(most, math.floor(base * share / (1 - share) + 1e-9))
    while True:
        per_client = math.floor((base + most) * client_share + 1e-9)
        agreed = min(most, sum(min(count, per_client) for count in counts.values()))
        if agreed == most:
            return most, per_client
        most = agreed
