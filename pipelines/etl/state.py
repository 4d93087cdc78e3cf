"""What a snapshot has to know so that the next one reads only what has arrived since: the rows that came back, as far as they can count.

Of each side and client a snapshot keeps at most as many rows as the largest cap allows, those with the lowest ranks
(`pipelines.etl.caps.ranks`). A state holds half as many more. Where rows
were left out, a threshold says from which rank on; below it the state is complete. This stays true when labels come late, again, from
another client or before their prediction, when rows are erased, and when the source changes. A state whose rows below a threshold are
fewer than a cap asks for gives no exact result: then all rows that are still retained are read, an hour at a time.

Only where one client's labels are out of order its earlier hours are read again: a label that arrives late may be older than one whose
row is above a threshold, and which the state does not hold.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import polars as pl

from phaseflow import erasure, formats, logs
from phaseflow.contract import Project
from phaseflow.errors import PermanentError
from phaseflow.log import logger
from phaseflow.store import Store
from phaseflow.toolkit import source
from phaseflow.toolkit.holdout import sides
from pipelines.etl.caps import largest, ranks
from pipelines.etl.parts import identified

SIDES: Final = ("train", "holdout")
SLACK: Final = 1.5
"""Rows that a state holds for each that a cap allows: the source may grow by so much, and rows may be relabelled or erased."""
SPARE: Final = 1000
EARLIEST: Final = timedelta(days=7)
"""By how much a prediction that is shipped late may be older than the log's first hour."""
MAX_PENDING: Final = 500_000
"""Labels that wait for their prediction. Of more the newest are kept, and the next snapshot reads everything again."""
ABOUT: Final = "phaseflow.state"
"""The key of the metadata."""
LABEL: Final[Mapping[str, Any]] = {"id": pl.String, "time": logs.TIME, "client": pl.String, "group": pl.String}
"""A label's columns beside `truth` (text or a number) and `_hour`, the hour in whose folder it is."""
STAMP: Final = "%Y%m%dT%H%M%S%fZ"
_LABELS: Final = ("id", "time", "truth", "client", "group", "_hour")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The rows that came back until `watermark`."""

    watermark: datetime
    rows: pl.DataFrame = field(default_factory=pl.DataFrame)
    """[N]: the schema's columns, `_id`, `_time` (when it was predicted), the label as `_LABELS` without `id` (renamed to `_at`, `_truth`,
    `_client`, `_sent`, `_hour`), `_key`, `_group`, `_side` and `_rank`."""
    pending: pl.DataFrame = field(default_factory=pl.DataFrame)
    """[M]: labels without a prediction yet, with the columns `_LABELS`."""
    thresholds: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Of a side and a client the rank from which on rows were left out."""
    since: datetime
    """The first hour of the prediction log. No id is looked up more than `EARLIEST` before it, whatever time it tells."""
    fingerprint: str = ""
    """Of what decides a row's columns and its side."""
    complete: bool = True
    """Whether no label was forgotten."""
    room: int = 1
    """By how much more rows than `SLACK` and `SPARE` say are held while all rows are read; it is not written."""


def fingerprint(project: Project) -> str:
    """Changes when rows would be read or split in another way."""
    about = [
        [column.name, column.kind, column.nullable, list(column.allowed), list(column.shape)]
        for column in project.schema.columns
    ]
    deciding = [
        about,
        project.schema.target is None,
        project.holdout_share,
        project.history,
        project.group,
        project.feedback_half_life_hours,
    ]
    return hashlib.sha256(json.dumps(deciding, default=str).encode()).hexdigest()[:16]


def limits(base: pl.DataFrame, project: Project) -> dict[str, int | None]:
    """The most rows of a client that a cap can allow on each side, beside the source's rows [N]; None where nothing bounds them."""
    heights = [side.height for side in sides(base, project)]
    counts = dict(zip(SIDES, heights, strict=True)) | {"": base.height}
    return {side: largest(count, project) for side, count in counts.items()}


def suffices(state: State, most: Mapping[str, int | None]) -> bool:
    """Whether the state holds every row that the caps can ask for."""
    counts = _counts(state.rows)
    for side, client in state.thresholds:
        limit = most[side]
        if limit is None or counts.get((side, client), 0) < limit:
            return False
    return True


def _counts(rows: pl.DataFrame) -> dict[tuple[str, str], int]:
    if rows.is_empty():
        return {}
    return {(side, client): count for side, client, count in rows.group_by("_side", "_client").len().iter_rows()}


def candidates(state: State, most: Mapping[str, int | None]) -> pl.DataFrame:
    """The rows that the caps choose from, by time and id: of each side and client those with the lowest ranks."""
    rows = state.rows
    if rows.is_empty():
        return rows
    place = pl.int_range(pl.len()).over("_side", "_client")
    limit = pl.col("_side").replace_strict({side: most[side] for side in most}, default=None, return_dtype=pl.Int64)
    return rows.sort("_rank", "_id").filter(limit.is_null() | (place < limit)).sort("_time", "_id")


def current(
    project: Project, store: Store, base: pl.DataFrame, earlier: State | None, now: datetime
) -> tuple[State, str]:
    """The state at `now`, by what has arrived since an earlier one, or of all rows; and why of all, "" where it was extended."""
    most = limits(base, project)
    if earlier is None:
        return _whole(project, store, most, now), "no earlier snapshot has a state"
    if earlier.fingerprint != fingerprint(project):
        return _whole(project, store, most, now), "the declaration has changed"
    if not earlier.complete:
        return _whole(project, store, most, now), "too many labels wait for their prediction"
    state = _retained(project, store, earlier, now)
    begin = logs.floor(earlier.watermark - logs.LATE - logs.SKEW)
    state = _folded(project, store, state, logs.hours(begin, now + logs.SKEW), most)
    if not suffices(state, most):
        return _whole(project, store, most, now), "the caps allow more rows than the earlier snapshot has kept"
    return dataclasses.replace(state, watermark=now), ""


def _whole(project: Project, store: Store, most: Mapping[str, int | None], now: datetime) -> State:
    """The state of all rows that are retained.

    Labels that take rows from another client or side may leave fewer rows below a threshold than a cap asks for. Then everything is
    read again with twice the room, until no threshold is in the way.
    """
    predicted = logs.all_hours(store, "predictions", project.name)
    kind = "predictions" if project.schema.target is None else "feedback"
    since = predicted[0] if predicted else logs.floor(now)
    state = State(watermark=now, since=since, fingerprint=fingerprint(project))
    hours = [hour for hour in logs.all_hours(store, kind, project.name) if hour <= now + logs.SKEW]
    while True:
        folded = _folded(project, store, state, hours, most)
        if suffices(folded, most):
            return folded
        state = dataclasses.replace(state, room=2 * state.room)


def _retained(project: Project, store: Store, state: State, now: datetime) -> State:
    """The state without rows whose hours were removed from the logs."""
    erased = erasure.erasures(store, project.name)
    rows, pending = erased.without(state.rows, "_id"), erased.without(state.pending)
    kept = "_hour" if project.schema.target is None else "_predicted"
    rows = rows.with_columns(pl.col("_time").dt.truncate("1h").alias("_predicted")) if rows.height else rows
    first: Any = rows[kept].min() if rows.height else None
    first = state.since if first is None else min(first, state.since)
    since = logs.retained_since(store, "predictions", project.name, first, now)
    rows = _from(rows, kept, since)
    if project.schema.target is not None:
        hours: list[Any] = [frame["_hour"].min() for frame in (rows, pending) if frame.height]
        labelled = logs.retained_since(store, "feedback", project.name, min(hours), now) if hours else None
        rows, pending = _from(rows, "_hour", labelled), _from(pending, "_hour", labelled)
    rows = rows.drop("_predicted", strict=False)
    return dataclasses.replace(state, rows=rows, pending=pending, since=since or logs.floor(now))


def _from(frame: pl.DataFrame, column: str, hour: datetime | None) -> pl.DataFrame:
    """Rows whose hour is not before `hour`; none where no hour is left."""
    if frame.is_empty():
        return frame
    return frame.clear() if hour is None else frame.filter(pl.col(column) >= hour)


def _folded(
    project: Project, store: Store, state: State, hours: list[datetime], most: Mapping[str, int | None]
) -> State:
    """The state with what is in some more hours, ascending; an hour that it has seen changes nothing."""
    erased = erasure.erasures(store, project.name)
    for hour in hours:
        if project.schema.target is None:
            for batch in logs.batches(store, "predictions", project.name, hour):
                state = _with_rows(project, state, _unlabelled(project, erased.without(batch), hour), most)
        else:
            labels = erased.without(_labels(store, project, hour))
            state = _with_labels(project, store, state, labels, hour, most)
    return _bounded_pending(state)


def _bounded_pending(state: State) -> State:
    if state.pending.height <= MAX_PENDING:
        return state
    logger.warning("%d labels wait for their prediction; the oldest of them are left out", state.pending.height)
    return dataclasses.replace(state, pending=state.pending.sort("time").tail(MAX_PENDING), complete=False)


def _labels(store: Store, project: Project, hour: datetime, ids: pl.Series | None = None) -> pl.DataFrame:
    """The last label of each id in an hour's folder, or of each of `ids`, with the columns `_LABELS`."""
    matching = None if ids is None else pl.col("id").is_in(ids.implode())
    rows = pl.DataFrame()
    for batch in logs.batches(store, "feedback", project.name, hour, matching=matching):
        if not {"id", "time", "truth"} <= set(batch.columns):
            continue
        whole = batch.filter(pl.all_horizontal(pl.col("id", "time", "truth").is_not_null()))
        missing = [pl.lit("").alias(name) for name in ("client", "group") if name not in whole.columns]
        labels = whole.with_columns(pl.lit(hour).cast(logs.TIME).alias("_hour"), *missing).select(
            pl.col("id"),
            pl.col("time").cast(logs.TIME),
            pl.col("truth"),
            pl.col("client", "group").fill_null("").cast(pl.String),
            pl.col("_hour"),
        )
        rows = logs.last(pl.concat([rows, labels], how="diagonal_relaxed") if rows.height else labels)
    return rows


def _together(*frames: pl.DataFrame) -> pl.DataFrame:
    """Labels of several frames, the last of each id."""
    filled = [frame.select(_LABELS) for frame in frames if frame.height]
    return logs.last(pl.concat(filled, how="vertical_relaxed")) if filled else pl.DataFrame()


def _with_labels(
    project: Project, store: Store, state: State, labels: pl.DataFrame, hour: datetime, most: Mapping[str, int | None]
) -> State:
    """The state with the labels of an hour and those that still wait."""
    late = labels.filter(pl.col("time") < hour) if labels.height else labels
    if late.height:
        first: Any = late["time"].min()
        for before in logs.hours(first, hour - logs.HOUR):
            labels = _together(labels, _labels(store, project, before, late["id"]))
    labels = _together(labels, state.pending)
    if labels.is_empty():
        return state
    held = (
        state.rows.join(labels.select(pl.col("id").alias("_id")), on="_id", how="semi") if state.rows.height else None
    )
    if held is not None and held.height:
        labels = _together(labels, _labels_of(held))
    labels = labels.with_columns(ranks(labels["id"], project))
    labels = labels.filter(_below(state.thresholds, list(_sides_of(project)), pl.col("_rank"), pl.col("client")))
    rows = state.rows
    if held is not None and held.height:
        rows = rows.join(held.select("_id"), on="_id", how="anti")
    state = dataclasses.replace(state, rows=rows, pending=pl.DataFrame())
    features = [column.name for column in project.schema.features]
    waiting = labels
    for predictions in _predictions(project, store, state, labels, held, hour):
        joined = waiting.join(predictions.select("id", pl.col("time").alias("_time"), *features), on="id")
        waiting = waiting.join(joined, on="id", how="anti")
        state = _with_rows(project, state, _labelled(project, joined), most)
    return dataclasses.replace(state, pending=_still_waiting(waiting, hour).select(_LABELS))


def _sides_of(project: Project) -> tuple[str, ...]:
    """The sides whose rows are counted apart. Of a history all rows decide together on which side one is."""
    return ("",) if project.history else SIDES


def _below(thresholds: Mapping[tuple[str, str], float], names: list[str], rank: pl.Expr, client: pl.Expr) -> pl.Expr:
    """Whether a row may be below the threshold of its client on one of some sides."""
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


def _labels_of(rows: pl.DataFrame) -> pl.DataFrame:
    """The labels that rows of a state have."""
    return rows.select(
        pl.col("_id").alias("id"),
        pl.col("_at").alias("time"),
        pl.col("_truth").alias("truth"),
        pl.col("_client").alias("client"),
        pl.col("_sent").alias("group"),
        "_hour",
    )


def _predictions(
    project: Project, store: Store, state: State, labels: pl.DataFrame, held: pl.DataFrame | None, hour: datetime
) -> Iterator[pl.DataFrame]:
    """The predictions of labels, in batches, each with `id`, `time` and all features: those that the state holds, then the log's."""
    features = [column.name for column in project.schema.features]
    wanted = labels.select("id", "_hour")
    if held is not None and held.height:
        yield held.select(pl.col("_id").alias("id"), pl.col("_time").alias("time"), *features)
        wanted = wanted.join(held.select(pl.col("_id").alias("id")), on="id", how="anti")
    if wanted.is_empty():
        return
    for batch in logs.lookup(store, project.name, wanted, state.since - EARLIEST, hour + logs.HOUR):
        missing = [pl.lit(None).alias(name) for name in features if name not in batch.columns]
        typed = source.conform(batch.with_columns(missing), dataclasses.replace(project.schema, target=None))
        yield logs.last(typed.with_columns(batch["id"], batch["time"].cast(logs.TIME)))


def _still_waiting(labels: pl.DataFrame, hour: datetime) -> pl.DataFrame:
    """Those whose prediction may still come: of an id that tells no time for a day, of another as long as the id is not of the future."""
    moment = logs.id_time(pl.col("id"))
    return labels.filter(
        pl.when(moment.is_null())
        .then(pl.col("_hour") >= hour - logs.EARLIER)
        .otherwise(moment <= pl.col("time") + logs.SKEW)
    )


def _labelled(project: Project, joined: pl.DataFrame) -> pl.DataFrame:
    """Rows of labels and their predictions, with the columns of a state but those that `_with_rows` adds."""
    target = project.schema.target
    assert target is not None  # noqa: S101  # without one there are no labels
    rows = source.conform(joined.with_columns(pl.col("truth").alias(target.name)), project.schema)
    about = joined.select(
        pl.col("id").alias("_id"),
        "_time",
        pl.col("time").alias("_at"),
        pl.col("truth").alias("_truth"),
        pl.col("client").alias("_client"),
        pl.col("group").alias("_sent"),
        "_hour",
        "_rank",
    )
    return pl.concat([rows, about], how="horizontal").filter(pl.col(target.name).is_not_null())


def _unlabelled(project: Project, batch: pl.DataFrame, hour: datetime) -> pl.DataFrame:
    """Likewise of predictions of a project without a target."""
    rows = logs.last(batch)
    missing = [pl.lit(None).alias(name) for name in project.schema.feature_names if name not in rows.columns]
    return source.conform(rows.with_columns(missing), project.schema).with_columns(
        rows["id"].alias("_id"),
        rows["time"].cast(logs.TIME).alias("_time"),
        rows["time"].cast(logs.TIME).alias("_at"),
        pl.lit("").alias("_truth"),
        pl.lit("").alias("_client"),
        pl.lit("").alias("_sent"),
        pl.lit(hour).cast(logs.TIME).alias("_hour"),
        ranks(rows["id"], project),
    )


def _with_rows(project: Project, state: State, rows: pl.DataFrame, most: Mapping[str, int | None]) -> State:
    """The state with some more rows, of which it holds as many as it must."""
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
    return _trimmed(dataclasses.replace(state, rows=split), most)


def _with_side(project: Project, rows: pl.DataFrame) -> pl.DataFrame:
    rows = identified(rows, project)
    if project.history:
        return rows.with_columns(pl.lit("").alias("_side"))
    split = zip(SIDES, sides(rows, project), strict=True)
    return pl.concat([side.with_columns(pl.lit(name).alias("_side")) for name, side in split])


def _trimmed(state: State, most: Mapping[str, int | None]) -> State:
    """The state with as many rows of each side and client as it must hold."""
    thresholds = dict(state.thresholds)
    rows = state.rows
    for (side, client), count in _counts(rows).items():
        limit = most[side]
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


def written(state: State) -> bytes:
    """The state as a Parquet file, the rows and then the labels that wait."""
    about = {
        "format": formats.STATE,
        "watermark": state.watermark.isoformat(),
        "since": state.since.isoformat(),
        "fingerprint": state.fingerprint,
        "complete": state.complete,
        "thresholds": [[side, client, edge] for (side, client), edge in sorted(state.thresholds.items())],
    }
    names = {"id": "_id", "time": "_at", "truth": "_truth", "client": "_client", "group": "_sent"}
    frames = [frame for frame in (state.rows, state.pending.rename(names, strict=False)) if frame.height]
    content = io.BytesIO()
    whole = (
        pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame({"_id": []}, schema={"_id": pl.String})
    )
    whole.write_parquet(content, metadata={ABOUT: json.dumps(about)})
    return content.getvalue()


def read(content: bytes, name: str) -> State:
    """What `written` gave; raises PermanentError when it is of another format."""
    about = json.loads(pl.read_parquet_metadata(io.BytesIO(content))[ABOUT])
    formats.require(name, about["format"], formats.STATE)
    whole = pl.read_parquet(content)
    waits = pl.col("_rank").is_null() if "_rank" in whole.columns else pl.lit(value=True)
    pending = whole.filter(waits)
    if pending.height:
        pending = _labels_of(pending)
    return State(
        watermark=datetime.fromisoformat(about["watermark"]),
        rows=whole.filter(~waits) if "_rank" in whole.columns else pl.DataFrame(),
        pending=pending if pending.height else pl.DataFrame(),
        thresholds={(side, client): edge for side, client, edge in about["thresholds"]},
        since=datetime.fromisoformat(about["since"]),
        fingerprint=about["fingerprint"],
        complete=about["complete"],
    )


def key(project: str, snapshot: str, state: State) -> str:
    """Where the state of a snapshot is, a Parquet file."""
    return f"datasets/{project}/{snapshot}/state-{state.watermark.astimezone(UTC):{STAMP}}.state"


def latest(store: Store, project: str) -> State | None:
    """The newest state of a project's snapshots; None where none can be read."""
    found = [each for each in store.keys(f"datasets/{project}") if formats.is_state(each)]
    for each in sorted(found, key=lambda each: each.rpartition("/")[2], reverse=True)[:1]:
        try:
            return read(store.read(each), each)
        except (OSError, KeyError, ValueError, pl.exceptions.PolarsError, PermanentError) as error:
            print(f"warning: {each} can't be read, and all rows are read instead: {error}", file=sys.stderr)
    return None
