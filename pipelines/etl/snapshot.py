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
from phaseflow.toolkit.holdout import lines
from phaseflow.toolkit.twins import twins
from pipelines.etl import parts
from pipelines.etl.extract import parquet


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
    """Logged rows whose truth came back, by time: the schema's columns, `_id`, `_time`, `_client` and `_group`, "" where none was sent.

    Without a target every logged row.
    """
    predictions, target = read_log(store, "predictions", project.name), project.schema.target
    if predictions.is_empty():
        return pl.DataFrame()
    if target is None:
        joined = predictions.with_columns(_client=pl.lit(""), _group=pl.lit(""))
    else:
        truths = read_log(store, "feedback", project.name)
        if truths.is_empty():
            return pl.DataFrame()
        known = truths.filter(pl.col("id").is_in(predictions["id"].to_list()))
        if known.height < truths.height:
            print(f"{truths.height - known.height} truths have no logged prediction yet and wait", file=sys.stderr)
        told = [  # earlier releases wrote neither
            (pl.col(name).fill_null("") if name in known.columns else pl.lit("")).alias(f"_{name}")
            for name in ("client", "group")
        ]
        joined = predictions.join(known.select("id", pl.col("truth").alias(target.name), *told), on="id")
    joined = joined.sort("time", "id")
    rows = source.conform(joined, project.schema).with_columns(
        joined.select(pl.col("id").alias("_id"), pl.col("time").alias("_time"), "_client", "_group")
    )
    return rows if target is None else rows.filter(pl.col(target.name).is_not_null())


def snapshot(project: Project, run: str, store: Store, extracted: Mapping[str, Any]) -> dict[str, Any]:
    """Write the data set if its content is new; `extracted` is what the step extract found.

    Feedback rows above the project's caps are left out, those with the largest hashes, and twins of the holdout.

    Raises DataError when a split would be empty.
    """
    base = parts.of_base(pl.read_parquet(store.read(f"staging/{project.name}/{run}/valid.parquet")), project)
    back = answered(project, store)
    feedback = base.clear() if back.is_empty() else parts.of_feedback(back, base, project)
    splits = dict(zip(("train", "holdout"), parts.split(base, feedback, project), strict=True))
    rows = pl.concat(splits.values())
    feedback_rows = rows.filter(pl.col("_origin") == "feedback").height
    if feedback_rows < back.height:
        left_out = back.height - feedback_rows
        print(
            f"{left_out} of {back.height} rows that came back are above the caps, or twins of the holdout, and left out",
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
            "run": run,
        }
        store.write(f"{folder}/manifest.json", json.dumps(manifest, indent=1).encode())  # last: it makes the rest count
        events.record(store, project, "snapshot", result | {"source": extracted.get("source")}, source="etl")
    return result


def latest(store: Store, project: str) -> str | None:
    """The newest snapshot's hash."""
    found = [json.loads(store.read(key)) for key in store.keys(f"datasets/{project}") if key.endswith("manifest.json")]
    return max(found, key=lambda manifest: manifest["created"])["snapshot"] if found else None
