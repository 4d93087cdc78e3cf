"""A project that one command creates from a CSV file runs the whole loop: trained on 2011, retrained on 2012."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from phaseflow import events
from phaseflow.clients import prometheus
from phaseflow.settings import ROOT
from phaseflow.store import Store
from phaseflow.testing import wait_for
from tests.conftest import Platform

pytestmark = [pytest.mark.platform, pytest.mark.timeout(900)]


def test_bike_sharing_learns_the_second_year(platform: Platform, mirror: Path, tmp_path: Path) -> None:
    header, *days = (mirror / "bike_sharing_daily.csv").read_text().splitlines()
    for year in ("2011", "2012"):
        lines = [header, *(day for day in days if day.split(",")[1].startswith(year))]
        (tmp_path / f"{year}.csv").write_text("\n".join(lines) + "\n")
    projects_folder = platform.environment["PHASEFLOW_PROJECTS"]
    platform.command(
        "new", "bike_sharing", "--csv", str(tmp_path / "2011.csv"), "--target", "cnt", "--into", projects_folder
    )
    files = {
        path: path.read_bytes()
        for path in Path(projects_folder).rglob("*")
        if path.is_file() and "__pycache__" not in str(path)
    }
    platform.command("trigger", "bike_sharing", "--wait")
    settings = platform.settings
    model = platform.get(f"{settings.serving_url}/bike_sharing/model")
    assert model["version"] == "1"
    replayer = subprocess.Popen(
        [
            settings.python("tabular"),
            "-W",
            "ignore",
            ROOT / "tests" / "replay.py",
            "bike_sharing",
            tmp_path / "2012.csv",
            "30",
        ],
        env=platform.environment | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )

    client = prometheus.client(settings)

    def firing() -> bool:
        query = 'ALERTS{alertname="PhaseflowFeatureDrift",project="bike_sharing",alertstate="firing"}'
        return bool(client.send(prometheus.query(query)))

    try:
        wait_for("the drift alert", firing, 120)
        wait_for("the swap", lambda: platform.get(f"{settings.serving_url}/bike_sharing/model")["version"] != "1", 300)
        wait_for("the alert's end", lambda: not firing(), 120)
    finally:
        replayer.send_signal(signal.SIGTERM)
        stdout, _ = replayer.communicate(timeout=60)
    traffic = json.loads(stdout)
    assert traffic["failed"] == 0
    assert {"1", "2"} <= traffic["versions"].keys()
    recorded = events.read(Store(settings.store), "bike_sharing")
    assert any(event["type"].endswith("retraining") for event in recorded)
    verdict = next(e["data"] for e in recorded if e["type"].endswith("verdict") and e["data"]["champion"] == "1")
    assert verdict["passed"]
    # Both models on the same holdout of both years: the first model was not trained on the second year.
    assert verdict["metrics"]["r2"] > verdict["champion_metrics"]["r2"] + 0.1
    assert files == {path: path.read_bytes() for path in files}, "the project runs unedited"
    assert os.listdir(projects_folder).count("bike_sharing") == 1  # noqa: PTH208  # names are enough
