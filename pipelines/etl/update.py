"""How a snapshot's state is extended with the hours that have arrived since, or made of all retained rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import polars as pl

from phaseflow import erasure, logs
from phaseflow.contract import Project
from phaseflow.log import logger
from phaseflow.store import Store
from phaseflow.toolkit.holdout import train_holdout_split
from pipelines.etl import labels as feedback
from pipelines.etl.caps import ranks
from pipelines.etl.parts import identified
from pipelines.etl.state import SIDES, SLACK, SPARE, State, counts, fingerprint, limits, suffices

MAX_PENDING: Final = 500_000
"""Maximum number of pending labels. If there are more, the newest are kept and the next snapshot reads everything."""


def current(
    project: Project, store: Store, base: pl.DataFrame, earlier: State | None, now: datetime
) -> tuple[State, str]:
    """Return the state at `now` and why all rows were read, or "" if the earlier state was extended."""
    max_rows = limits(base, project)
    if earlier is None:
        return _whole(project, store, max_rows, now), "no earlier snapshot has a state"
    if earlier.fingerprint != fingerprint(project):
        return _whole(project, store, max_rows, now), "the declaration has changed"
    if not earlier.complete:
        return _whole(project, store, max_rows, now), "too many labels wait for their prediction"
    state = _retained(project, store, earlier, now)
    begin = logs.floor(earlier.watermark - logs.LATE - logs.SKEW)
    state = _folded(project, store, state, logs.hours(begin, now + logs.SKEW), max_rows)
    if not suffices(state, max_rows):
        return _whole(project, store, max_rows, now), "the caps allow more rows than the earlier snapshot has kept"
    return dataclasses.replace(state, watermark=now), ""


def _whole(project: Project, store: Store, max_rows: Mapping[str, int | None], now: datetime) -> State:
    """Return the state of all retained rows.

    Labels that move rows to another client or side may leave fewer rows below a threshold than a cap allows. Everything
    is then read again with twice the capacity, until the state suffices.
    """
    predicted = logs.all_hours(store, "predictions", project.name)
    kind = "predictions" if project.schema.target is None else "feedback"
    since = predicted[0] if predicted else logs.floor(now)
    state = State(watermark=now, since=since, fingerprint=fingerprint(project))
    hours = [hour for hour in logs.all_hours(store, kind, project.name) if hour <= now + logs.SKEW]
    while True:
        folded = _folded(project, store, state, hours, max_rows)
        if suffices(folded, max_rows):
            return folded
        state = dataclasses.replace(state, room=2 * state.room)


def _retained(project: Project, store: Store, state: State, now: datetime) -> State:
    """Return the state without rows whose hours were removed from the logs."""
    erased = erasure.erasures(store, project.name)
    rows, pending = erased.without(state.rows, "_id"), erased.without(state.pending)
    hour_column = "_hour" if project.schema.target is None else "_predicted"
    rows = rows.with_columns(pl.col("_time").dt.truncate("1h").alias("_predicted")) if rows.height else rows
    first: Any = rows[hour_column].min() if rows.height else None
    first = state.since if first is None else min(first, state.since)
    since = logs.retained_since(store, "predictions", project.name, first, now)
    rows = _from(rows, hour_column, since)
    if project.schema.target is not None:
        hours: list[Any] = [frame["_hour"].min() for frame in (rows, pending) if frame.height]
        labelled = logs.retained_since(store, "feedback", project.name, min(hours), now) if hours else None
        rows, pending = _from(rows, "_hour", labelled), _from(pending, "_hour", labelled)
    rows = rows.drop("_predicted", strict=False)
    return dataclasses.replace(state, rows=rows, pending=pending, since=since or logs.floor(now))


def _from(frame: pl.DataFrame, column: str, hour: datetime | None) -> pl.DataFrame:
    """Return rows whose hour is at or after `hour`; no rows if `hour` is None."""
    if frame.is_empty():
        return frame
    return frame.clear() if hour is None else frame.filter(pl.col(column) >= hour)


def _folded(
    project: Project, store: Store, state: State, hours: list[datetime], max_rows: Mapping[str, int | None]
) -> State:
    """Add the rows of more hours, ascending, to the state. Hours that it already contains change nothing."""
    erased = erasure.erasures(store, project.name)
    for hour in hours:
        if project.schema.target is None:
            for batch in logs.batches(store, "predictions", project.name, hour):
                state = _with_rows(project, state, feedback.unlabelled(project, erased.without(batch), hour), max_rows)
        else:
            labels = erased.without(feedback.read_labels(store, project, hour))
            state = _with_labels(project, store, state, labels, hour, max_rows)
    return _bounded_pending(state)


def _bounded_pending(state: State) -> State:
    if state.pending.height <= MAX_PENDING:
        return state
    logger.warning("%d labels are pending; dropping the oldest", state.pending.height)
    return dataclasses.replace(state, pending=state.pending.sort("time").tail(MAX_PENDING), complete=False)


def _with_labels(
    project: Project,
    store: Store,
    state: State,
    labels: pl.DataFrame,
    hour: datetime,
    max_rows: Mapping[str, int | None],
) -> State:
    """Add the labels of an hour and the pending labels to the state."""
    late = labels.filter(pl.col("time") < hour) if labels.height else labels
    if late.height:
        first: Any = late["time"].min()
        for before in logs.hours(first, hour - logs.HOUR):
            labels = feedback.together(labels, feedback.read_labels(store, project, before, late["id"]))
    labels = feedback.together(labels, state.pending)
    if labels.is_empty():
        return state
    existing = (
        state.rows.join(labels.select(pl.col("id").alias("_id")), on="_id", how="semi") if state.rows.height else None
    )
    if existing is not None and existing.height:
        labels = feedback.together(labels, feedback.labels_of(existing))
    labels = labels.with_columns(ranks(labels["id"], project))
    labels = labels.filter(_below(state.thresholds, list(_sides_of(project)), pl.col("_rank"), pl.col("client")))
    rows = state.rows
    if existing is not None and existing.height:
        rows = rows.join(existing.select("_id"), on="_id", how="anti")
    state = dataclasses.replace(state, rows=rows, pending=pl.DataFrame())
    features = [column.name for column in project.schema.features]
    waiting = labels
    for predictions in feedback.predictions(project, store, state.since, labels, existing, hour):
        joined = waiting.join(predictions.select("id", pl.col("time").alias("_time"), *features), on="id")
        waiting = waiting.join(joined, on="id", how="anti")
        state = _with_rows(project, state, feedback.labelled(project, joined), max_rows)
    return dataclasses.replace(state, pending=feedback.still_waiting(waiting, hour).select(feedback.COLUMNS))


def _sides_of(project: Project) -> tuple[str, ...]:
    """Return the sides whose rows are counted separately. In a history, the side of a row depends on all rows."""
    return ("",) if project.temporal_group else SIDES


def _below(thresholds: Mapping[tuple[str, str], float], names: list[str], rank: pl.Expr, client: pl.Expr) -> pl.Expr:
    """Whether a row may be below the threshold of its client on one of the sides `names`."""
    clients = {name for _, name in thresholds}
    edges = {
        name: max(thresholds[side, name] for side in names)
        for name in clients
        if all((side, name) in thresholds for side in names)
    }
    if not edges:
        return pl.lit(value=True)
    edge = client.replace_strict(edges, default=None, return_dtype=pl.Float64)
    return edge.is_null() | (rank < edge)


def _with_rows(project: Project, state: State, rows: pl.DataFrame, max_rows: Mapping[str, int | None]) -> State:
    """Add rows to the state and trim it to its capacity."""
    rows = rows.filter(_below(state.thresholds, list(_sides_of(project)), pl.col("_rank"), pl.col("_client")))
    if state.rows.height and rows.height:
        again = state.rows.select("_id", pl.col("_hour").alias("_before"))
        rows = rows.join(again, on="_id", how="left").filter(pl.col("_before").is_null()).drop("_before")
    if rows.is_empty():
        return state
    split = _with_side(project, rows)
    for (side, client), edge in state.thresholds.items():
        here = (pl.col("_side") == side) & (pl.col("_client") == client)
        split = split.filter(~here | (pl.col("_rank") < edge))
    if state.rows.height:
        split = pl.concat([state.rows, split.select(state.rows.columns)], how="vertical_relaxed")
    return _trimmed(dataclasses.replace(state, rows=split), max_rows)


def _with_side(project: Project, rows: pl.DataFrame) -> pl.DataFrame:
    rows = identified(rows, project)
    if project.temporal_group:
        return rows.with_columns(pl.lit("").alias("_side"))
    split = zip(SIDES, train_holdout_split(rows, project), strict=True)
    return pl.concat([side.with_columns(pl.lit(name).alias("_side")) for name, side in split])


def _trimmed(state: State, max_rows: Mapping[str, int | None]) -> State:
    """Trim the state to the required number of rows per side and client."""
    thresholds = dict(state.thresholds)
    rows = state.rows
    for (side, client), count in counts(rows).items():
        limit = max_rows[side]
        if limit is None:
            continue
        keep = state.room * (int(limit * SLACK) + SPARE)
        if count <= keep:
            continue
        here = (pl.col("_side") == side) & (pl.col("_client") == client)
        ordered = rows.filter(here).sort("_rank")
        edge = ordered["_rank"][keep]
        thresholds[side, client] = edge
        rows = pl.concat([rows.filter(~here), ordered.filter(pl.col("_rank") < edge)])
    return dataclasses.replace(state, rows=rows, thresholds=thresholds)
