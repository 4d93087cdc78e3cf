"""A project made from a file by one command goes through the whole loop: trained on 2011, sent 2012, retrained, better."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from phaseflow import events
from phaseflow.embedded import rest
from phaseflow.settings import ROOT
from phaseflow.store import Store
from tests.conftest import Platform
from tests.test_loop import wait_for

pytestmark = [pytest.mark.platform, pytest.mark.timeout(900)]


def test_bike_sharing_learns_the_second_year(platform: Platform, mirror: Path, tmp_path: Path) -> None:
    header, *days = (mirror / "bike_sharing_daily.csv").read_text().splitlines()
    for year in ("2011", "2012"):
        lines = [header, *(day for day in days if day.split(",")[1].startswith(year))]
        (tmp_path / f"{year}.csv").write_text("\n".join(lines) + "\n")
    into = platform.environment["PHASEFLOW_PROJECTS"]
    platform.command("new", "bike_sharing", "--csv", str(tmp_path / "2011.csv"), "--target", "cnt", "--into", into)
    written = {
        path: path.read_bytes() for path in Path(into).rglob("*") if path.is_file() and "__pycache__" not in str(path)
    }
    platform.command("trigger", "bike_sharing", "--wait")
    settings = platform.settings
    first = platform.get(f"{settings.serving_url}/bike_sharing/model")
    assert first["version"] == "1"
    player = subprocess.Popen(
        [
            settings.python("tabular"),
            "-W",
            "ignore",
            ROOT / "tests" / "play.py",
            "bike_sharing",
            tmp_path / "2012.csv",
            "30",
        ],
        env=platform.environment | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )

    def firing() -> bool:
        query = 'ALERTS{alertname="PhaseflowFeatureDrift",project="bike_sharing",alertstate="firing"}'
        answer = httpx.get(
            f"{settings.prometheus_url}/api/v1/query",
            params={"query": query},
            auth=rest.login(settings, "prometheus"),
            timeout=10,
        ).json()
        return bool(answer["data"]["result"])

    try:
        wait_for("the drift alert", firing, 120)
        wait_for("the swap", lambda: platform.get(f"{settings.serving_url}/bike_sharing/model")["version"] != "1", 300)
        wait_for("the alert's end", lambda: not firing(), 120)
    finally:
        player.send_signal(signal.SIGTERM)
        said, _ = player.communicate(timeout=60)
    traffic = json.loads(said)
    assert traffic["failed"] == 0
    assert {"1", "2"} <= traffic["versions"].keys()
    recorded = events.read(Store(settings.store), "bike_sharing")
    assert any(event["type"].endswith("retraining") for event in recorded)
    verdict = next(e["data"] for e in recorded if e["type"].endswith("verdict") and e["data"]["champion"] == "1")
    assert verdict["passed"]
    # Both models on the same holdout of both years: the second year is what the first model can't know.
    assert verdict["metrics"]["r2"] > verdict["champion_metrics"]["r2"] + 0.1
    assert written == {path: path.read_bytes() for path in written}, "the project runs unedited"
    assert os.listdir(into).count("bike_sharing") == 1  # noqa: PTH208  # names are enough
