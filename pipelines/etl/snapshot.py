"""From `valid.parquet` and the truths that came back to `datasets/<project>/<hash>/`: immutable, named by its content."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl

from phaseflow import erasure, events, formats
from phaseflow.contract import Project
from phaseflow.errors import DataError
from phaseflow.store import Store
from phaseflow.toolkit import source
from phaseflow.toolkit.holdout import keys, lines, sides
from pipelines.etl.caps import capped
from pipelines.etl.extract import parquet

TIME = pl.Datetime("us", "UTC")


def read_log(store: Store, kind: str, project: str) -> pl.DataFrame:
    """All rows of `predictions` or `feedback`, one an id, the latest; files that can't be read are named and left out."""
    frames = []
    for key in store.keys(f"{kind}/{project}"):
        try:
            frames.append(pl.read_parquet(store.read(key)))
        except (pl.exceptions.ComputeError, OSError) as error:
            print(f"warning: {key} is left out: {error}", file=sys.stderr)
    if not frames:
        return pl.DataFrame()
    rows = erasure.erasures(store, project).without(pl.concat(frames, how="diagonal_relaxed"))
    return rows.sort("time").unique("id", keep="last", maintain_order=True)


def answered(project: Project, store: Store) -> pl.DataFrame:
    """Logged rows whose truth came back, by time: the schema's columns, `_time` and `_client`. Without a target every logged row."""
    predictions, target = read_log(store, "predictions", project.name), project.schema.target
    if predictions.is_empty():
        return pl.DataFrame()
    if target is None:
        ordered = predictions.sort("time", "id")
        return source.conform(ordered, project.schema).with_columns(
            ordered["time"].cast(TIME).alias("_time"), pl.lit("").alias("_client")
        )
    truths = read_log(store, "feedback", project.name)
    if truths.is_empty():
        return pl.DataFrame()
    known = truths.filter(pl.col("id").is_in(predictions["id"].to_list()))
    if known.height < truths.height:
        print(f"{truths.height - known.height} truths have no logged prediction yet and wait", file=sys.stderr)
    client = pl.col("client").fill_null("") if "client" in known.columns else pl.lit("")  # earlier releases wrote none
    labels = known.select("id", pl.col("truth").alias(target.name), client.alias("_client"))
    joined = predictions.join(labels, on="id").sort("time", "id")
    rows = source.conform(joined, project.schema)
    return rows.with_columns(joined["time"].cast(TIME).alias("_time"), joined["_client"]).filter(
        pl.col(target.name).is_not_null()
    )


def snapshot(project: Project, run: str, store: Store, extracted: Mapping[str, Any]) -> dict[str, Any]:
    """Write the data set if its content is new; `extracted` is what the step extract found.

    Feedback rows above the project's caps are left out, the oldest first.

    Raises DataError when a split would be empty.
    """
    base = pl.read_parquet(store.read(f"staging/{project.name}/{run}/valid.parquet"))
    base = base.with_columns(
        pl.lit(None, TIME).alias("_time"), pl.lit("base").alias("_origin"), pl.lit("").alias("_client")
    )
    back = answered(project, store)
    frames = [base] if back.is_empty() else [base, back.with_columns(pl.lit("feedback").alias("_origin"))]
    rows = pl.concat(frames, how="diagonal")
    rows = capped(rows.with_columns(keys(rows, project)), project)
    feedback_rows = rows.filter(pl.col("_origin") == "feedback").height
    if feedback_rows < back.height:
        left_out = back.height - feedback_rows
        print(f"{left_out} of {back.height} rows that came back are above the caps and left out", file=sys.stderr)
    order = [*(column.name for column in project.schema.columns), "_key", "_origin", "_time"]
    rows = rows.select(order)
    splits = dict(zip(("train", "holdout"), sides(rows, project), strict=True))
    for name, split in splits.items():
        if split.is_empty():
            raise DataError(f"The {name} split of {project.name} is empty", fix="Give more rows")
    content = lines(rows)
    named = "\x1f".join([*order, str(project.holdout_share), *filter(None, [project.history])])
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
            "schema": [{"name": column.name, "kind": column.kind} for column in project.schema.columns],
            "created": datetime.now(UTC).isoformat(),
            "parent": parent,
            "run": run,
        }
        store.write(f"{folder}/manifest.json", json.dumps(manifest, indent=1).encode())  # last: it makes the rest count
        events.record(store, project, "snapshot", result | {"source": extracted.get("source")}, source="etl")
    return result


def latest(store: Store, project: str) -> str | None:
    """The newest snapshot's hash."""
    found = [json.loads(store.read(key)) for key in store.keys(f"datasets/{project}") if key.endswith("manifest.json")]
    return max(found, key=lambda manifest: manifest["created"])["snapshot"] if found else None
