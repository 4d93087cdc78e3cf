"""schemathesis (https://schemathesis.readthedocs.io) against the service's own OpenAPI document: no 5xx, and no status it does not name."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from phaseflow.embedded import rest
from phaseflow.settings import ROOT
from tests.conftest import Platform
from tests.tally import Row, Tally

pytestmark = pytest.mark.platform
SECONDS = 30
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
SEED = "20261126"


def retrainings(platform: Platform) -> set[str]:
    """Ids of the DAG runs that alerts started, of every project."""
    airflow = rest.Airflow(platform.settings)
    names = [project["name"] for project in platform.json("projects")]
    runs = [run["dag_run_id"] for name in names for run in airflow.runs(name)]
    return {run for run in runs if run.startswith("retrain__")}


def failures(report: Path) -> tuple[int, list[str]]:
    """How many requests a report of newline-delimited JSON holds, and the checks that failed."""
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
    platform = trained_platform  # a project without a champion would answer 503
    before = retrainings(platform)
    report = tmp_path / "report.ndjson"
    done = subprocess.run(
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
    assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    tried, problems = failures(report)
    assert tried > 200, done.stdout[-3000:]
    # Random rows are drift, and drift may be answered by a retraining: at most by one of a project, however many rows came.
    started = sorted(retrainings(platform) - before)
    problems += [f"retrainings {started}"] if len(started) > 1 else []
    tally.add(
        Row(
            what="schemathesis against the OpenAPI document",
            tried=tried,
            got_in=problems,
            note=f"{len(started)} retrainings",
        )
    )
    assert done.returncode == 0, done.stdout[-3000:]
