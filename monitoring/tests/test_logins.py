"""Prometheus and Alertmanager as the platform starts them: every part of the platform has access, and nobody else does."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from cli.local import binaries, launcher, lifecycle, passwords, prometheus
from cli.local.processes import MARK
from cli.local.program import Program
from monitoring import login
from monitoring.__main__ import main
from monitoring.queries import unreached
from phaseflow.clients import alertmanager
from phaseflow.clients import prometheus as prometheus_api
from phaseflow.errors import from_output
from phaseflow.settings import PORTS, ROOT, USER, Settings, from_environment
from phaseflow.testing import Request, Response, free_ports, http_server, wait_for

FOREIGN = "http://foreign.example"
ALWAYS = """
groups:
- name: test
  rules: [{alert: Always, expr: prometheus_notifications_alertmanagers_discovered > 0, labels: {project: titanic, severity: info}}]
"""


def addresses() -> dict[str, str]:
    """A URL with a free port for every part."""
    ports = zip(PORTS, free_ports(len(PORTS)), strict=True)
    return {f"PHASEFLOW_{name.upper()}_URL": f"http://127.0.0.1:{port}" for name, port in ports}


def command(program: Program, settings: Settings) -> list[str]:
    """The program's command line with the port of the test, through the launcher."""
    address = getattr(settings, f"{program.name}_url").removeprefix("http://")
    argv = [f"--web.listen-address={address}" if "listen-address=127" in word else word for word in program.argv]
    return launcher.command(settings, dataclasses.replace(program, argv=tuple(argv)))


@pytest.fixture(scope="module")
def deliveries() -> list[Request]:
    """What Alertmanager sends to people."""
    return []


@pytest.fixture(scope="module")
def people(deliveries: list[Request]) -> Iterator[str]:
    """Address of a webhook that records the deliveries."""

    def record(request: Request) -> Response:
        deliveries.append(request)
        return Response()

    with http_server(record) as address:
        yield address


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, people: str) -> Iterator[Settings]:
    """A platform where only Prometheus and Alertmanager run, with the generated files and an alert that always fires."""
    home = tmp_path_factory.mktemp("home")
    (home / "receivers.yaml").write_text(yaml.safe_dump([{"name": "on-call", "webhook_configs": [{"url": people}]}]))
    environment = {
        "PHASEFLOW_HOME": str(home),
        "PHASEFLOW_ALERT_RECEIVERS": str(home / "receivers.yaml"),
        **addresses(),
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        settings = from_environment()
        installed = binaries.ensure(settings, print)
        passwords.ensure(settings)
        assert main(["generate", "--out", str(prometheus.folder(settings))]) == 0
        (prometheus.folder(settings) / "rules" / "always.yaml").write_text(ALWAYS)
        with contextlib.ExitStack() as stack:
            log = stack.enter_context((home / "log").open("w"))
            states = []
            for program in prometheus.programs(settings, installed):
                process = subprocess.Popen(
                    command(program, settings), cwd=ROOT, env=os.environ | {MARK: program.name}, stdout=log, stderr=log
                )
                stack.callback(process.wait)
                stack.callback(process.terminate)
                states.append((program, {"statename": "RUNNING", "pid": process.pid}))
            with httpx.Client(timeout=2) as client:
                for program, state in states:
                    wait_for(program.name, functools.partial(lifecycle.healthy, program, state, client, settings))
            yield settings


def test_without_the_login_every_request_is_refused(settings: Settings) -> None:
    alert = [{"labels": {"alertname": "Forged", "project": "titanic", "action": "retrain"}}]
    origin = {"Origin": FOREIGN}
    response = httpx.post(f"{settings.alertmanager_url}/api/v2/alerts", json=alert, headers=origin)
    assert response.status_code == 401
    preflight = {"Origin": FOREIGN, "Access-Control-Request-Method": "POST"}
    assert httpx.options(f"{settings.alertmanager_url}/api/v2/alerts", headers=preflight).status_code == 401
    assert not [alert for alert in alertmanager.alerts(settings, "titanic") if alert["labels"]["alertname"] == "Forged"]
    for address in (
        f"{settings.prometheus_url}/api/v1/query?query=up",
        f"{settings.prometheus_url}/",
        f"{settings.prometheus_url}/metrics",
        f"{settings.alertmanager_url}/api/v2/status",
        f"{settings.alertmanager_url}/",
    ):
        assert httpx.get(address).status_code == 401, address
        assert httpx.get(address, auth=(USER, "wrong")).status_code == 401, address
    # The password of one part does not open the other.
    assert httpx.get(f"{settings.prometheus_url}/", auth=settings.login("alertmanager")).status_code == 401


def test_with_the_login_alertmanager_accepts_alerts(settings: Settings) -> None:
    alert = [{"labels": {"alertname": "Posted", "project": "posted"}}]
    address = f"{settings.alertmanager_url}/api/v2/alerts"
    assert httpx.post(address, json=alert, auth=settings.login("alertmanager")).status_code == 200
    wait_for("the alert", lambda: alertmanager.alerts(settings, "posted"))


def test_prometheus_lets_no_other_origin_read_a_response(settings: Settings) -> None:
    response = httpx.get(
        f"{settings.prometheus_url}/api/v1/query?query=up",
        headers={"Origin": FOREIGN},
        auth=settings.login("prometheus"),
    )
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


def test_every_part_that_queries_them_has_the_login(settings: Settings) -> None:
    client = prometheus_api.client(settings)
    up = prometheus_api.query('up{job=~"prometheus|alertmanager"} == 1')
    wait_for("the scrape of both", lambda: len(client.send(up)) == 2)
    down = {"serving", "monitor", "pipelines"}  # each is "down" after its first scrape
    wait_for("the scrape of the others", lambda: {job for job, _, _ in unreached(settings)} == down)
    wait_for("the alert's way to Alertmanager", lambda: alertmanager.alerts(settings, "titanic"))


def test_a_second_start_generates_the_same_files(settings: Settings) -> None:
    folder = prometheus.folder(settings)
    names = ("prometheus-web.yaml", "alertmanager-web.yaml", "prometheus.yaml", "grafana/datasources/prometheus.yaml")
    before = {name: (folder / name).stat().st_mtime_ns for name in names}
    always = (folder / "rules" / "always.yaml").read_text()
    assert main(["generate", "--out", str(folder)]) == 0
    (folder / "rules" / "always.yaml").write_text(always)
    assert {name: (folder / name).stat().st_mtime_ns for name in names} == before


def test_the_passwords_are_only_in_their_own_files(settings: Settings) -> None:
    values = [settings.secret(f"{part}_password") for part in ("prometheus", "alertmanager")]
    files = [path for path in prometheus.folder(settings).rglob("*") if path.is_file() and path.name != "always.yaml"]
    assert len(files) > 10
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert not [value for value in values if value in path.read_text()], path
    for program in prometheus.programs(settings, binaries.ensure(settings, print)):
        assert not [value for value in values if value in " ".join(program.argv)]


def test_another_password_has_another_hash(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    first = login.web_configuration("first", path)
    path.write_text(yaml.safe_dump(first))
    assert login.web_configuration("first", path) == first
    assert login.web_configuration("second", path) != first
    for content in ("", "basic_auth_users: 3", "basic_auth_users: {phaseflow: plain}", "{", "\x00"):
        path.write_text(content)
        assert login.web_configuration("first", path)["basic_auth_users"][USER].startswith("$2b$10$")


def test_without_a_password_nothing_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PHASEFLOW_HOME", str(tmp_path))
    assert main(["generate", "--out", str(tmp_path / "monitoring")]) == 2
    assert str(from_output(capsys.readouterr().err)).endswith("Make it with `phaseflow up`")
    assert not os.path.lexists(tmp_path / "monitoring")


def test_the_first_receiver_gets_an_alert(settings: Settings, deliveries: list[Request]) -> None:
    alert = [{"labels": {"alertname": "PhaseflowRegistryAway", "project": "all"}}]
    address = f"{settings.alertmanager_url}/api/v2/alerts"
    httpx.post(address, json=alert, auth=settings.login("alertmanager")).raise_for_status()

    def delivered() -> list[str]:
        alerts = [alert for request in deliveries for alert in request.json["alerts"]]
        return [alert for alert in alerts if alert["labels"]["alertname"] == "PhaseflowRegistryAway"]

    wait_for("the delivery", delivered, 120)
