"""How much of a snapshot may come from its service's clients: a share for all of them together, and one for each.

Anyone who can predict and tell truths could otherwise outvote the base rows, in what a model learns and in the holdout that judges it.

All functions are pure. A frame of rows has the columns of a snapshot, of which `_id` (of the prediction, null of a base row),
`_origin` (`base` or `feedback`), `_client` (the name of the token that came with the truth, "" of nobody in particular), `_key` and
`_group` decide here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import polars as pl

from phaseflow.contract import Project
from phaseflow.logs import id_time
from phaseflow.toolkit.holdout import hashed, sides

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""From where ranks count time; near, so that a number of 64 bits tells two of them apart."""


def capped(rows: pl.DataFrame, project: Project) -> pl.DataFrame:
    """Rows [N] of a snapshot, in order, without the feedback rows above the caps: of these the ones with the lowest ranks stay.

    Both caps hold on each side of the split. Without a target no truth is told, so that the cap of a client has no meaning, and only the
    other one holds. Of a history what is left out may change which rows are held out, so that it is looked at again until nothing is.

    The choice depends neither on the rows' order nor on when it is made (see `ranks`), so that a snapshot can be made of an earlier
    one's state (`pipelines.etl.state`).
    """
    rows = _ranked(rows, project).with_row_index("_place")
    while True:
        surplus = [place for side in sides(rows, project) for place in _surplus(side, project)]
        if not surplus:
            return rows.drop("_place", "_rank")
        rows = rows.filter(~pl.col("_place").is_in(surplus))


def largest(base: int, project: Project) -> int | None:
    """Most rows of a client that `capped` keeps beside `base` rows of the source, however many come; None where nothing bounds it."""
    if project.feedback_share >= 1:
        return None
    together = _together(base, project.feedback_share)
    return min(together, math.floor((base + together) * _client_share(project) + 1e-9))


def _client_share(project: Project) -> float:
    return 1.0 if project.schema.target is None else project.feedback_share_per_client


def ranks(ids: pl.Series, project: Project) -> pl.Series:
    """`_rank` of rows [N] by their ids: of those above a cap the lowest stay; null of a null.

    A bottom-k sample by the SHA-256 of the id (Cohen and Kaplan, PODC 2007), whose weights double with each
    `Project.feedback_half_life_hours` of the id's time (forward decay: Cormode, Shkapenyuk, Srivastava and Xu, ICDE 2009). A row's rank
    is its own: ln(-ln u) - ln 2 * t / half-life, where u in (0, 1) is the hash and t the time. Ids of earlier releases, which tell no
    time, count as those of `EPOCH`.
    """
    digits = hashed(ids).str.slice(0, 13).str.to_integer(base=16, strict=False)
    uniform = (digits.cast(pl.Float64) + 0.5) / 2.0**52
    times = pl.DataFrame({"id": ids.cast(pl.String)}).select(id_time(pl.col("id")))["id"].fill_null(EPOCH)
    half_lives = (times - EPOCH).dt.total_microseconds() / (3_600_000_000 * project.feedback_half_life_hours)
    return ((-uniform.log()).log() - math.log(2) * half_lives).rename("_rank")


def _ranked(rows: pl.DataFrame, project: Project) -> pl.DataFrame:
    return rows.with_columns(ranks(rows["_id"], project))


def _smallest(feedback: pl.DataFrame, most: int) -> pl.DataFrame:
    """Of each client the `most` rows with the lowest ranks, these first."""
    return feedback.sort("_rank", "_id").filter(pl.int_range(pl.len()).over("_client") < most)


def _surplus(side: pl.DataFrame, project: Project) -> list[int]:
    """Places of a side's feedback rows above the caps: those with the highest ranks of each client and then of all."""
    feedback = side.filter(pl.col("_origin") == "feedback")
    if feedback.is_empty():
        return []
    counts = dict(feedback.group_by("_client").len().iter_rows())
    most, per_client = allowed(side.height - feedback.height, counts, project.feedback_share, _client_share(project))
    kept = _smallest(feedback, per_client).head(most)
    return feedback.join(kept, on="_place", how="anti")["_place"].to_list()


def _together(base: int, share: float) -> int:
    """Most feedback rows beside `base` others where they may be `share` of all, which is below 1."""
    return math.floor(base * share / (1 - share) + 1e-9)


def allowed(base: int, counts: Mapping[str, int], share: float, client_share: float) -> tuple[int, int]:
    """Most feedback rows beside `base` other rows, of all clients and of each, of whom each has `counts` rows.

    A client's share is one of all rows that stay, which are fewer when a client's are: from above this falls to the most that agrees.
    """
    most = sum(counts.values())
    if share < 1:
        most = min(most, _together(base, share))
    while True:
        per_client = math.floor((base + most) * client_share + 1e-9)
        agreed = min(most, sum(min(count, per_client) for count in counts.values()))
        if agreed == most:
            return most, per_client
        most = agreed
