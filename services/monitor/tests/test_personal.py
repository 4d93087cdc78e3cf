"""Evidently's page contains no values of personal columns or of erased rows."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import polars as pl

from phaseflow import Drift, Gate, Project, Schema, discovery, erasure
from phaseflow.store import Store
from services.monitor.report import drift_report, frames
from services.monitor.tests.test_monitor import Monitor, logged

TITANIC = discovery.get("titanic")


def declared() -> Project:
    personal = {"title", "age"}
    features = tuple(dataclasses.replace(c, personal=c.name in personal) for c in TITANIC.schema.features)
    schema = Schema(features=features, target=TITANIC.schema.target)
    return dataclasses.replace(TITANIC, schema=schema, drift=Drift(), gate=Gate())


def test_a_report_leaves_personal_columns_out() -> None:
    example = dict(TITANIC.example) | {"title": "Countess of Rothes", "deck": "C"}
    rows = pl.DataFrame([example | {"age": 30.0 + n, "fare": 10.0 + n} for n in range(40)])
    page, scores = drift_report(declared(), rows, rows)
    assert "fare" in scores
    assert not {"title", "age"} & set(scores)
    assert b"Countess" not in page
    assert (
        b"Countess" in drift_report(dataclasses.replace(TITANIC, gate=Gate()), rows, rows)[0]
    )  # otherwise the test could not fail


def test_a_report_reads_no_erased_row(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    logged(cast("Monitor", SimpleNamespace(store=store)), 60.0)
    (key,) = (key for key in store.keys("predictions") if key.endswith(".parquet"))
    ids = pl.read_parquet(store.path(key))["id"].to_list()
    current, _ = frames(store, TITANIC, "s1", 3600)
    assert current.height == len(ids)
    erasure.record(store, "titanic", ids[0], datetime.now(UTC))
    current, _ = frames(store, TITANIC, "s1", 3600)
    assert current.height == len(ids) - 1
