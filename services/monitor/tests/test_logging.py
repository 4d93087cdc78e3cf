"""A real monitor logs in each format, its libraries too, and never a secret."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from phaseflow import log
from phaseflow.settings import ROOT, from_environment
from phaseflow.testing import free_port, wait_for

TEXT = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING|ERROR|CRITICAL) monitor: .")


@pytest.mark.parametrize("log_format", log.FORMATS)
def test_every_line_of_a_running_monitor_has_the_format(tmp_path: Path, log_format: str) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    environment = os.environ | {f"PHASEFLOW_{part}_URL": nobody for part in ("AIRFLOW", "PIPELINES", "PROMETHEUS")}
    environment |= {
        "PHASEFLOW_HOME": str(tmp_path),
        "PHASEFLOW_PORT_OFFSET": str(free_port() - 8085),
        "PHASEFLOW_LOG_FORMAT": log_format,
        "PYTHONPATH": str(ROOT),
    }
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "airflow_admin_password").write_text("open sesame")
    url, path = from_environment(environment).monitor_url, tmp_path / "log"
    with path.open("wb") as output:
        command = [sys.executable, "-m", "services.monitor"]
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        wait_for("the monitor's start", lambda: httpx.get(f"{url}/healthz").is_success, 120, httpx.HTTPError)
        headers = {"Authorization": "Bearer open sesame"}
        assert httpx.post(f"{url}/projects/titanic/report", headers=headers).status_code == 401
        expected = ("all POST requests are rejected", "the runs of Airflow can't be read")
        wait_for("the messages", lambda: all(text in path.read_text() for text in expected), 60)
    finally:
        child.terminate()
        child.wait()
    lines = path.read_text().splitlines()
    if log_format == "json":
        records = [json.loads(line) for line in lines]
        assert {(record["component"], record["level"]) for record in records} == {("monitor", "WARNING")}
        assert all(re.fullmatch(r"[\d-]+T[\d:.]+Z", record["time"]) for record in records)
    else:
        assert [line for line in lines if not TEXT.match(line)] == []
    assert "open sesame" not in path.read_text()
