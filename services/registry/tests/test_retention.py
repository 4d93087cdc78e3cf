"""Old versions and their runs are removed from a real MLflow; versions with an alias stay."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException

from phaseflow import Keep, discovery, erasure
from phaseflow.contract import Project
from phaseflow.settings import Settings
from phaseflow.store import Store
from services.registry import promotion, retention
from services.registry.__main__ import main

NAME = "titanic"
NOW = datetime(2026, 11, 27, tzinfo=UTC)


def project(**keep: int) -> Project:
    return dataclasses.replace(discovery.get(NAME), keep=Keep(**keep))


@pytest.fixture
def client(settings: Settings, tmp_path: Path) -> MlflowClient:
    """A registry in which titanic has versions 1 to 4, each from a pipeline with two runs that have files."""
    client = MlflowClient(settings.mlflow_url)
    mlflow.set_tracking_uri(settings.mlflow_url)
    if client.search_registered_models(f"name = '{NAME}'"):
        client.delete_registered_model(NAME)
    client.create_registered_model(NAME)
    old = client.get_experiment_by_name(NAME)
    experiment = old.experiment_id if old else client.create_experiment(NAME)
    for run in client.search_runs([experiment]):
        client.delete_run(run.info.run_id)
    file = tmp_path / "card.md"
    file.write_text("a card of 21 letters.")
    for number in range(1, 5):
        tags = {"phaseflow.run": f"r{number}", "phaseflow.snapshot": f"s{number}"}
        runs = [client.create_run(experiment, tags=tags) for _ in range(2)]
        for run in runs:
            client.log_artifact(run.info.run_id, str(file), "plots")
        run_id = runs[0].info.run_id
        model = client.create_logged_model(experiment, name="model", source_run_id=run_id)
        client.log_model_artifacts(model.model_id, str(file.parent))
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        client.finalize_logged_model(model.model_id, "READY")
        client.create_model_version(NAME, model.artifact_location, run_id, tags=tags, model_id=model.model_id)
        for run in runs:
            client.set_terminated(run.info.run_id)
    return client


def numbers(client: MlflowClient) -> list[str]:
    return [version["version"] for version in promotion.versions(client, discovery.get(NAME))]


def pipelines(client: MlflowClient) -> set[str]:
    experiment = client.get_experiment_by_name(NAME)
    return {run.data.tags["phaseflow.run"] for run in client.search_runs([experiment.experiment_id])}


def files(settings: Settings) -> int:
    return sum(path.is_file() for path in (settings.home / "mlflow" / "artifacts").rglob("*"))


def test_old_versions_go_with_their_runs_and_files(client: MlflowClient, settings: Settings) -> None:
    client.set_registered_model_alias(NAME, "champion", "1")
    before = files(settings)
    planned = retention.clean(client, settings, project(versions=2), NOW, dry_run=True)
    lines = planned["lines"]
    assert [(version["version"], version["snapshot"], version["run"]) for version in planned["versions"]] == [
        ("1", "s1", "r1")
    ]
    assert len(json.dumps(planned)) < 4096  # the limit of a pod's termination message
    assert {(line["remove"], line["why"], *line["names"]) for line in lines} == {
        (False, "the alias champion points to it", "1"),
        (False, "one of the newest 2", "4", "3"),
        (True, "beyond the newest 2", "2"),
    }
    assert numbers(client) == ["4", "3", "2", "1"]
    assert retention.clean(client, settings, project(versions=2), NOW) == planned
    assert numbers(client) == ["4", "3", "1"]
    assert pipelines(client) == {"r1", "r3", "r4"}
    assert before - files(settings) == 3  # two of the runs, one of the logged model
    again = retention.clean(client, settings, project(versions=2), NOW)["lines"]
    assert not any(line["remove"] for line in again)


def test_a_version_that_got_an_alias_meanwhile_is_kept(client: MlflowClient, settings: Settings) -> None:
    (chosen,) = [item for item in retention.items(client, project(versions=3), NOW) if item.remove]
    client.set_registered_model_alias(NAME, "champion", "1")
    assert not retention._unregister(client, settings, project(versions=3), chosen)
    assert numbers(client) == ["4", "3", "2", "1"]


def test_an_interrupted_removal_is_completed(client: MlflowClient, settings: Settings) -> None:
    (chosen,) = [item for item in retention.items(client, project(versions=3), NOW) if item.remove]
    assert retention._unregister(client, settings, project(versions=3), chosen)  # and is killed here
    lines = retention.clean(client, settings, project(versions=3), NOW)["lines"]
    assert {"left by an interrupted removal"} == {line["why"] for line in lines if line["remove"]}
    assert pipelines(client) == {"r2", "r3", "r4"}


def test_runs_without_a_version_go_when_they_are_old(client: MlflowClient, settings: Settings) -> None:
    client.delete_model_version(NAME, "1")
    lines = retention.clean(client, settings, project(run_days=30), datetime.now(UTC))["lines"]
    assert not any(line["remove"] for line in lines)
    assert pipelines(client) == {"r1", "r2", "r3", "r4"}
    retention.clean(client, settings, project(run_days=30), datetime.now(UTC) + timedelta(days=31))
    assert pipelines(client) == {"r2", "r3", "r4"}


def test_a_version_keeps_both_names_of_a_rewritten_snapshot(client: MlflowClient, settings: Settings) -> None:
    store = Store(settings.store)
    store.write(f"datasets/{NAME}/s2/{erasure.FORWARD}", json.dumps({"erased_into": "s9"}).encode())
    store.write(f"datasets/{NAME}/s9/manifest.json", b"{}")
    client.set_registered_model_alias(NAME, "champion", "2")
    first = retention.forget(client, settings, project())
    assert [
        (version["version"], version["aliases"], version["snapshot"], version["erased_from"]) for version in first
    ] == [("2", ["champion"], "s9", "s2")]
    assert retention.forget(client, settings, project()) == first
    tags = client.get_model_version(NAME, "2").tags
    assert tags["phaseflow.snapshot"] == "s9"
    assert tags["phaseflow.erased_from"] == "s2"


def test_more_versions_than_one_page_are_all_listed(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotion, "PAGE", 3)
    assert numbers(client) == ["4", "3", "2", "1"]


def test_the_command_cleans(
    client: MlflowClient,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("PHASEFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("PHASEFLOW_MLFLOW_URL", settings.mlflow_url)
    assert main(["clean", "--project", NAME, "--dry-run"]) == 0
    assert {line["what"] for line in json.loads(capsys.readouterr().out)["lines"]} == {"versions"}
    assert main(["forget", "--project", NAME]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_version_that_another_process_removed_is_no_error(client: MlflowClient, settings: Settings) -> None:
    (chosen,) = [item for item in retention.items(client, project(versions=3), NOW) if item.remove]
    client.delete_model_version(NAME, "1")
    assert retention._unregister(client, settings, project(versions=3), chosen)
    with pytest.raises(MlflowException):
        client.get_model_version(NAME, "1")
