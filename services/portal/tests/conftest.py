"""A real Prometheus that scrapes a small exporter with hostile label values, and a portal that queries it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from cli.local.binaries import ensure, find
from phaseflow.settings import PORTS, USER, Settings, from_environment
from phaseflow.testing import Request, Response, free_port, http_server, until
from services.portal import source
from services.portal.app import application

HOSTILE = "<script>alert(1)</script>"
HERE = Path(__file__).parent
RULES = """
groups:
- name: test
  interval: 1s
  rules:
  - alert: FeatureDrift
    expr: max by (project) (phaseflow:feature_psi) > 0.25
    labels: {severity: "<b>warning</b>", action: retrain}
    annotations: {summary: "<img src=x onerror=alert(1)>", runbook_url: "javascript:alert(1)"}
"""


class Exporter:
    """Serves metrics like those of the service and the monitor; counters grow with time."""

    begin = time.time()

    def respond(self, _: Request) -> Response:
        own = 'project="titanic"'
        elapsed = time.time() - self.begin + 10
        lines = [
            f'phaseflow_requests_total{{{own},route="predict",code="200"}} {elapsed * 20}',
            f'phaseflow_requests_total{{{own},route="predict",code="503"}} {elapsed * 5}',
            *(
                f'phaseflow_request_duration_seconds_bucket{{{own},route="predict",le="{le}"}} {elapsed * count}'
                for le, count in (("0.005", 20), ("0.05", 25), ("+Inf", 25))
            ),
            f'phaseflow:feature_psi{{{own},version="3",feature="fare"}} 0.5',
            f'phaseflow:feature_psi{{{own},version="3",feature="{HOSTILE}"}} 0.1',
            f'phaseflow:window_rows{{{own},version="3"}} 900',
            f"phaseflow_drift_minimum_rows{{{own}}} 200",
            f'phaseflow_model_info{{{own},version="3",alias="champion",candidate="random_forest"}} 1',
            f'phaseflow_model_info{{{own},version="2",alias="previous",candidate="{HOSTILE}"}} 1',
            f'phaseflow_feature_bin_total{{{own},version="3",feature="prediction",bin="0"}} {elapsed * 30}',
            f'phaseflow_feature_bin_total{{{own},version="3",feature="prediction",bin="1"}} {elapsed * 10}',
            'phaseflow_dag_runs_total{dag="titanic",state="success"} 4',
            'phaseflow_dag_run_duration_seconds{dag="titanic"} 41',
            "phaseflow_registry_up 1",
        ]
        return Response("\n".join(lines) + "\n", headers={"content-type": "text/plain; version=0.0.4"})


PASSWORD = "the password of Prometheus"
HASH = "$2b$04$zvfMXFEoLAgGoQ8zv622L.r8HPAvDWZiLaSFG7JFWaeZRvUoCQWrC"
"""The bcrypt hash of PASSWORD, with the lowest cost."""
LOGIN = (USER, PASSWORD)


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Prometheus with a login, which has scraped the exporter and has a firing alert."""
    home = tmp_path_factory.mktemp("prometheus")
    (home / "rules.yml").write_text(RULES)
    target = f"127.0.0.1:{free_port()}"
    scrape = {"job_name": "serving", "static_configs": [{"targets": [target]}]}
    config = {"global": {"scrape_interval": "1s"}, "rule_files": ["rules.yml"], "scrape_configs": [scrape]}
    (home / "prometheus.yml").write_text(json.dumps(config))
    (home / "web.yml").write_text(json.dumps({"basic_auth_users": {USER: HASH}}))
    port = free_port()
    here = from_environment()
    binary = find(here).get("prometheus") or ensure(here, print).prometheus
    program = [str(binary), f"--config.file={home}/prometheus.yml", f"--web.config.file={home}/web.yml"]
    program += [f"--storage.tsdb.path={home}/data", f"--web.listen-address=127.0.0.1:{port}"]
    url = f"http://127.0.0.1:{port}"

    def alerts() -> Any:
        try:
            response = httpx.get(f"{url}/api/v1/alerts", auth=LOGIN).raise_for_status()  # 503 while it starts
        except httpx.HTTPError:
            return None
        alerts = response.json()["data"]["alerts"]
        return [alert for alert in alerts if alert["state"] == "firing"]

    def rates() -> Any:
        query = {"query": "rate(phaseflow_requests_total[1m]) > 0"}
        return httpx.get(f"{url}/api/v1/query", params=query, auth=LOGIN).json()["data"]["result"]

    exporter = http_server(Exporter().respond, int(target.rpartition(":")[2]))
    with exporter, (home / "log").open("w") as log, subprocess.Popen(program, stdout=log, stderr=log) as process:
        try:
            until(alerts)
            until(rates)
            yield url
        finally:
            process.terminate()


def settings_for(home: Path, **urls: str) -> Settings:
    """Settings of a platform where only the parts in `urls` (name to URL) run."""
    (home / "secrets").mkdir(exist_ok=True)
    (home / "secrets" / "prometheus_password").write_text(PASSWORD)
    dead = f"http://127.0.0.1:{free_port()}"
    environment = {f"PHASEFLOW_{name.upper()}_URL": urls.get(name, dead) for name in PORTS}
    return from_environment(
        environment | {"PHASEFLOW_HOME": str(home), "PHASEFLOW_DASHBOARDS": str(HERE / "dashboards")}
    )


@pytest.fixture
def measured(prometheus: str, tmp_path: Path) -> Settings:
    """Settings of a platform where only Prometheus runs."""
    return settings_for(tmp_path, prometheus=prometheus)


@pytest.fixture
def away(tmp_path: Path) -> Settings:
    """Settings of a platform where nothing runs."""
    return settings_for(tmp_path)


@pytest.fixture
def hurried() -> bool:
    """Whether the portal has its real timeouts; otherwise they are long, so that a busy machine does not change the pages."""
    return False


@pytest.fixture
def browse(hurried: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Settings], TestClient]]:
    """A function that opens the portal of a platform."""
    clients: list[TestClient] = []
    if not hurried:
        monkeypatch.setattr(source, "HASTY", httpx.Timeout(30))
        monkeypatch.setattr(source, "PATIENT", httpx.Timeout(30))

    def open_(settings: Settings) -> TestClient:
        client = TestClient(application(settings), base_url="http://127.0.0.1", raise_server_exceptions=True)
        clients.append(client.__enter__())
        return client

    yield open_
    for client in clients:
        client.__exit__(None, None, None)
