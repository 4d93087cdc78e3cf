"""Tests of the one login before the real Airflow: its API server with the auth manager that reads the reverse proxy's identity."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from cli.charts.tests import login, nginx
from cli.charts.tests.login import PAGE, Platform
from cli.charts.tests.nginx import IDENTITY, LOGIN
from cli.charts.tests.rendering import Helm, containers, pods
from cli.local import airflow, passwords
from phaseflow.settings import ROOT, Settings, from_environment
from phaseflow.testing import free_port

# Airflow starts for minutes on a busy machine.
pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1500)]

API = "/airflow/api/v2"
RUNS = f"{API}/dags/titanic/dagRuns"
TRIGGER = {"logical_date": None, "conf": {}}


@dataclass(frozen=True, slots=True)
class Airflow:
    """An API server whose database has the DAG `titanic`; nothing runs there."""

    port: int
    settings: Settings


@pytest.fixture(scope="module")
def airflow_server(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    home = tmp_path_factory.mktemp("airflow")
    port = free_port()
    base = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "PHASEFLOW"))}
    base |= {"PHASEFLOW_HOME": str(home), "PHASEFLOW_ONLY": "titanic", "PYTHONPATH": str(ROOT)}
    settings = from_environment(base)
    passwords.ensure(settings)
    (settings.secrets / "identity_secret").write_text(IDENTITY)
    (server,) = [
        pod
        for owner, pod in pods(helm.objects("platform", *login.values("http://issuer", "http://127.0.0.1")))
        if owner == "Deployment p-airflow-api-server"
    ]
    rendered = {variable["name"]: variable.get("value") for variable in containers(server)[-1]["env"]}
    environment = base | airflow.environment(settings)
    environment |= {
        "AIRFLOW__CORE__AUTH_MANAGER": rendered["AIRFLOW__CORE__AUTH_MANAGER"],
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}/airflow",
        "FORWARDED_ALLOW_IPS": "*",
    }
    program = str(settings.python("dags").parent / "airflow")
    for arguments in (("db", "migrate"), ("dags", "reserialize")):
        command = [program, *arguments]
        completed = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert completed.returncode == 0, completed.stdout + completed.stderr
    command = [program, "api-server", "--host", "127.0.0.1", "--port", str(port), "--proxy-headers"]
    with login.program(port, home / "api-server.log", *command, environment=environment, seconds=600):
        yield Airflow(port, settings)


@pytest.fixture(scope="module")
def platform(helm: Helm, airflow_server: Airflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder: Path = tmp_path_factory.mktemp("login")
    parts = nginx.Upstreams(default=1, by_name={"p-airflow": airflow_server.port})
    with login.running(helm, folder, parts, first_page=f"{API}/version") as platform:
        yield platform


@pytest.fixture(scope="module")
def sessions(platform: Platform) -> dict[str, httpx.Client]:
    return {role: platform.session(user) for role, user in login.USERS.items()}


def test_a_viewer_reads_but_can_neither_trigger_nor_change_nor_delete(sessions: dict[str, httpx.Client]) -> None:
    viewer = sessions["viewer"]
    assert [dag["dag_id"] for dag in viewer.get(f"{API}/dags").raise_for_status().json()["dags"]].count("titanic") == 1
    assert viewer.get(RUNS).status_code == 200
    for method, path, body in (
        ("POST", RUNS, TRIGGER),
        ("PATCH", f"{API}/dags/titanic", {"is_paused": True}),
        ("POST", f"{API}/dags/titanic/clearTaskInstances", {"dry_run": True}),
        ("DELETE", f"{API}/dags/titanic", None),
        ("GET", f"{API}/variables", None),
        ("GET", f"{API}/connections", None),
        ("POST", f"{API}/pools", {"name": "x", "slots": 1}),
    ):
        assert viewer.request(method, path, json=body).status_code == 403, (method, path)


def test_an_operator_triggers_and_an_administrator_deletes(sessions: dict[str, httpx.Client]) -> None:
    operator, admin = sessions["operator"], sessions["admin"]
    run = operator.post(RUNS, json=TRIGGER)
    assert run.status_code == 200, run.text
    path = f"{RUNS}/{run.json()['dag_run_id']}"
    assert run.json()["triggering_user_name"] == "olga@example.com"
    assert operator.delete(path).status_code == 403
    assert operator.get(f"{API}/variables").status_code == 403
    assert admin.delete(path).status_code == 204
    assert admin.get(f"{API}/variables").status_code == 200
    log = admin.get(f"{API}/eventLogs", params={"event": "trigger_dag_run"}).raise_for_status().json()["event_logs"]
    assert "olga@example.com" in {entry["owner"] for entry in log}


def test_forged_headers_are_nobody(
    platform: Platform, airflow_server: Airflow, sessions: dict[str, httpx.Client]
) -> None:
    forged = {"x-phaseflow-user": "anna@example.com", "x-phaseflow-role": "admin", "x-phaseflow-identity": "guess"}
    assert sessions["viewer"].post(RUNS, json=TRIGGER, headers=forged).status_code == 403
    # Another pod that reaches Airflow around the reverse proxy.
    direct = f"http://127.0.0.1:{airflow_server.port}{RUNS}"
    for headers in (forged, {**forged, "x-phaseflow-identity": ""}, {}):
        assert httpx.post(direct, json=TRIGGER, headers=headers, trust_env=False).status_code == 401
    with platform.client() as client:
        assert client.get(RUNS, headers=forged).status_code == 401
        # With a token that Airflow refuses, the reverse proxy lets the request through.
        assert client.get(RUNS, headers=forged | {"authorization": "Bearer x"}).status_code in (401, 403)


def test_a_program_gets_a_token_for_the_password(platform: Platform, airflow_server: Airflow) -> None:
    body = {"username": "admin", "password": airflow_server.settings.secret("airflow_admin_password")}
    with platform.client() as client:
        assert client.post("/airflow/auth/token", json={**body, "password": "guess"}).status_code == 401
        assert client.post("/airflow/auth/token", json={**body, "username": "anna@example.com"}).status_code == 401
        token = client.post("/airflow/auth/token", json=body).raise_for_status().json()["access_token"]
        headers = {"authorization": f"Bearer {token}"}
        run = client.post(RUNS, json=TRIGGER, headers=headers).raise_for_status().json()
        assert client.delete(f"{RUNS}/{run['dag_run_id']}", headers=headers).status_code == 204
        # The reverse proxy's own password is not Airflow's.
        assert client.get(RUNS, auth=LOGIN).status_code == 401


def test_the_pages_login_and_logout_are_those_of_the_reverse_proxy(platform: Platform) -> None:
    with closing(platform.session("vera")) as client:
        assert "<title>Airflow" in client.get("/airflow/", headers=PAGE).raise_for_status().text
        back = client.get(f"{API}/auth/login", params={"next": f"{platform.proxy.address}/airflow/dags"}, headers=PAGE)
        onward = client.get(back.headers["location"], headers=PAGE)
        assert onward.headers["location"] == f"{platform.proxy.address}/airflow/dags"
        elsewhere = client.get("/airflow/auth/login", params={"next": "https://evil.example.com/"}, headers=PAGE)
        assert "evil" not in elsewhere.headers["location"]
        out = client.get(f"{API}/auth/logout", headers=PAGE)
        assert out.headers["location"] == "/logout"
        assert client.get("/logout", follow_redirects=True).url.path == "/proxy/logged-out"
        assert client.get(RUNS).status_code == 401
