"""Evidently's page holds nothing of a personal column, and nothing of a row that was erased."""

from __future__ import annotations

import dataclasses
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from phaseflow import Drift, Gate, Project, Schema, erasure, registry
from phaseflow.store import Store
from services.monitor.report import judged, window

TITANIC = registry.get("titanic")


def declared() -> Project:
    personal = {"title", "age"}
    features = tuple(dataclasses.replace(c, personal=c.name in personal) for c in TITANIC.schema.features)
    schema = Schema(features=features, target=TITANIC.schema.target)
    return dataclasses.replace(TITANIC, schema=schema, drift=Drift(), gate=Gate())


def test_a_report_leaves_personal_columns_out() -> None:
    example = dict(TITANIC.example) | {"title": "Countess of Rothes", "deck": "C"}
    rows = pl.DataFrame([example | {"age": 30.0 + n, "fare": 10.0 + n} for n in range(40)])
    page, scores = judged(declared(), rows, rows)
    assert "fare" in scores
    assert not {"title", "age"} & set(scores)
    assert b"Countess" not in page
    assert b"Countess" in judged(dataclasses.replace(TITANIC, gate=Gate()), rows, rows)[0]  # else the test can't fail


def test_a_report_reads_no_erased_row(tmp_path: Path) -> None:
    store, now = Store(str(tmp_path)), datetime.now(UTC)
    rows = pl.DataFrame({"id": ["a-0", "a-1"], "time": [now, now]})
    content = io.BytesIO()
    rows.write_parquet(content)
    store.write(f"predictions/titanic/{now:date=%Y-%m-%d/hour=%H}/x.parquet", content.getvalue())
    since = now - timedelta(minutes=5)
    assert window(store, TITANIC, "predictions", since)["id"].to_list() == ["a-0", "a-1"]
    erasure.record(store, "titanic", "a-0", now)
    assert window(store, TITANIC, "predictions", since)["id"].to_list() == ["a-1"]
