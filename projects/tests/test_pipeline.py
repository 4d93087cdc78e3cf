"""Every project of this environment, from its source to served predictions, on few rows and with short trainings.

It tests the mechanics: ETL, training, evaluation, gate, registration in a real MLflow and a real service. Whether the
models learn is tested by `test_projects.py` on the whole sample.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest

from phaseflow import Project, discovery, prediction_types
from phaseflow.contract import Candidate
from phaseflow.settings import Settings, from_environment
from phaseflow.store import Store
from phaseflow.toolkit import graph
from phaseflow.toolkit.client import sent
from pipelines.etl.extract import extract, parquet
from pipelines.etl.snapshot import snapshot
from pipelines.etl.validate import validate
from pipelines.steps import data, evaluate, latency
from pipelines.steps.gate import Verdict, judge
from pipelines.steps.register import register
from pipelines.steps.train import train
from pipelines.tests.scoring import score
from services.serving.tests.conftest import Mlflow, Serving, free_port, until

pytestmark = pytest.mark.timeout(1800)  # CI runs it at a low priority, beside other tests
ENVIRONMENT: Final = Path(sys.prefix).name
PROJECTS: Final = [project.name for project in discovery.all_projects() if project.environment == ENVIRONMENT]
MAX_ROWS: Final = 200
"""Rows of the source that are used."""
EFFORT: Final = {"epochs": 1, "steps": 20, "base_steps": 20, "sweeps": 1, "n_estimators": 5}
"""Largest value of each parameter that only prolongs a training. A one-cycle schedule needs more than ten steps."""
LATENCY_CALLS: Final = 5
"""Predictions of one row whose latency is measured: a language model takes a second for each."""
REQUEST_ROWS: Final = 25
"""Rows of a project that generates texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A pipeline run."""

    evaluation: dict[str, Any]
    verdict: Verdict
    result: dict[str, Any]
    """What `register` returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A project with its snapshot, the folder of each trained candidate, and two runs over them.

    The first run has no champion. Its version is the champion of the second run.
    """

    project: Project
    snapshot: str
    folders: dict[str, Path]
    first: Run
    second: Run


def shortened(candidate: Candidate) -> Candidate:
    """The candidate with the parameters of EFFORT lowered."""
    params = {name: min(value, EFFORT[name]) if name in EFFORT else value for name, value in candidate.params.items()}
    return dataclasses.replace(candidate, params=params)


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    server = Mlflow(tmp_path_factory.mktemp("mlflow"), free_port())
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def settings(mlflow: Mlflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings with a temporary home, also set in the environment. The projects use their samples."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "PHASEFLOW_HOME": str(tmp_path_factory.mktemp("home")),
            "PHASEFLOW_MLFLOW_URL": mlflow.url,
            "PHASEFLOW_OFFLINE": "1",
            "PHASEFLOW_DATA_MIRROR": "",
        }.items():
            patch.setenv(name, value)
        yield from_environment()


@pytest.fixture(scope="module", params=PROJECTS)
def trained(
    request: pytest.FixtureRequest, settings: Settings, mlflow: Mlflow, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trained]:
    declared = discovery.get(request.param)
    project = dataclasses.replace(declared, candidates=tuple(map(shortened, declared.candidates)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discovery, "get", {project.name: project}.__getitem__)  # the steps look the project up by name
        patch.setattr(latency, "LATENCY_CALLS", LATENCY_CALLS)
        name = make_snapshot(project, settings)
        folders = {item.name: tmp_path_factory.mktemp(item.name) for item in project.candidates}
        for candidate, folder in folders.items():
            train(project.name, name, candidate, folder)
        first = run(project, name, "first", folders)
        mlflow.champion(project.name, first.result["version"])
        yield Trained(
            project=project, snapshot=name, folders=folders, first=first, second=run(project, name, "second", folders)
        )


def make_snapshot(project: Project, settings: Settings) -> str:
    """The ETL's steps on at most MAX_ROWS rows of the source."""
    store = Store(settings.store)
    extracted = extract(project, "run", settings, store)
    raw = pl.read_parquet(store.read(extracted["raw"]))
    store.write(extracted["raw"], parquet(raw.sample(min(MAX_ROWS, raw.height), seed=project.seed)))
    validate(project, "run", store)
    return str(snapshot(project, "run", store, extracted)["snapshot"])


def run(project: Project, snapshot: str, name: str, folders: dict[str, Path]) -> Run:
    """The pipeline's steps after the training."""
    evaluation = evaluate.evaluate(project.name, snapshot, list(folders.values()))
    verdict = judge(project, evaluation)
    result = register(project.name, snapshot, name, evaluation, verdict.to_dict(), folders)
    return Run(evaluation=evaluation, verdict=verdict, result=result)


def test_every_candidate_is_evaluated_and_the_gate_checks_every_bound(trained: Trained) -> None:
    names = {candidate.name for candidate in trained.project.candidates}
    assert set(trained.first.evaluation["candidates"]) == set(trained.folders) == names
    assert trained.first.evaluation["champion"] is None
    checks = {check.check for check in trained.first.verdict.checks}
    source = trained.first.evaluation["source"]
    assert {metric.name for metric in trained.project.metrics if metric.limit(source) is not None} <= checks
    assert {"latency, 99th percentile of one row (ms)", "size (MB)"} <= checks
    assert trained.first.result["passed"] == all(check.passed for check in trained.first.verdict.checks)


def test_the_next_run_compares_with_the_champion(trained: Trained) -> None:
    champion = trained.second.evaluation["champion"]
    assert champion["version"] == trained.second.result["champion"] == trained.first.result["version"]
    assert champion["candidate"] == trained.first.verdict.candidate
    # The same model on the same rows is neither better nor worse.
    assert champion["gain"]["value"] == pytest.approx(0.0)
    assert not trained.second.verdict.passed
    assert trained.second.verdict.why


@pytest.fixture(scope="module")
def rows(trained: Trained) -> pl.DataFrame:
    """The rows of the holdout; a few if texts are generated, which is slow."""
    rows = data.split(trained.project, trained.snapshot, "holdout")
    return rows.head(REQUEST_ROWS) if trained.project.task == "generation" else rows


@pytest.fixture(scope="module")
def responses(
    trained: Trained, rows: pl.DataFrame, mlflow: Mlflow, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """The service's prediction for each row, without its id."""
    project = trained.project
    service = Serving(tmp_path_factory.mktemp("serving"), mlflow.url, environment={"PHASEFLOW_ONLY": project.name})
    try:
        service.start()
        until(lambda: service.version(project.name) == trained.first.result["version"])
        response = service.post(f"/{project.name}/predict", json={"rows": sent(rows, project.schema)})
    finally:
        service.kill()
    assert response.status_code == 200, response.text
    return [without(prediction, "id") for prediction in response.json()["predictions"]]


def without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """All fields except one."""
    return {key: value for key, value in fields.items() if key != name}


def test_served_predictions_equal_those_of_the_trained_model(
    trained: Trained, rows: pl.DataFrame, responses: list[dict[str, Any]]
) -> None:
    project, target = trained.project, trained.project.schema.target
    outputs = graph.run(
        (trained.folders[trained.first.verdict.candidate] / "model.onnx").read_bytes(), graph.feed(rows, project.schema)
    )
    if target is not None and prediction_types.is_structured(target):
        expected = prediction_types.values(outputs, target, target.allowed)
        assert [response[target.kind] for response in responses] == expected
    elif "value" in outputs:
        assert [response["value"] for response in responses] == outputs["value"].tolist()
    else:
        assert [response["label"] for response in responses] == outputs["label"].tolist()
        assert [list(response["probabilities"].values()) for response in responses] == outputs["probabilities"].tolist()


def test_mlflow_scores_the_champion_as_the_service_does(
    trained: Trained, rows: pl.DataFrame, responses: list[dict[str, Any]], mlflow: Mlflow, tmp_path: Path
) -> None:
    project = trained.project
    field = next(iter(responses[0]))  # the prediction stands first
    expected = [{"prediction": response[field]} | without(response, field) for response in responses]
    scored = score(f"models:/{project.name}@champion", sent(rows, project.schema), tmp_path, mlflow.url)
    assert scored["together"] == expected
    for alone, among_others in zip(scored["alone"], expected, strict=True):
        assert_close(alone, among_others)


def assert_close(actual: Any, expected: Any) -> None:
    """Assert that JSON values are equal, and numbers almost: a graph may sum in another order for fewer rows."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        actual, expected = list(actual.values()), list(expected.values())
    if isinstance(expected, list):
        for pair in zip(actual, expected, strict=True):
            assert_close(*pair)
    else:
        assert actual == (pytest.approx(expected, rel=1e-6, abs=1e-6) if isinstance(expected, float) else expected)
