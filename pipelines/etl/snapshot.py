"""Build an immutable snapshot from `valid.parquet` and feedback: `datasets/<project>/<hash of its content>/`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl

from phaseflow import events, formats
from phaseflow.contract import Project
from phaseflow.errors import DataError
from phaseflow.log import logger
from phaseflow.store import Store
from phaseflow.toolkit.holdout import row_texts
from phaseflow.toolkit.twins import twins
from pipelines.etl import parts, update
from pipelines.etl import state as states
from pipelines.etl.extract import parquet


def snapshot(
    project: Project, run: str, store: Store, extracted: Mapping[str, Any], now: datetime | None = None
) -> dict[str, Any]:
    """Write the snapshot if its content is new; `extracted` is the result of the step `extract`.

    Feedback above the project's caps is sampled by rank (`caps.ranks`), and feedback that is a twin of a row on the
    other side is dropped. The snapshot extends the newest state of an earlier one with the rows that have arrived
    since. It reads all rows if that would give a different result.

    Raises DataError if a side of the split would be empty.
    """
    base = parts.of_base(pl.read_parquet(store.read(f"staging/{project.name}/{run}/valid.parquet")), project)
    state, whole = update.current(project, store, base, states.latest(store, project.name), now or datetime.now(UTC))
    if whole:
        logger.info("reading all feedback rows: %s", whole)
    if state.pending.height:
        logger.info("%d labels are pending because their predictions are not logged yet", state.pending.height)
    back = states.candidates(state, states.limits(base, project))
    splits = _splits(base, back, project)
    rows = pl.concat(splits.values())
    feedback_rows = rows.filter(pl.col("_origin") == "feedback").height
    if feedback_rows < back.height:
        logger.info(
            "%d of %d feedback rows are dropped: they are above the caps, or twins of a row on the other side",
            *(back.height - feedback_rows, back.height),
        )
    name = _name(rows, project)
    folder = f"datasets/{project.name}/{name}"
    new = not store.exists(f"{folder}/manifest.json")
    result = {
        "snapshot": name,
        "train_rows": splits["train"].height,
        "holdout_rows": splits["holdout"].height,
        "feedback_rows": feedback_rows,
        "new": new,
    }
    store.write(states.key(project.name, name, state), states.to_parquet(state))
    if new:
        for side, frame in splits.items():
            store.write(f"{folder}/{side}.parquet", parquet(frame))
        manifest = result | {
            "format": formats.SNAPSHOT,
            "project": project.name,
            "source": extracted.get("source"),
            "sha256": extracted.get("sha256"),
            "rows": rows.height,
            "twins": twins(splits["train"], splits["holdout"], project),
            "schema": [{"name": column.name, "kind": column.kind} for column in project.schema.columns],
            "created": datetime.now(UTC).isoformat(),
            "parent": latest(store, project.name),
            "watermark": state.watermark.isoformat(),
            "state": states.key(project.name, name, state),
            "whole": whole or None,
            "run": run,
        }
        # The manifest is written last, because it makes the snapshot valid.
        store.write(f"{folder}/manifest.json", json.dumps(manifest, indent=1).encode())
        events.record(store, project, "snapshot", result | {"source": extracted.get("source")}, source="etl")
    return result


def _splits(base: pl.DataFrame, back: pl.DataFrame, project: Project) -> dict[str, pl.DataFrame]:
    """Return the train and holdout rows of the source's rows and of feedback. Raises DataError if one is empty."""
    feedback = base.clear() if back.is_empty() else parts.of_feedback(back, project)
    splits = dict(zip(states.SIDES, parts.split(base, feedback, project), strict=True))
    for name, split in splits.items():
        if split.is_empty():
            raise DataError(f"The {name} split of {project.name} is empty", fix="Give more rows")
    return splits


def _name(rows: pl.DataFrame, project: Project) -> str:
    """Return the hash of the rows and of what decides their split."""
    header = "\x1f".join([*rows.columns, str(project.holdout_share), *filter(None, [project.temporal_group])])
    return hashlib.sha256("\x1e".join([header, *row_texts(rows)]).encode()).hexdigest()[:16]


def latest(store: Store, project: str) -> str | None:
    """Return the hash of the newest snapshot, or None."""
    manifests = [
        json.loads(store.read(key)) for key in store.keys(f"datasets/{project}") if key.endswith("manifest.json")
    ]
    return max(manifests, key=lambda manifest: manifest["created"])["snapshot"] if manifests else None
