"""The state of a snapshot: feedback rows, so that the next snapshot reads only what has arrived since.

For each side and client a snapshot keeps at most as many rows as the largest cap allows, those with the lowest ranks
(`pipelines.etl.caps.ranks`). A state holds half as many more. If rows were dropped, a threshold records the rank from
which on they were; below it the state is complete. This stays true if labels arrive late, repeatedly, from another
client or before their prediction, if rows are erased, and if the source changes. If fewer rows are below a threshold
than a cap allows, the result would not be exact. All rows that are still retained are then read, one hour at a time.

Earlier hours are read again only for late labels: a late label may be older than a label whose row is above a threshold
and therefore not part of the state.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import polars as pl

from phaseflow import formats
from phaseflow.contract import Project
from phaseflow.errors import PermanentError
from phaseflow.log import logger
from phaseflow.store import Store
from phaseflow.toolkit.holdout import train_holdout_split
from pipelines.etl.caps import max_rows_per_client
from pipelines.etl.labels import labels_of

SIDES: Final = ("train", "holdout")
SLACK: Final = 1.5
"""Rows in a state per row that a cap allows, as a reserve for growth of the source, relabelled rows and erasures."""
SPARE: Final = 1000
ABOUT: Final = "phaseflow.state"
"""Key of the Parquet metadata."""
STAMP: Final = "%Y%m%dT%H%M%S%fZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Feedback rows up to `watermark`."""

    watermark: datetime
    rows: pl.DataFrame = field(default_factory=pl.DataFrame)
    """[N]: the schema's columns, `_id`, `_time` (of the prediction), the label as `labels.COLUMNS` without `id` (renamed to
    `_at`, `_label`, `_client`, `_sent`, `_hour`), `_key`, `_group`, `_side` and `_rank`."""
    pending: pl.DataFrame = field(default_factory=pl.DataFrame)
    """[M]: pending labels, whose prediction is not logged yet, with the columns `labels.COLUMNS`."""
    thresholds: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Rank from which rows were dropped, for each side and client."""
    since: datetime
    """First hour of the prediction log. No id is looked up more than `labels.EARLIEST` before it."""
    fingerprint: str = ""
    """Digest of everything that determines a row's columns and its side."""
    complete: bool = True
    """Whether no pending label was dropped."""
    room: int = 1
    """Multiple of the capacity given by `SLACK` and `SPARE` while all rows are read. It is not written."""


def fingerprint(project: Project) -> str:
    """Return a digest that changes if rows would be read or split differently."""
    about = [
        [column.name, column.kind, column.nullable, list(column.allowed), list(column.shape)]
        for column in project.schema.columns
    ]
    deciding = [
        about,
        project.schema.target is None,
        project.holdout_share,
        project.temporal_group,
        project.group,
        project.feedback_half_life_hours,
    ]
    return hashlib.sha256(json.dumps(deciding, default=str).encode()).hexdigest()[:16]


def limits(base: pl.DataFrame, project: Project) -> dict[str, int | None]:
    """Return the maximum rows per client on each side, beside the source's rows [N]; None if unlimited."""
    heights = [side.height for side in train_holdout_split(base, project)]
    side_heights = dict(zip(SIDES, heights, strict=True)) | {"": base.height}
    return {side: max_rows_per_client(height, project) for side, height in side_heights.items()}


def suffices(state: State, max_rows: Mapping[str, int | None]) -> bool:
    """Whether the state holds every row that the caps can select."""
    numbers = counts(state.rows)
    for side, client in state.thresholds:
        limit = max_rows[side]
        if limit is None or numbers.get((side, client), 0) < limit:
            return False
    return True


def counts(rows: pl.DataFrame) -> dict[tuple[str, str], int]:
    """Return the number of rows by side and client."""
    if rows.is_empty():
        return {}
    return {(side, client): count for side, client, count in rows.group_by("_side", "_client").len().iter_rows()}


def candidates(state: State, max_rows: Mapping[str, int | None]) -> pl.DataFrame:
    """Return the rows that the caps select from: the lowest ranks of each side and client, sorted by time and id."""
    rows = state.rows
    if rows.is_empty():
        return rows
    position = pl.int_range(pl.len()).over("_side", "_client")
    limit = pl.col("_side").replace_strict(
        {side: max_rows[side] for side in max_rows}, default=None, return_dtype=pl.Int64
    )
    return rows.sort("_rank", "_id").filter(limit.is_null() | (position < limit)).sort("_time", "_id")


def to_parquet(state: State) -> bytes:
    """Serialize the state as a Parquet file: the rows, then the pending labels."""
    about = {
        "format": formats.STATE,
        "watermark": state.watermark.isoformat(),
        "since": state.since.isoformat(),
        "fingerprint": state.fingerprint,
        "complete": state.complete,
        "thresholds": [[side, client, edge] for (side, client), edge in sorted(state.thresholds.items())],
    }
    names = {"id": "_id", "time": "_at", "label": "_label", "client": "_client", "group": "_sent"}
    frames = [frame for frame in (state.rows, state.pending.rename(names, strict=False)) if frame.height]
    content = io.BytesIO()
    whole = (
        pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame({"_id": []}, schema={"_id": pl.String})
    )
    whole.write_parquet(content, metadata={ABOUT: json.dumps(about)})
    return content.getvalue()


def from_parquet(content: bytes, name: str) -> State:
    """Read the output of `to_parquet`. Raises PermanentError if it has another format."""
    about = json.loads(pl.read_parquet_metadata(io.BytesIO(content))[ABOUT])
    formats.require(name, about["format"], formats.STATE)
    whole = pl.read_parquet(content)
    waits = pl.col("_rank").is_null() if "_rank" in whole.columns else pl.lit(value=True)
    pending = whole.filter(waits)
    if pending.height:
        pending = labels_of(pending)
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
    """Return the key of a snapshot's state, a Parquet file."""
    return f"datasets/{project}/{snapshot}/state-{state.watermark.astimezone(UTC):{STAMP}}.state"


def latest(store: Store, project: str) -> State | None:
    """Return the newest state of a project's snapshots; None if it can't be read."""
    state_keys = [state_key for state_key in store.keys(f"datasets/{project}") if formats.is_state(state_key)]
    for state_key in sorted(state_keys, key=lambda state_key: state_key.rpartition("/")[2], reverse=True)[:1]:
        try:
            return from_parquet(store.read(state_key), state_key)
        except (OSError, KeyError, ValueError, pl.exceptions.PolarsError, PermanentError) as error:
            logger.warning("%s can't be read, so all rows are read instead: %s", state_key, error)
    return None
