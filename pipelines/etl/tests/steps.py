"""The three steps on files of the tests, and the logs that they read."""

from __future__ import annotations

import csv
import dataclasses
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from phaseflow import discovery, logs
from phaseflow.contract import Project
from phaseflow.settings import Settings
from phaseflow.store import Store
from pipelines.etl.extract import extract, parquet
from pipelines.etl.snapshot import snapshot
from pipelines.etl.validate import validate

TITANIC = discovery.get("titanic")
TITANIC = dataclasses.replace(
    TITANIC, source=dataclasses.replace(TITANIC.source, sha256="")
)  # these files are the tests' own


def run(settings: Settings, content: bytes, name: str = "r1", project: Project = TITANIC) -> dict[str, Any]:
    """Run all three steps on a file in the mirror."""
    (settings.home / "titanic.csv").write_bytes(content)
    store = Store(settings.store)
    extracted = extract(project, name, settings, store)
    return extracted | validate(project, name, store) | snapshot(project, name, store, extracted)


def sample_csv(**changes: Any) -> bytes:
    """Return the sample with renamed columns (`rename`), replaced cells (`column`, `value`, `rows`) or filtered rows (`keep`)."""
    lines = list(csv.reader(io.StringIO(discovery.load(TITANIC.source.sample)(1).decode())))
    header, rows = lines[0], lines[1:]
    if "column" in changes:
        column_index = header.index(changes["column"])
        for row in rows[: changes.get("rows", len(rows))]:
            row[column_index] = changes["value"]
    header = [changes.get("rename", {}).get(name, name) for name in header]
    rows = [row for row in rows if changes.get("keep", lambda _: True)(row)]
    out = io.StringIO()
    csv.writer(out).writerows([header, *rows])
    return out.getvalue().encode()


def part(kind: str, name: str = "a", project: str = "titanic") -> str:
    """Return the key of a log file that arrives now."""
    return f"{logs.folder(kind, project, datetime.now(UTC))}/{name}.parquet"


def log(settings: Settings, labels: dict[str, str], age: float = 50.0) -> None:
    """Log predictions r0, r1, … and their labels, as the service ships them."""
    now = datetime.now(UTC)
    ids = sorted(labels)
    columns: dict[str, Any] = {name: [TITANIC.example.get(name)] * len(ids) for name in TITANIC.schema.feature_names}
    columns["age"] = [age + number for number in range(len(ids))]
    predictions = pl.DataFrame({"id": ids, "time": [now] * len(ids), "version": ["1"] * len(ids), **columns})
    feedback = pl.DataFrame({"id": ids, "time": [now] * len(ids), "label": [labels[name] for name in ids]})
    store = Store(settings.store)
    store.write(part("predictions"), parquet(predictions))
    store.write(part("feedback", "a"), parquet(feedback))


def ship_labels(store: Store, rows: dict[str, list[Any]], kind: str = "a") -> None:
    """Log predictions and the clients' labels (`client` and `survived` of each row), as the service ships them."""
    count, begin = len(rows["client"]), datetime.now(UTC)
    times = [begin + timedelta(microseconds=number) for number in range(count)]
    ids = [f"{kind}{number}" for number in range(count)]
    columns: dict[str, Any] = {name: [TITANIC.example.get(name)] * count for name in TITANIC.schema.feature_names}
    columns["fare"] = [float(number) for number in range(count)]  # all rows are distinct
    predictions = pl.DataFrame({"id": ids, "time": times, "version": ["1"] * count, **columns})
    store.write(part("predictions", kind), parquet(predictions))
    feedback = pl.DataFrame({"id": ids, "time": times, "label": rows["survived"], "client": rows["client"]})
    if "group" in rows:
        feedback = feedback.with_columns(group=pl.Series(rows["group"], dtype=pl.String))
    store.write(part("feedback", kind), parquet(feedback))


def split(store: Store, result: dict[str, Any], project: str = "titanic") -> dict[str, pl.DataFrame]:
    """Return both sides of a snapshot."""
    folder = f"datasets/{project}/{result['snapshot']}"
    return {side: pl.read_parquet(store.read(f"{folder}/{side}.parquet")) for side in ("train", "holdout")}
