"""A champion that no challenger replaces on changed rows: registered again with a new reference, in a real MLflow."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from phaseflow import answers, logs, registry
from phaseflow.settings import Settings
from phaseflow.store import Store
from phaseflow.toolkit import graph, source
from phaseflow.toolkit.newest import newest_traffic
from pipelines.etl.extract import extract, parquet
from pipelines.etl.snapshot import snapshot
from pipelines.etl.validate import validate
from pipelines.steps import budget, champion, data, evaluate, gate, register, tracking
from pipelines.steps.train import train

HOUSES = registry.get("house_prices")
CANDIDATE = HOUSES.candidates[0].name


class Retraining:
    """The steps of one run, as the DAG and the pipeline call them."""

    def __init__(self, place: Settings, folder: Path, run: str) -> None:
        self.run, self.folder, store = run, folder / run, Store(place.store)
        extracted = extract(HOUSES, run, place, store)
        validate(HOUSES, run, store)
        self.snapshot = str(snapshot(HOUSES, run, store, extracted)["snapshot"])
        train(HOUSES.name, self.snapshot, CANDIDATE, self.folder)
        self.evaluation = json.loads(json.dumps(evaluate.evaluate(HOUSES.name, self.snapshot, [self.folder])))
        self.verdict = json.loads(json.dumps(gate.judge(HOUSES, self.evaluation).to_dict()))

    def register(self) -> dict[str, Any]:
        """Register what was trained; the verdict as it is stored."""
        folders = {CANDIDATE: self.folder}
        return register.register(HOUSES.name, self.snapshot, self.run, self.evaluation, self.verdict, folders)


def ship(place: Settings, model: bytes, part: str, count: int = 700) -> None:
    """Predictions of larger houses and their labels, which are what the model predicts of them."""
    store, now = Store(place.store), datetime.now(UTC)
    known = source.grouped_rows(source.load(HOUSES, place, store), HOUSES, place)
    rows = known.sample(count, with_replacement=True, shuffle=True, seed=len(part))
    rows = rows.with_row_index("number").with_columns(
        pl.col("living_area") * 2 + pl.col("number") % 50,
        pl.format(part + "{}", "number").alias("id"),
        time=pl.lit(now),
    )
    outputs = graph.run(graph.session(model), graph.feed(rows, HOUSES.schema))
    labels = answers.values(outputs, HOUSES.schema.target, ())
    predictions = rows.select("id", "time", pl.lit("1").alias("version"), *HOUSES.schema.feature_names)
    feedback = rows.select("id", "time", pl.Series("truth", [str(label) for label in labels]))
    for kind, table in (("predictions", predictions), ("feedback", feedback)):
        store.write(f"{logs.folder(kind, HOUSES.name, now)}/{part}.parquet", parquet(table))


def drifted(present: champion.Champion, run: Retraining) -> float:
    """The drift of the run's newest rows from the reference of a champion."""
    rows = newest_traffic(HOUSES, data.split(HOUSES, run.snapshot, "train"))
    drift = evaluate.drift(HOUSES, present, rows)
    assert drift is not None
    return float(drift["psi"])


@pytest.mark.usefixtures("mlflow_server")
def test_a_champion_that_holds_on_changed_rows_is_confirmed_with_a_new_reference(
    place: Settings, tmp_path: Path
) -> None:
    first = Retraining(place, tmp_path, "first").register()
    assert (first["passed"], first["reason"], first["confirmed"]) == (True, "first", None)
    client = tracking.client()
    client.set_registered_model_alias(HOUSES.name, "champion", first["version"])
    present = champion.fetch(HOUSES)
    assert present is not None

    # The first challenger after a change may have seen too little of it: the champion is not confirmed yet.
    ship(place, present.onnx, "a")
    early = Retraining(place, tmp_path, "early")
    assert early.evaluation["look"]["number"] == 1
    assert early.evaluation["champion"]["drift"]["feature"] == "living_area"
    assert early.evaluation["champion"]["drift"]["psi"] > HOUSES.drift.psi
    refused = early.register()
    assert (refused["passed"], refused["confirmed"]) == (False, None)

    ship(place, present.onnx, "bc")
    later = Retraining(place, tmp_path, "later")
    assert later.verdict["confirmed"], later.verdict
    confirmed = later.register()
    assert (confirmed["passed"], confirmed["champion"], confirmed["reason"]) == (False, first["version"], "")
    assert int(confirmed["confirmed"]) == int(confirmed["version"]) + 1
    assert "it stays, and the newest rows are its reference from now on." in confirmed["why"]
    assert later.register() | {"created": ""} == confirmed | {
        "created": ""
    }  # as after a kill: nothing is registered twice
    versions = client.search_model_versions(f"name = '{HOUSES.name}'")
    assert len(versions) == 4

    # As the DAG promotes it: the same model, of whose reference the new rows are no drift.
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

    # The model is the same, so that the looks at its holdout go on.
    look = champion.last_look(HOUSES, confirmed["confirmed"])
    assert look == later.evaluation["look"]
    assert look["left"] < budget.ALPHA


@pytest.mark.usefixtures("mlflow_server")
def test_a_champion_that_was_replaced_meanwhile_is_not_confirmed(place: Settings, tmp_path: Path) -> None:
    present = champion.fetch(HOUSES)
    assert present is not None
    run = Retraining(place, tmp_path, "late")
    run.verdict |= {"confirmed": True}
    client = tracking.client()
    other = str(int(present.version) - 1)
    client.set_registered_model_alias(HOUSES.name, "champion", other)
    try:
        assert run.register()["confirmed"] is None
    finally:
        client.set_registered_model_alias(HOUSES.name, "champion", present.version)
