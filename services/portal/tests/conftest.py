"""A real Prometheus fed by a small exporter, hostile names among its labels, and the portal before it."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from phaseflow.embedded.binaries import ensure, find
from phaseflow.settings import PORTS, USER, Settings, from_environment
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


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """The first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not true within {seconds} s")
        threading.Event().wait(0.1)
    return found


class Exporter(BaseHTTPRequestHandler):
    """Metrics as the service and the monitor give them; counters grow with time."""

    begin = time.time()

    def do_GET(self) -> None:
        own = 'project="titanic"'
        passed = time.time() - self.begin + 10
        lines = [
            f'phaseflow_requests_total{{{own},route="predict",code="200"}} {passed * 20}',
            f'phaseflow_requests_total{{{own},route="predict",code="503"}} {passed * 5}',
            *(
                f'phaseflow_request_duration_seconds_bucket{{{own},route="predict",le="{le}"}} {passed * count}'
                for le, count in (("0.005", 20), ("0.05", 25), ("+Inf", 25))
            ),
            f'phaseflow:feature_psi{{{own},version="3",feature="fare"}} 0.5',
            f'phaseflow:feature_psi{{{own},version="3",feature="{HOSTILE}"}} 0.1',
            f'phaseflow:window_rows{{{own},version="3"}} 900',
            f"phaseflow_drift_minimum_rows{{{own}}} 200",
            f'phaseflow_model_info{{{own},version="3",alias="champion",candidate="random_forest"}} 1',
            f'phaseflow_model_info{{{own},version="2",alias="previous",candidate="{HOSTILE}"}} 1',
            f'phaseflow_feature_bin_total{{{own},version="3",feature="prediction",bin="0"}} {passed * 30}',
            f'phaseflow_feature_bin_total{{{own},version="3",feature="prediction",bin="1"}} {passed * 10}',
            'phaseflow_dag_runs_total{dag="titanic",state="success"} 4',
            'phaseflow_dag_run_duration_seconds{dag="titanic"} 41',
            "phaseflow_registry_up 1",
        ]
        body = ("\n".join(lines) + "\n").encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


PASSWORD = "the password of Prometheus"
HASH = "$2b$04$zvfMXFEoLAgGoQ8zv622L.r8HPAvDWZiLaSFG7JFWaeZRvUoCQWrC"
"""Of it, by bcrypt at its lowest cost."""
LOGIN = (USER, PASSWORD)


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Prometheus with a login that has scraped the exporter, and whose alert fires."""
    home = tmp_path_factory.mktemp("prometheus")
    exporter = ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    threading.Thread(target=exporter.serve_forever, daemon=True).start()
    (home / "rules.yml").write_text(RULES)
    target = f"127.0.0.1:{exporter.server_port}"
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
            answer = httpx.get(f"{url}/api/v1/alerts", auth=LOGIN).raise_for_status()  # 503 while it starts
        except httpx.HTTPError:
            return None
        found = answer.json()["data"]["alerts"]
        return [alert for alert in found if alert["state"] == "firing"]

    def rates() -> Any:
        query = {"query": "rate(phaseflow_requests_total[1m]) > 0"}
        return httpx.get(f"{url}/api/v1/query", params=query, auth=LOGIN).json()["data"]["result"]

    with (home / "log").open("w") as log, subprocess.Popen(program, stdout=log, stderr=log) as process:
        try:
            eventually(alerts)
            eventually(rates)
            yield url
        finally:
            process.terminate()
            exporter.shutdown()


def settings_for(home: Path, **urls: str) -> Settings:
    """Settings of a platform of which nothing runs but `urls` (by the part's name)."""
    (home / "secrets").mkdir(exist_ok=True)
    (home / "secrets" / "prometheus_password").write_text(PASSWORD)
    dead = f"http://127.0.0.1:{free_port()}"
    environment = {f"PHASEFLOW_{name.upper()}_URL": urls.get(name, dead) for name in PORTS}
    return from_environment(
        environment | {"PHASEFLOW_HOME": str(home), "PHASEFLOW_DASHBOARDS": str(HERE / "dashboards")}
    )


@pytest.fixture
def measured(prometheus: str, tmp_path: Path) -> Settings:
    """Settings of a platform of which Prometheus alone runs."""
    return settings_for(tmp_path, prometheus=prometheus)


@pytest.fixture
def away(tmp_path: Path) -> Settings:
    """Settings of a platform of which nothing runs."""
    return settings_for(tmp_path)


@pytest.fixture
def hurried() -> bool:
    """Whether the portal waits for its parts no longer than in life; else a busy machine changes no page."""
    return False


@pytest.fixture
def browse(hurried: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Settings], TestClient]]:
    """Opens the portal of a platform."""
    opened: list[TestClient] = []
    if not hurried:
        monkeypatch.setattr(source, "HASTY", httpx.Timeout(30))
        monkeypatch.setattr(source, "PATIENT", httpx.Timeout(30))

    def open_(settings: Settings) -> TestClient:
        client = TestClient(application(settings), base_url="http://127.0.0.1", raise_server_exceptions=True)
        opened.append(client.__enter__())
        return client

    yield open_
    for client in opened:
        client.__exit__(None, None, None)
