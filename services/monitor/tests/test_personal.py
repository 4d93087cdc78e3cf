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
from services.monitor.evaluation import Labels, Window, evaluate, scores
from services.monitor.report import window_of
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
    window = Window(current=rows, reference=rows, labelled=rows.clear())
    labels = Labels(window="w", time=datetime(2026, 1, 1), metadata={}, source="sample")  # noqa: DTZ001  # as Evidently's
    runs = evaluate(declared(), window, labels)
    assert "fare" in scores(runs[0])
    assert not {"title", "age"} & set(scores(runs[0]))
    assert not any(b"Countess" in run.page + run.content for run in runs)
    everything = evaluate(dataclasses.replace(TITANIC, gate=Gate()), window, labels)
    assert any(b"Countess" in run.page for run in everything)  # otherwise the test could not fail
    assert any(b"Countess" in run.content for run in everything)


def test_a_report_reads_no_erased_row(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    logged(cast("Monitor", SimpleNamespace(store=store)), 60.0)
    (key,) = (key for key in store.keys("predictions") if key.endswith(".parquet"))
    ids = pl.read_parquet(store.path(key))["id"].to_list()
    assert window_of(store, TITANIC, "s1", 3600).current.height == len(ids)
    erasure.record(store, "titanic", ids[0], datetime.now(UTC))
    assert window_of(store, TITANIC, "s1", 3600).current.height == len(ids) - 1
