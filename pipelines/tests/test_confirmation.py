"""A champion that holds on changed rows is registered again with a new reference, in a real MLflow."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from phaseflow import discovery, logs, prediction_types
from phaseflow.settings import Settings
from phaseflow.store import Store
from phaseflow.toolkit import graph, source
from phaseflow.toolkit.newest import newest_traffic
from pipelines.etl.extract import extract, parquet
from pipelines.etl.snapshot import snapshot
from pipelines.etl.validate import validate
from pipelines.steps import budget, champion, data, evaluate, gate, register, tracking
from pipelines.steps.train import train

HOUSES = discovery.get("house_prices")
CANDIDATE = HOUSES.candidates[0].name


class Retraining:
    """The steps of one run, as the DAG and the pipeline call them."""

    def __init__(self, settings: Settings, folder: Path, run: str) -> None:
        self.run, self.folder, store = run, folder / run, Store(settings.store)
        extracted = extract(HOUSES, run, settings, store)
        validate(HOUSES, run, store)
        self.snapshot = str(snapshot(HOUSES, run, store, extracted)["snapshot"])
        train(HOUSES.name, self.snapshot, CANDIDATE, self.folder)
        self.evaluation = json.loads(json.dumps(evaluate.evaluate(HOUSES.name, self.snapshot, [self.folder])))
        self.verdict = json.loads(json.dumps(gate.judge(HOUSES, self.evaluation).to_dict()))

    def register(self) -> dict[str, Any]:
        """Register the trained model and return the stored verdict."""
        folders = {CANDIDATE: self.folder}
        return register.register(HOUSES.name, self.snapshot, self.run, self.evaluation, self.verdict, folders)


def ship(settings: Settings, model: bytes, part: str, count: int = 700) -> None:
    """Log predictions of larger houses. Their labels equal the model's predictions."""
    store, now = Store(settings.store), datetime.now(UTC)
    base = source.grouped_rows(source.load(HOUSES, settings, store), HOUSES, settings)
    rows = base.sample(count, with_replacement=True, shuffle=True, seed=len(part))
    rows = rows.with_row_index("number").with_columns(
        pl.col("living_area") * 2 + pl.col("number") % 50,
        pl.format(part + "{}", "number").alias("id"),
        time=pl.lit(now),
    )
    outputs = graph.run(graph.session(model), graph.feed(rows, HOUSES.schema))
    labels = prediction_types.values(outputs, HOUSES.schema.target, ())
    predictions = rows.select("id", "time", pl.lit("1").alias("version"), *HOUSES.schema.feature_names)
    feedback = rows.select("id", "time", pl.Series("label", [str(label) for label in labels]))
    for kind, table in (("predictions", predictions), ("feedback", feedback)):
        store.write(f"{logs.folder(kind, HOUSES.name, now)}/{part}.parquet", parquet(table))


def drifted(present: champion.Champion, run: Retraining) -> float:
    """Return the drift of the run's newest rows from the reference of a champion."""
    rows = newest_traffic(HOUSES, data.split(HOUSES, run.snapshot, "train"))
    drift = evaluate.drift(HOUSES, present, rows)
    assert drift is not None
    return float(drift["psi"])


@pytest.mark.usefixtures("mlflow_server")
def test_a_champion_that_holds_on_changed_rows_is_confirmed_with_a_new_reference(
    settings: Settings, tmp_path: Path
) -> None:
    first = Retraining(settings, tmp_path, "first").register()
    assert (first["passed"], first["reason"], first["confirmed"]) == (True, "first", None)
    client = tracking.client()
    client.set_registered_model_alias(HOUSES.name, "champion", first["version"])
    present = champion.fetch(HOUSES)
    assert present is not None

    # A challenger on unchanged data says nothing about how the champion holds on changed data.
    before = Retraining(settings, tmp_path, "before")
    assert before.evaluation["champion"]["drift"]["psi"] <= HOUSES.drift.psi
    assert before.register()["confirmed"] is None

    # The first challenger after a change may have seen too few new rows, so the champion is not confirmed yet.
    ship(settings, present.onnx, "a")
    early = Retraining(settings, tmp_path, "early")
    assert early.evaluation["look"]["number"] == 2
    assert early.evaluation["champion"]["withstood"] == 0
    assert early.evaluation["champion"]["drift"]["feature"] == "living_area"
    assert early.evaluation["champion"]["drift"]["psi"] > HOUSES.drift.psi
    refused = early.register()
    assert (refused["passed"], refused["confirmed"]) == (False, None)

    ship(settings, present.onnx, "bc")
    later = Retraining(settings, tmp_path, "later")
    assert later.evaluation["champion"]["withstood"] == 1
    assert later.verdict["confirmed"], later.verdict
    confirmed = later.register()
    assert (confirmed["passed"], confirmed["champion"], confirmed["reason"]) == (False, first["version"], "")
    assert int(confirmed["confirmed"]) == int(confirmed["version"]) + 1
    assert "it stays, and the newest rows are its reference from now on." in confirmed["why"]
    assert later.register() | {"created": ""} == confirmed | {
        "created": ""
    }  # as after a kill, nothing is registered twice
    versions = client.search_model_versions(f"name = '{HOUSES.name}'")
    assert len(versions) == 5

    # Promote it as the DAG does. The new rows have not drifted from the new reference.
    client.set_registered_model_alias(HOUSES.name, "champion", confirmed["confirmed"])
    renewed = champion.fetch(HOUSES)
    assert renewed is not None
    assert (renewed.onnx, renewed.candidate, renewed.classes) == (present.onnx, present.candidate, present.classes)
    assert drifted(present, later) > HOUSES.drift.psi > 0.1 > drifted(renewed, later)
    assert {bins.feature for bins in renewed.reference} == {bins.feature for bins in present.reference}
    tags = client.get_model_version(HOUSES.name, confirmed["confirmed"]).tags
    assert tags["phaseflow.verdict"] == "passed"
    assert tags["phaseflow.snapshot"] == later.snapshot
    assert tags[champion.CONFIRMS] == first["version"]

    # The model is the same, so its looks at the holdout continue.
    look = champion.last_look(HOUSES, confirmed["confirmed"])
    assert look == later.evaluation["look"]
    assert look["left"] < budget.ALPHA
    # Withstood challengers are counted from zero, because its reference is now the changed data.
    assert champion.withstood(HOUSES, confirmed["confirmed"], snapshot="another") == 0
    assert champion.withstood(HOUSES, first["version"], snapshot="another") == 2
    assert champion.withstood(HOUSES, first["version"], snapshot=later.snapshot) == 1  # a retry is not counted again


@pytest.mark.usefixtures("mlflow_server")
def test_a_champion_that_was_replaced_meanwhile_is_not_confirmed(settings: Settings, tmp_path: Path) -> None:
    present = champion.fetch(HOUSES)
    assert present is not None
    run = Retraining(settings, tmp_path, "late")
    run.verdict |= {"confirmed": True}
    client = tracking.client()
    other = str(int(present.version) - 1)
    client.set_registered_model_alias(HOUSES.name, "champion", other)
    try:
        assert run.register()["confirmed"] is None
    finally:
        client.set_registered_model_alias(HOUSES.name, "champion", present.version)
