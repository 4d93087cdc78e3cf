"""The hook against a small real Airflow API, its crash, and Evidently on a real window."""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

from phaseflow import events, registry
from phaseflow.settings import ROOT, Settings, from_environment
from phaseflow.store import Store

TITANIC = registry.get("titanic")
LOGIN = "Basic " + base64.b64encode(b"phaseflow:open sesame").decode()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(what: str, look: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if look():
            return
        time.sleep(0.05)
    pytest.fail(f"{what} did not happen within {seconds:.0f} s")


class World:
    """Airflow's and the service's REST, as far as the monitor calls them."""

    def __init__(self) -> None:
        self.runs: dict[str, str] = {}
        """Run id -> reason."""
        self.active = 0
        self.refuse = 0
        self.firing: list[dict[str, Any]] = []
        """What Prometheus says of alerts, by its API."""
        self.prometheus_status = 200
        self.delay = threading.Event()
        self.delay.set()
        world = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, status: int, body: Any) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                if self.path.endswith("/model"):
                    self.answer(200, {"version": "1", "snapshot": "s1"})
                elif self.path.startswith("/api/v1/"):
                    if self.headers["authorization"] != LOGIN:
                        self.answer(401, {})
                    else:
                        self.answer(world.prometheus_status, {"status": "success", "data": world.said(self.path)})
                elif "dagRuns" in self.path:
                    self.answer(200, {"total_entries": world.active, "dag_runs": []})
                else:
                    self.answer(404, {})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.path == "/auth/token":
                    self.answer(201 if body["password"] == "secret" else 401, {"access_token": "t"})
                elif self.headers["authorization"] != "Bearer t":
                    self.answer(401, {})
                elif world.refuse:
                    self.answer(world.refuse, {"detail": "no"})
                else:
                    world.delay.wait(30)
                    known = body["dag_run_id"] in world.runs
                    world.runs[body["dag_run_id"]] = body["conf"]["reason"]
                    self.answer(409 if known else 200, body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it so
                """Say nothing."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def fires(self, *delivered: dict[str, Any]) -> None:
        """Prometheus confirms these alerts."""
        self.firing = [
            {
                "labels": alert["labels"],
                "annotations": alert["annotations"],
                "state": "firing",
                "activeAt": alert["startsAt"],
                "value": "1e+00",
            }
            for alert in delivered
        ]

    def said(self, path: str) -> dict[str, Any]:
        """Prometheus's answer to `/api/v1/alerts` and `/api/v1/rules?type=alert`."""
        if path == "/api/v1/alerts":
            return {"alerts": self.firing}
        rules = [{"name": a["labels"]["alertname"], "labels": a["labels"], "type": "alerting"} for a in self.firing]
        return {"groups": [{"name": "g", "file": "f", "rules": rules}]}


class Server(ThreadingHTTPServer):
    request_queue_size = 128


class Monitor:
    """A monitor process."""

    def __init__(self, home: Path, world: World) -> None:
        self.environment = os.environ | {
            "PHASEFLOW_HOME": str(home),
            "PHASEFLOW_AIRFLOW_URL": world.url,
            "PHASEFLOW_SERVING_URL": world.url,
            "PHASEFLOW_PIPELINES_URL": world.url,
            "PHASEFLOW_PROMETHEUS_URL": world.url,
            "PHASEFLOW_PORT_OFFSET": str(free_port() - 8085),
            "PHASEFLOW_DRIFT_COOLDOWN_SECONDS": "3600",
            "PHASEFLOW_DRIFT_WINDOW_SECONDS": "3600",
            "PYTHONPATH": str(ROOT),
        }
        self.settings: Settings = from_environment(self.environment)
        self.store = Store(self.settings.store)
        (home / "secrets").mkdir(exist_ok=True)
        (home / "secrets" / "hook_token").write_text("token")
        (home / "secrets" / "airflow_admin_password").write_text("secret")
        (home / "secrets" / "prometheus_password").write_text("open sesame")
        self.start()

    def start(self) -> None:
        with (self.settings.home / "log").open("ab") as log:
            command = [sys.executable, "-m", "services.monitor"]
            self.child = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        wait_for("the monitor's start", self.up)

    def up(self) -> bool:
        try:
            return httpx.get(f"{self.settings.monitor_url}/healthz", timeout=1).status_code == 200
        except httpx.HTTPError:
            return False

    def post(self, path: str, body: Any = None, token: str = "token", content: bytes | None = None) -> httpx.Response:
        sent = content if content is not None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return httpx.post(f"{self.settings.monitor_url}{path}", content=sent, headers=headers, timeout=200)

    def metric(self, text: str) -> float:
        lines = httpx.get(f"{self.settings.monitor_url}/metrics").text.splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(text)), 0.0)

    def kill(self) -> None:
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()


@pytest.fixture
def world() -> Iterator[World]:
    found = World()
    yield found
    found.server.shutdown()


@pytest.fixture
def monitor(tmp_path: Path, world: World) -> Iterator[Monitor]:
    found = Monitor(tmp_path, world)
    yield found
    found.kill()


def alert(name: str = "PhaseflowFeatureDrift", start: str = "2026-01-01T00:00:00Z", **labels: str) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": {"alertname": name, "project": "titanic", "action": "retrain", **labels},
        "annotations": {"description": "the age has drifted"},
        "startsAt": start,
        "fingerprint": "f",
    }


def test_a_hundred_alerts_at_once_make_one_retraining(monitor: Monitor, world: World) -> None:
    world.fires(alert(), *(alert(f"Other{number}") for number in range(50)))

    def send(number: int) -> str:
        body = {"alerts": [alert(start=f"2026-01-01T00:00:{number % 60:02d}Z"), alert(f"Other{number}")]}
        answer = monitor.post("/hooks/alertmanager", body)
        assert answer.status_code == 200
        return ",".join(answer.json()["outcomes"]["titanic"])

    with ThreadPoolExecutor(16) as pool:
        outcomes = ",".join(pool.map(send, range(50))).split(",")
    assert len(outcomes) == 100
    assert outcomes.count("triggered") == 1
    assert set(outcomes) <= {"triggered", "duplicate", "cooldown"}
    assert list(world.runs.values()) == ["the age has drifted"]
    assert monitor.metric('phaseflow_retrain_requests_total{outcome="triggered",project="titanic"}') == 1
    recorded = events.read(monitor.store, "titanic")
    assert len(recorded) == 100
    assert [e["data"]["why"] for e in recorded if e["type"].endswith("retraining")] == ["the age has drifted"]


def test_while_the_dag_is_at_work_nothing_starts(monitor: Monitor, world: World) -> None:
    world.active = 1
    world.fires(alert())
    assert monitor.post("/hooks/alertmanager", {"alerts": [alert()]}).json()["outcomes"] == {"titanic": ["duplicate"]}
    assert world.runs == {}


def test_airflow_away_answers_503_and_the_next_alert_sends_the_same_run(monitor: Monitor, world: World) -> None:
    world.fires(alert())
    world.refuse = 500
    answer = monitor.post("/hooks/alertmanager", {"alerts": [alert()]})
    assert answer.status_code == 503
    assert "Alertmanager sends the alert again" in answer.json()["error"]["fix"]
    world.refuse = 0
    monitor.post("/hooks/alertmanager", {"alerts": [alert()]})
    assert len(world.runs) == 1


def test_killed_between_decision_and_trigger_it_retrains_once(monitor: Monitor, world: World) -> None:
    world.fires(alert())
    world.delay.clear()
    memory = monitor.settings.home / "monitor" / "titanic.json"
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(monitor.post, "/hooks/alertmanager", {"alerts": [alert()]})
        wait_for("the decision", memory.exists)
        monitor.kill()
        assert isinstance(sent.exception(), httpx.HTTPError)
    pending = json.loads(memory.read_text())["pending"]
    assert pending.startswith("retrain__PhaseflowFeatureDrift__")
    world.delay.set()
    monitor.start()
    wait_for("the run", lambda: list(world.runs) == [pending])
    assert monitor.post("/hooks/alertmanager", {"alerts": [alert()]}).json()["outcomes"] == {"titanic": ["duplicate"]}
    assert list(world.runs) == [pending]


@pytest.mark.parametrize(
    ("content", "status", "text"),
    [
        (b"{", 422, "The payload is not Alertmanager's"),
        (b'{"alerts": 3}', 422, "The payload is not Alertmanager's"),
        (b'{"alerts": [{"status": "firing", "labels": {"a": 1}}]}', 422, "The payload is not Alertmanager's"),
        (b'{"a": "' + b"x" * (2 << 20) + b'"}', 413, "The payload is larger than 1 MiB"),
    ],
)
def test_wrong_payloads_are_refused(monitor: Monitor, content: bytes, status: int, text: str) -> None:
    answer = monitor.post("/hooks/alertmanager", content=content)
    assert answer.status_code == status
    assert answer.json()["error"]["problem"].startswith(text)


def test_strangers_change_nothing(monitor: Monitor, world: World) -> None:
    assert monitor.post("/hooks/alertmanager", {"alerts": [alert()]}, token="wrong").status_code == 401
    assert monitor.post("/projects/titanic/report", token="t").status_code == 401
    for header in ("token", "Basic token", "bearer", "Bearer", "token Bearer token"):
        answer = httpx.post(
            f"{monitor.settings.monitor_url}/projects/titanic/report", headers={"Authorization": header}
        )
        assert answer.status_code == 401, header
    said = monitor.post("/hooks/alertmanager", {"alerts": [alert(project="../x"), alert(action="none")]}).json()
    assert said["outcomes"] == {"../x": ["ignored"], "titanic": ["ignored"]}
    assert world.runs == {}
    assert monitor.post("/projects/titanik/report").json()["error"]["fix"] == 'Did you mean "titanic"?'
    for path in ("/reports/titanic/20260101T000000Z/report.html", "/reports/titanic/..%2f..%2fx/report.html"):
        assert httpx.get(f"{monitor.settings.monitor_url}{path}").status_code == 404


def test_a_header_without_end_is_refused_and_files_are_many(monitor: Monitor) -> None:
    with socket.create_connection(("127.0.0.1", monitor.settings.port("monitor")), timeout=30) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * (256 << 10))
        assert client.recv(100).startswith(b"HTTP/1.1 431")
    soft, hard = resource.prlimit(monitor.child.pid, resource.RLIMIT_NOFILE)
    assert soft == min(hard, 1 << 20)


def rows(count: int, age: float, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    columns: dict[str, Any] = {name: [TITANIC.example.get(name)] * count for name in TITANIC.schema.feature_names}
    return columns | {
        "age": np.clip(random.normal(age, 10, count), 0, 100).tolist(),
        "fare": random.uniform(5, 50, count).tolist(),
        "deck": random.choice(["A", "B"], count).tolist(),
        "sex": random.choice(["male", "female"], count).tolist(),
    }


def logged(monitor: Monitor, age: float, count: int = 300) -> None:
    """A snapshot, and an hour of predictions and truths beside it."""

    def write(key: str, frame: pl.DataFrame) -> None:
        path = monitor.store.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(path)

    now = datetime.now(UTC)
    train = pl.DataFrame(rows(600, 30, 1)).with_columns(
        survived=pl.Series(["0", "1"] * 300),
        _key=pl.lit("k"),
        _origin=pl.lit("base"),
        _time=pl.lit(None, pl.Datetime("us", "UTC")),
    )
    write("datasets/titanic/s1/train.parquet", train)
    ids = [f"r-{number}" for number in range(count)]
    part = f"date={now:%Y-%m-%d}/hour={now:%H}"
    predictions = pl.DataFrame(
        {"id": ids, "time": [now] * count, "version": ["1"] * count, **rows(count, age, 2), "prediction": ["0"] * count}
    )
    write(f"predictions/titanic/{part}/a.parquet", predictions)
    write(
        f"feedback/titanic/{part}/a.parquet", pl.DataFrame({"id": ids, "time": [now] * count, "truth": ["1"] * count})
    )


@pytest.mark.parametrize(("age", "drifted"), [(30.0, False), (60.0, True)])
def test_evidently_sees_drift_and_its_absence(monitor: Monitor, age: float, drifted: bool) -> None:
    logged(monitor, age)
    answer = monitor.post("/projects/titanic/report")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["rows"] == 300
    assert ("age" in found["drifted"]) == drifted
    assert "sex" not in found["drifted"]
    page = httpx.get(found["report"])
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert monitor.metric('phaseflow_report_rows{project="titanic"}') == 300
    assert monitor.metric('phaseflow_report_feature_score{feature="age",project="titanic"}') == pytest.approx(
        found["scores"]["age"]
    )
    monitor.kill()
    monitor.start()  # a new process remembers the last report
    assert monitor.metric('phaseflow_report_rows{project="titanic"}') == 300


def test_a_report_leaves_the_processor_to_scrapes_and_alerts(monitor: Monitor) -> None:
    logged(monitor, 30.0)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(monitor.post, "/projects/titanic/report")
        found: list[str] = []

        def at_work() -> bool:
            threads = Path(f"/proc/{monitor.child.pid}/task").glob("*/children")
            found[:] = [child for thread in threads for child in thread.read_text().split()]
            return bool(found) and os.getpriority(os.PRIO_PROCESS, int(found[0])) > 0

        wait_for("a report at work", at_work)
        own = os.getpriority(os.PRIO_PROCESS, monitor.child.pid)
        assert os.getpriority(os.PRIO_PROCESS, int(found[0])) == min(own + 10, 19)
        assert answer.result().json()["rows"] == 300


def test_an_empty_window_makes_no_report(monitor: Monitor) -> None:
    found = monitor.post("/projects/titanic/report").json()
    assert found["rows"] == 0
    assert "a report needs 20" in found["reason"]
