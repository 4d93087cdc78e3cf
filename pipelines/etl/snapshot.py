"""From `valid.parquet` and the truths that came back to `datasets/<project>/<hash>/`: immutable, named by its content."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl

from phaseflow import events, formats
from phaseflow.contract import Project
from phaseflow.errors import DataError
from phaseflow.store import Store
from phaseflow.toolkit.holdout import lines
from phaseflow.toolkit.twins import twins
from pipelines.etl import parts
from pipelines.etl import state as states
from pipelines.etl.extract import parquet


def snapshot(
    project: Project, run: str, store: Store, extracted: Mapping[str, Any], now: datetime | None = None
) -> dict[str, Any]:
    """Write the data set if its content is new; `extracted` is what the step extract found.

    Of feedback above the project's caps the rows with the lowest ranks stay (`caps.ranks`); feedback that is a twin of a row on the
    other side is left out. The snapshot extends the newest state of an earlier one by what has arrived since, or reads all rows where
    that would not give the same.

    Raises DataError when a split would be empty.
    """
    base = parts.of_base(pl.read_parquet(store.read(f"staging/{project.name}/{run}/valid.parquet")), project)
    state, whole = states.current(project, store, base, states.latest(store, project.name), now or datetime.now(UTC))
    if whole:
        print(f"all rows that came back are read: {whole}", file=sys.stderr)
    if state.pending.height:
        print(f"{state.pending.height} labels have no logged prediction yet and wait", file=sys.stderr)
    back = states.candidates(state, states.limits(base, project))
    feedback = base.clear() if back.is_empty() else parts.of_feedback(back, project)
    splits = dict(zip(("train", "holdout"), parts.split(base, feedback, project), strict=True))
    rows = pl.concat(splits.values())
    feedback_rows = rows.filter(pl.col("_origin") == "feedback").height
    if feedback_rows < back.height:
        left_out = back.height - feedback_rows
        print(
            f"{left_out} of {back.height} rows that came back are above the caps, or twins of a row on the other side, and left out",
            file=sys.stderr,
        )
    for name, split in splits.items():
        if split.is_empty():
            raise DataError(f"The {name} split of {project.name} is empty", fix="Give more rows")
    content = lines(rows)
    named = "\x1f".join([*rows.columns, str(project.holdout_share), *filter(None, [project.history])])
    name = hashlib.sha256("\x1e".join([named, *content]).encode()).hexdigest()[:16]
    folder = f"datasets/{project.name}/{name}"
    new = not store.exists(f"{folder}/manifest.json")
    result = {
        "snapshot": name,
        "train_rows": splits["train"].height,
        "holdout_rows": splits["holdout"].height,
        "feedback_rows": feedback_rows,
        "new": new,
    }
    store.write(states.key(project.name, name, state), states.written(state))
    if new:
        parent = latest(store, project.name)
        for side, frame in splits.items():
            store.write(f"{folder}/{side}.parquet", parquet(frame))
        manifest = result | {
            "format": formats.SNAPSHOT,
            "project": project.name,
            "source": extracted.get("source"),
            "sha256": extracted.get("sha256"),
            "rows": splits["train"].height + splits["holdout"].height,
            "twins": twins(splits["train"], splits["holdout"], project),
            "schema": [{"name": column.name, "kind": column.kind} for column in project.schema.columns],
            "created": datetime.now(UTC).isoformat(),
            "parent": parent,
            "watermark": state.watermark.isoformat(),
            "state": states.key(project.name, name, state),
            "whole": whole or None,
            "run": run,
        }
        store.write(f"{folder}/manifest.json", json.dumps(manifest, indent=1).encode())  # last: it makes the rest count
        events.record(store, project, "snapshot", result | {"source": extracted.get("source")}, source="etl")
    return result


def latest(store: Store, project: str) -> str | None:
    """The newest snapshot's hash."""
    found = [json.loads(store.read(key)) for key in store.keys(f"datasets/{project}") if key.endswith("manifest.json")]
    return max(found, key=lambda manifest: manifest["created"])["snapshot"] if found else None
