"""Prometheus and Alertmanager as the platform starts them: who gets in, and that every part of the platform does."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from monitoring import login
from monitoring.__main__ import main
from monitoring.queries import unreached
from phaseflow.embedded import binaries, lifecycle, passwords, prometheus, rest
from phaseflow.embedded.program import Program
from phaseflow.settings import PORTS, USER, Settings, from_environment

FOREIGN = "http://foreign.example"
ALWAYS = """
groups:
- name: test
  rules: [{alert: Always, expr: prometheus_notifications_alertmanagers_discovered > 0, labels: {project: titanic, severity: info}}]
"""


def free_ports() -> dict[str, str]:
    """An address for every part on a port that nothing listens on."""
    with contextlib.ExitStack() as stack:
        probes = {name: stack.enter_context(socket.socket()) for name in PORTS}
        for probe in probes.values():
            probe.bind(("127.0.0.1", 0))
        return {
            f"PHASEFLOW_{name.upper()}_URL": f"http://127.0.0.1:{probe.getsockname()[1]}"
            for name, probe in probes.items()
        }


def eventually(what: str, condition: Callable[[], Any], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.1)
    return value


def command(program: Program, settings: Settings) -> list[str]:
    """Its command line at the port of the test."""
    address = getattr(settings, f"{program.name}_url").removeprefix("http://")
    return [f"--web.listen-address={address}" if "listen-address=127" in word else word for word in program.argv]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A platform of which Prometheus and Alertmanager run, with the generated files and one alert that always fires."""
    home = tmp_path_factory.mktemp("home")
    environment = {"PHASEFLOW_HOME": str(home), **free_ports()}
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        settings = from_environment()
        found = binaries.ensure(settings, print)
        passwords.ensure(settings)
        assert main(["generate", "--out", str(prometheus.folder(settings))]) == 0
        (prometheus.folder(settings) / "rules" / "always.yaml").write_text(ALWAYS)
        with contextlib.ExitStack() as stack:
            log = stack.enter_context((home / "log").open("w"))
            programs = prometheus.programs(settings, found)
            for program in programs:
                process = subprocess.Popen(command(program, settings), stdout=log, stderr=log)
                stack.callback(process.wait)
                stack.callback(process.terminate)
            with httpx.Client(timeout=2) as client:
                for program in programs:
                    eventually(
                        program.name,
                        lambda program=program: lifecycle.healthy(program.health, client, settings),
                    )
            yield settings


def test_without_the_login_nobody_gets_in(settings: Settings) -> None:
    alert = [{"labels": {"alertname": "Forged", "project": "titanic", "action": "retrain"}}]
    origin = {"Origin": FOREIGN}
    posted = httpx.post(f"{settings.alertmanager_url}/api/v2/alerts", json=alert, headers=origin)
    assert posted.status_code == 401
    asked = {"Origin": FOREIGN, "Access-Control-Request-Method": "POST"}
    assert httpx.options(f"{settings.alertmanager_url}/api/v2/alerts", headers=asked).status_code == 401
    assert not [
        alert for alert in rest.alertmanager_alerts(settings, "titanic") if alert["labels"]["alertname"] == "Forged"
    ]
    for address in (
        f"{settings.prometheus_url}/api/v1/query?query=up",
        f"{settings.prometheus_url}/",
        f"{settings.prometheus_url}/metrics",
        f"{settings.alertmanager_url}/api/v2/status",
        f"{settings.alertmanager_url}/",
    ):
        assert httpx.get(address).status_code == 401, address
        assert httpx.get(address, auth=(USER, "wrong")).status_code == 401, address
    # Neither password opens the other's door.
    assert httpx.get(f"{settings.prometheus_url}/", auth=settings.login("alertmanager")).status_code == 401


def test_with_it_alertmanager_takes_alerts(settings: Settings) -> None:
    alert = [{"labels": {"alertname": "Posted", "project": "posted"}}]
    address = f"{settings.alertmanager_url}/api/v2/alerts"
    assert httpx.post(address, json=alert, auth=settings.login("alertmanager")).status_code == 200
    eventually("the alert", lambda: rest.alertmanager_alerts(settings, "posted"))


def test_prometheus_lets_no_other_origin_read_an_answer(settings: Settings) -> None:
    answer = httpx.get(
        f"{settings.prometheus_url}/api/v1/query?query=up",
        headers={"Origin": FOREIGN},
        auth=settings.login("prometheus"),
    )
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_every_part_that_asks_them_has_the_login(settings: Settings) -> None:
    asked = rest.Prometheus(settings)
    eventually("the scrape of both", lambda: len(asked.query('up{job=~"prometheus|alertmanager"} == 1')) == 2)
    away = {"serving", "monitor", "pipelines"}  # each is "down" from its first scrape on
    eventually("the scrape of the others", lambda: {job for job, _, _ in unreached(settings)} == away)
    eventually("the alert's way to Alertmanager", lambda: rest.alertmanager_alerts(settings, "titanic"))


def test_the_same_files_come_of_a_second_start(settings: Settings) -> None:
    folder = prometheus.folder(settings)
    names = ("prometheus-web.yaml", "alertmanager-web.yaml", "prometheus.yaml", "grafana/datasources/prometheus.yaml")
    before = {name: (folder / name).stat().st_mtime_ns for name in names}
    always = (folder / "rules" / "always.yaml").read_text()
    assert main(["generate", "--out", str(folder)]) == 0
    (folder / "rules" / "always.yaml").write_text(always)
    assert {name: (folder / name).stat().st_mtime_ns for name in names} == before


def test_the_passwords_are_in_their_own_files_alone(settings: Settings) -> None:
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
    assert capsys.readouterr().err.strip().endswith("Make it with `phaseflow up`")
    assert not os.path.lexists(tmp_path / "monitoring")
