"""Caps on the share of feedback in a snapshot: one for all clients together, and one per client.

Otherwise anyone who can send predictions and labels could outvote the base rows, both in training and in the holdout.

All functions are pure. Frames have the columns of a snapshot. The relevant ones are `_id` (of the prediction, null for
base rows), `_origin` (`base` or `feedback`), `_client` (the name of the token that sent the label, "" if anonymous),
`_key` and `_group`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import polars as pl

from phaseflow.contract import Project
from phaseflow.logs import id_time
from phaseflow.toolkit.holdout import hash_texts, train_holdout_split

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""Origin of the time in ranks. It is recent, so that 64-bit floats can distinguish close times."""


def capped(rows: pl.DataFrame, project: Project) -> pl.DataFrame:
    """Return rows [N] of a snapshot in order, without feedback above the caps. Feedback with the lowest ranks is kept.

    Both caps apply to each side of the split. Without a target there are no labels, so only the cap for all clients
    applies. In a history, removing rows may change which rows are held out, so the caps are applied until nothing
    changes.

    The choice depends neither on the order of the rows nor on the time (see `ranks`), so that a snapshot can extend the
    state of an earlier one (`pipelines.etl.state`).
    """
    rows = _ranked(rows, project).with_row_index("_position")
    while True:
        surplus = [position for side in train_holdout_split(rows, project) for position in _surplus(side, project)]
        if not surplus:
            return rows.drop("_position", "_rank")
        rows = rows.filter(~pl.col("_position").is_in(surplus))


def max_rows_per_client(base: int, project: Project) -> int | None:
    """Return the maximum number of rows per client that `capped` keeps beside `base` source rows; None if unlimited."""
    if project.feedback_share >= 1:
        return None
    max_total = _max_feedback(base, project.feedback_share)
    return min(max_total, math.floor((base + max_total) * _client_share(project) + 1e-9))


def _client_share(project: Project) -> float:
    return 1.0 if project.schema.target is None else project.feedback_share_per_client


def ranks(ids: pl.Series, project: Project) -> pl.Series:
    """Return `_rank` of ids [N]: the caps keep the rows with the lowest ranks. The rank of a null is null.

    This is a bottom-k sample by the SHA-256 of the id (Cohen and Kaplan, PODC 2007). The weights double with each
    `Project.feedback_half_life_hours` of the id's time (forward decay: Cormode, Shkapenyuk, Srivastava and Xu, ICDE
    2009). A rank depends only on its row: ln(-ln u) - ln 2 * t / half-life, where u in (0, 1) is the hash and t the
    time. Ids of earlier releases contain no time and count as of `EPOCH`.
    """
    digits = hash_texts(ids).str.slice(0, 13).str.to_integer(base=16, strict=False)
    uniform = (digits.cast(pl.Float64) + 0.5) / 2.0**52
    times = pl.DataFrame({"id": ids.cast(pl.String)}).select(id_time(pl.col("id")))["id"].fill_null(EPOCH)
    half_lives = (times - EPOCH).dt.total_microseconds() / (3_600_000_000 * project.feedback_half_life_hours)
    return ((-uniform.log()).log() - math.log(2) * half_lives).rename("_rank")


def _ranked(rows: pl.DataFrame, project: Project) -> pl.DataFrame:
    return rows.with_columns(ranks(rows["_id"], project))


def _lowest_ranked(feedback: pl.DataFrame, max_rows: int) -> pl.DataFrame:
    """Return the `max_rows` rows with the lowest ranks of each client, sorted by rank."""
    return feedback.sort("_rank", "_id").filter(pl.int_range(pl.len()).over("_client") < max_rows)


def _surplus(side: pl.DataFrame, project: Project) -> list[int]:
    """Return positions of a side's feedback above the caps: the highest ranks of each client, and then of all."""
    feedback = side.filter(pl.col("_origin") == "feedback")
    if feedback.is_empty():
        return []
    counts = dict(feedback.group_by("_client").len().iter_rows())
    max_total, per_client = row_limits(
        side.height - feedback.height, counts, project.feedback_share, _client_share(project)
    )
    selected = _lowest_ranked(feedback, per_client).head(max_total)
    return feedback.join(selected, on="_position", how="anti")["_position"].to_list()


def _max_feedback(base: int, share: float) -> int:
    """Return the maximum feedback rows beside `base` others if feedback may be `share` (below 1) of all rows."""
    return math.floor(base * share / (1 - share) + 1e-9)


def row_limits(base: int, counts: Mapping[str, int], share: float, client_share: float) -> tuple[int, int]:
    """Return the maximum feedback rows beside `base` other rows, in total and per client.

    `counts` holds the rows of each client. A client's share refers to all rows that are kept, whose number in turn depends on the rows per client. The total is
    therefore lowered until both agree.
    """
    max_total = sum(counts.values())
    if share < 1:
        max_total = min(max_total, _max_feedback(base, share))
    while True:
        per_client = math.floor((base + max_total) * client_share + 1e-9)
        agreed = min(max_total, sum(min(count, per_client) for count in counts.values()))
        if agreed == max_total:
            return max_total, per_client
        max_total = agreed
