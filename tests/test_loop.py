"""One turn of the loop, as `make demo` runs it, and the state of the platform afterwards."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time

import httpx
import pytest

from phaseflow.clients import airflow
from phaseflow.settings import ROOT
from phaseflow.testing import wait_for
from tests.conftest import Platform

pytestmark = pytest.mark.platform


def test_every_step_of_the_story_happened(platform: Platform) -> None:
    story = platform.story
    assert story["ok"]
    assert [step["step"] for step in story["steps"] if not step["ok"]] == []
    assert len(story["steps"]) >= 10


def test_the_loop_swapped_versions_without_a_failed_request(platform: Platform) -> None:
    story = platform.story
    assert story["first"]["version"] == "1"
    assert story["traffic"]["failed"] == 0
    assert story["traffic"]["sent"] > 500
    assert {"1", story["second"]["version"]} <= set(story["traffic"]["versions"])
    model = platform.get(f"{platform.settings.serving_url}/titanic/model")
    assert model["version"] == story["last"]["version"]  # another retraining may have followed the first
    assert not model["stale"]


def test_the_events_say_why(platform: Platform) -> None:
    from phaseflow import events
    from phaseflow.store import Store

    recorded = events.read(Store(platform.settings.store), "titanic")
    kinds = [event["type"].rsplit(".", 1)[1] for event in recorded]
    assert {"snapshot", "verdict", "promotion", "retraining", "swap", "alert"} <= set(kinds)
    retraining = next(event for event in recorded if event["type"].endswith("retraining"))
    # Drift, or the loss of quality that it causes, whichever is detected first.
    assert re.match(r"The PSI of \w+ is|The error rate is", retraining["data"]["why"])
    verdicts = [event["data"] for event in recorded if event["type"].endswith("verdict")]
    assert verdicts[0]["champion"] is None
    assert verdicts[1]["champion"] == "1"
    gain = next(check for check in verdicts[1]["checks"] if check["check"].startswith("gain"))
    assert gain["passed"]
    assert gain["observed"] > 0.002


def test_up_again_changes_nothing(platform: Platform) -> None:
    before = {p["name"]: p["pid"] for p in platform.json("status")["programs"]}
    platform.command("up")
    assert {p["name"]: p["pid"] for p in platform.json("status")["programs"]} == before


def test_a_crashed_process_comes_back(platform: Platform) -> None:
    pid = platform.programs()["serving"]["pid"]
    os.kill(pid, 9)

    def back() -> bool:
        serving = platform.programs()["serving"]
        return bool(serving["healthy"]) and serving["pid"] not in {0, pid}

    wait_for("the service's return", back)
    assert httpx.get(f"{platform.settings.serving_url}/titanic/model", timeout=10).status_code == 200


def test_every_project_trains_and_serves(trained_platform: Platform) -> None:
    others = [project["name"] for project in trained_platform.json("projects") if project["name"] != "titanic"]
    for name in others:
        model = trained_platform.get(f"{trained_platform.settings.serving_url}/{name}/model")
        assert model["version"] == "1"


def test_the_service_answers_as_training_did_on_every_row_of_the_holdout(platform: Platform) -> None:
    for project in platform.json("projects"):
        completed = subprocess.run(
            [
                platform.settings.python(project["environment"]),
                "-W",
                "ignore",
                ROOT / "bench" / "parity.py",
                project["name"],
            ],
            env=platform.environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert completed.returncode == 0, completed.stdout + completed.stderr
        match = re.search(r"(\d+) rows, largest difference ([0-9.e+-]+)", completed.stdout)
        assert match, completed.stdout
        rows, max_difference = match.groups()
        assert int(rows) > 50
        assert float(max_difference) <= 1e-5


def test_no_panel_of_any_dashboard_is_empty_after_traffic(platform: Platform) -> None:
    projects = platform.json("projects")
    names = [project["name"] for project in projects]
    token = platform.settings.secret("hook_token")
    players = [
        subprocess.Popen(
            [
                *(ROOT / "bin" / "phaseflow", "traffic", project["name"], "--rows", "0", "--rate", "5", "--json"),
                *(["--feedback"] if project["schema"]["target"] else []),
            ],
            env=platform.environment,
            stdout=subprocess.DEVNULL,
        )
        for project in projects
    ]
    output = ""
    try:
        for name in names:

            def reported(name: str = name) -> bool:
                response = httpx.post(
                    f"{platform.settings.monitor_url}/projects/{name}/report",
                    headers={"Authorization": f"Bearer {token}"},
                    timeout=250,
                )
                return response.status_code == 200 and response.json()["rows"] > 0

            wait_for(f"a report of {name}", reported, 120)

        def full() -> bool:
            nonlocal output
            completed = subprocess.run(
                [platform.settings.python("command"), "-m", "monitoring", "check"],
                env=platform.environment | {"PYTHONPATH": str(ROOT)},
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            output = completed.stdout + completed.stderr
            return completed.returncode == 0

        end = time.monotonic() + 120
        while not full():
            assert time.monotonic() < end, output
            time.sleep(2)
    finally:
        for player in players:
            player.terminate()
            player.wait(timeout=30)


def test_every_page_shows_data(platform: Platform) -> None:
    for path in ("/", "/projects/titanic", "/dashboards/phaseflow-titanic", "/dashboards/phaseflow-platform"):
        page = httpx.get(f"{platform.settings.portal_url}{path}", timeout=30)
        assert page.status_code == 200
        assert "titanic" in page.text.lower()
    for address in (
        f"{platform.settings.airflow_url}/",
        f"{platform.settings.mlflow_url}/",
        f"{platform.settings.serving_url}/docs",
        f"{platform.settings.monitor_url}/reports",
    ):
        assert httpx.get(address, timeout=30, follow_redirects=True).status_code == 200, address
    for part, path in (("alertmanager", "/api/v2/status"), ("prometheus", "/api/v1/status/buildinfo")):
        address = getattr(platform.settings, f"{part}_url") + path
        assert httpx.get(address, timeout=30).status_code == 401, address
        assert httpx.get(address, auth=platform.settings.login(part), timeout=30).status_code == 200, address


def test_no_foreign_page_makes_the_platform_retrain(platform: Platform) -> None:
    """Posting an alert needs the password, and an alert that Prometheus does not confirm triggers no retraining."""
    settings = platform.settings
    alert = [{"labels": {"alertname": "PhaseflowFeatureDrift", "project": "house_prices", "action": "retrain"}}]
    address = f"{settings.alertmanager_url}/api/v2/alerts"
    headers = {"Origin": "http://foreign.example"}
    assert httpx.post(address, json=alert, headers=headers, timeout=30).status_code == 401
    before = {run["dag_run_id"] for run in airflow.client(settings).send(airflow.runs("house_prices"))}
    unconfirmed = 'phaseflow_retrain_requests_total{outcome="unconfirmed",project="house_prices"} '

    def refusals() -> float:
        lines = httpx.get(f"{settings.monitor_url}/metrics", timeout=30).text.splitlines()
        return next(float(line.removeprefix(unconfirmed)) for line in lines if line.startswith(unconfirmed))

    first = refusals()
    assert httpx.post(address, json=alert, auth=settings.login("alertmanager"), timeout=30).status_code == 200
    wait_for("the hook's refusal", lambda: refusals() > first)
    assert {run["dag_run_id"] for run in airflow.client(settings).send(airflow.runs("house_prices"))} == before


def test_rollback_is_one_command(platform: Platform) -> None:
    # Traffic of other tests may have triggered a retraining. Wait, or its promotion could change what is rolled back.
    client, ended = airflow.client(platform.settings), {"success", "failed"}
    wait_for("the end of every run", lambda: {r["state"] for r in client.send(airflow.runs("titanic"))} <= ended, 240)
    before = platform.get(f"{platform.settings.serving_url}/titanic/model")["version"]
    # The version before it: the first or a later one.
    alias = f"{platform.settings.mlflow_url}/api/2.0/mlflow/registered-models/alias?name=titanic&alias=previous"
    previous = platform.get(alias)["model_version"]["version"]
    assert previous != before
    platform.command("rollback", "titanic")
    after = wait_for(
        "the swap back",
        lambda: (
            (version := platform.get(f"{platform.settings.serving_url}/titanic/model")["version"]) != before and version
        ),
    )
    assert after == previous
    platform.command("rollback", "titanic")
    wait_for(
        "the swap forth", lambda: platform.get(f"{platform.settings.serving_url}/titanic/model")["version"] == before
    )


def test_everything_listens_on_the_loopback_alone(platform: Platform) -> None:
    import psutil

    listening = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PHASEFLOW_HOME") == str(platform.settings.home):
                listening += [
                    (c.laddr.ip, c.laddr.port) for c in process.net_connections("tcp") if c.status == "LISTEN"
                ]
        except psutil.Error:
            continue
    assert len(listening) >= 8
    assert {address for address, _ in listening} == {"127.0.0.1"}


def test_secrets_are_their_owners_alone_and_in_no_command_line_or_log(platform: Platform) -> None:
    import psutil

    secrets = {path.name: path.read_text().strip() for path in platform.settings.secrets.iterdir()}
    assert len(secrets) >= 5
    for path in platform.settings.secrets.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    values = [value for name, value in secrets.items() if not name.endswith(".json")]
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline()) + " ".join(f"{k}={v}" for k, v in process.environ().items())
        except psutil.Error:
            continue
        assert not [value for value in values if value in line], process.name()
    for log in (platform.settings.home / "logs").glob("*.log"):
        text = log.read_text(errors="replace")
        assert not [value for value in values if value in text], log


def test_no_foreign_name_was_looked_up(platform: Platform, names: list[str]) -> None:
    if not os.environ.get("PHASEFLOW_ISOLATED"):
        pytest.skip("This system allows no network namespace, so look-ups can't be recorded")
    own = {"localhost", socket.gethostname(), socket.getfqdn()}
    assert sorted({name for name in names if name.split(".")[0] not in {n.split(".")[0] for n in own}}) == []
