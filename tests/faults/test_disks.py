"""A full disk at each writer: it reports the error, loses no served prediction, and continues once there is space."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from bench.load import Load, shipped
from phaseflow.errors import PhaseflowError
from phaseflow.settings import ROOT
from phaseflow.store import Store
from phaseflow.testing import wait_for
from tests.conftest import Platform
from tests.faults.conftest import PROJECT, Traffic, full_disk, healthy, metric, pid_of, valid_row, wait_for_predictions
from tests.tally import Row, Tally

pytestmark = pytest.mark.platform


def test_the_services_spool(platform: Platform, traffic: Traffic) -> None:
    """The service refuses predictions that it can't log."""
    with traffic("a full disk under the spool", may_fail=True) as load:
        with full_disk(platform.settings.home / "serving" / "spool"):
            wait_for("a refusal", lambda: load.statuses[503] > 20, 60)
            response = httpx.post(f"{load.url}/predict", json=valid_row(platform), timeout=10)
            assert response.status_code == 503
            assert response.headers["retry-after"]
            assert "Free disk space" in response.json()["error"]["fix"]
        _assert_recovered(load)
    assert set(load.statuses) <= {200, 503}


def _assert_recovered(load: Load) -> None:
    wait_for_predictions(load)
    before = load.statuses[503]
    wait_for_predictions(load, 100)
    assert load.statuses[503] == before


def test_the_store_under_the_prediction_log(platform: Platform, traffic: Traffic) -> None:
    """Rows wait in the spool until the store has space."""
    predictions = Path(platform.settings.store) / "predictions"
    with traffic("a full disk under the prediction log") as load, full_disk(predictions):
        wait_for("rows that wait", lambda: metric(platform, "serving", "phaseflow_spool_rows") > 200, 60)
        wait_for_predictions(load)
    assert shipped(platform.settings)


def test_the_engines_records(platform: Platform, tally: Tally) -> None:
    """The engine refuses a run that it can't record, and its loop keeps working: the next run succeeds."""
    settings = platform.settings
    pid = pid_of(platform, "pipelines")
    name, address = "a-full-disk", f"{settings.pipelines_url}/apis/v2beta1"
    headers = {"Authorization": f"Bearer {settings.secret('engine_token')}"}
    step = {"container": {"image": "python:3.11", "command": ["python3", "-c", "print(1)"]}}
    spec = {
        "pipelineInfo": {"name": name},
        "deploymentSpec": {"executors": {"exec-step": step}},
        "components": {"comp-step": {"executorLabel": "exec-step"}},
        "root": {"dag": {"tasks": {"step": {"componentRef": {"name": "comp-step"}, "taskInfo": {"name": "step"}}}}},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.3",
    }

    def submit(run: str) -> httpx.Response:
        return httpx.post(
            f"{address}/runs", json={"display_name": run, "pipeline_spec": spec}, headers=headers, timeout=30
        )

    breaches = []
    with full_disk(settings.home / "pipelines"):
        for number in range(3):
            response = submit(f"{name}-{number}")
            if response.status_code not in {503, 507}:
                breaches.append(f"{response.status_code} {response.text[:100]}")
        assert httpx.get(f"{address}/healthz", timeout=10).status_code in {200, 503}
    response = submit(f"{name}-after")
    assert response.status_code == 200, response.text
    run = response.json()["run_id"]
    ended = {"SUCCEEDED", "FAILED", "CANCELED"}
    wait_for("the next run's end", lambda: httpx.get(f"{address}/runs/{run}").json()["state"] in ended, 120)
    assert pid_of(platform, "pipelines") == pid
    assert healthy(platform, "pipelines")
    tally.add(Row(what="a full disk under the engine's records", attempts=3, breaches=breaches))


def test_the_store_under_the_etl(platform: Platform, tally: Tally) -> None:
    """The ETL exits with 1, which is retried, and not with 2, which reports invalid data."""
    breaches = []
    for folder in ("staging", "quarantine"):
        with full_disk(Path(platform.settings.store) / folder):
            for step in ("extract",) if folder == "staging" else ():
                command = ["-m", "pipelines.etl", step, "--project", PROJECT, "--run", "full", "--result", os.devnull]
                completed = subprocess.run(
                    [platform.settings.python("tabular"), *command],
                    env=platform.environment | {"PYTHONPATH": str(ROOT)},
                    cwd=ROOT,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if completed.returncode != 1 or "Free disk space" not in completed.stderr:
                    breaches.append(f"{step}: {completed.returncode}: {completed.stderr[-200:]}")
    tally.add(Row(what="a full disk under the ETL", attempts=1, breaches=breaches))


def test_events_and_the_monitors_memory(platform: Platform, tally: Tally) -> None:
    """A failed write raises a PhaseflowError with a fix, and the monitor reports its health without crashing."""
    settings, breaches = platform.settings, []
    pid = pid_of(platform, "monitor")
    writers: dict[str, Callable[[], object]] = {
        "events": lambda: Store(settings.store).write("events/titanic/full.json", b"x" * 100_000),
        "runs": lambda: Store(settings.store).write("runs/titanic/full/verdict.json", b"x" * 100_000),
        "datasets": lambda: Store(settings.store).write("datasets/titanic/full/train.parquet", b"x" * 100_000),
    }
    for folder, write in writers.items():
        with full_disk(Path(settings.store) / folder):
            try:
                write()
                breaches.append(f"{folder} was written")
            except PhaseflowError as error:
                if "Free disk space" not in error.fix:
                    breaches.append(f"{folder}: {error}")
            leftovers = [path for path in (Path(settings.store) / folder).rglob(".*") if path.is_file()]
            breaches += [f"{path} was left" for path in leftovers]
    body = json.dumps(
        {"alerts": [{"status": "firing", "labels": {"project": PROJECT, "action": "retrain", "alertname": "x"}}]}
    )
    headers = {"Authorization": f"Bearer {settings.secret('hook_token')}", "Content-Type": "application/json"}
    with full_disk(settings.home / "monitor"), full_disk(Path(settings.store) / "events"):
        status = httpx.post(
            f"{settings.monitor_url}/hooks/alertmanager", content=body, headers=headers, timeout=30
        ).status_code
        if status not in {200, 503}:
            breaches.append(f"the hook: {status}")
        assert httpx.get(f"{settings.monitor_url}/metrics", timeout=10).status_code == 200
    assert pid_of(platform, "monitor") == pid
    tally.add(Row(what="a full disk under events and the monitor", attempts=4, breaches=breaches))
