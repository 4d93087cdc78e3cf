"""schemathesis (https://schemathesis.readthedocs.io) against the service's OpenAPI: no 5xx, no undocumented status."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from phaseflow.clients import airflow
from phaseflow.settings import ROOT
from tests.conftest import Platform
from tests.tally import Row, Tally

pytestmark = pytest.mark.platform
SECONDS = 30
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
SEED = "20261126"


def retrainings(platform: Platform) -> set[str]:
    """Return the ids of the DAG runs of all projects that alerts started."""
    client = airflow.client(platform.settings)
    names = [project["name"] for project in platform.json("projects")]
    runs = [run["dag_run_id"] for name in names for run in client.send(airflow.runs(name))]
    return {run for run in runs if run.startswith("retrain__")}


def failures(report: Path) -> tuple[int, list[str]]:
    """Return the number of requests in a report of newline-delimited JSON, and the failed checks."""
    requests, problems = 0, []
    for line in report.read_text().splitlines():
        event: Any = json.loads(line)
        recorder = event.get("ScenarioFinished", {}).get("recorder", {})
        requests += len(recorder.get("interactions", {}))
        for checks in recorder.get("checks", {}).values():
            for check in checks:
                if check["status"] == "failure":
                    failure = check["failure_info"]["failure"]
                    problems.append(f"{recorder['label']}: {failure['title']}: {failure.get('message', '')[:200]}")
    return requests, problems


def test_the_service_answers_as_its_document_says(trained_platform: Platform, tally: Tally, tmp_path: Path) -> None:
    platform = trained_platform  # a project without a champion would respond with 503
    before = retrainings(platform)
    report = tmp_path / "report.ndjson"
    completed = subprocess.run(
        [
            *(ROOT / ".venvs" / "dev" / "bin" / "schemathesis", "run", f"{platform.settings.serving_url}/openapi.json"),
            *("--phases", "examples,coverage,fuzzing", "--checks", CHECKS, "--max-time", str(SECONDS)),
            *(
                "--seed",
                SEED,
                "--max-examples",
                "15",
                "--continue-on-failure",
                "--workers",
                "2",
                "--no-shrink",
                "--suppress-health-check",
                "all",
            ),
            *("--request-timeout", "10", "--max-response-time", "10", "--warnings", "off", "--no-color"),
            *("--report", "ndjson", "--report-ndjson-path", str(report)),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS * 4,
    )
    assert report.exists(), completed.stdout[-3000:] + completed.stderr[-3000:]
    attempts, problems = failures(report)
    assert attempts > 200, completed.stdout[-3000:]
    # Random rows are drift, and drift may trigger a retraining, but at most one.
    started = sorted(retrainings(platform) - before)
    problems += [f"retrainings {started}"] if len(started) > 1 else []
    tally.add(
        Row(
            what="schemathesis against the OpenAPI document",
            attempts=attempts,
            breaches=problems,
            note=f"{len(started)} retrainings",
        )
    )
    assert completed.returncode == 0, completed.stdout[-3000:]
