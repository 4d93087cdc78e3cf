"""The hook with a fake Airflow API over HTTP, a crash of the monitor, and Evidently on a real window."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

from phaseflow import discovery, events
from phaseflow.settings import ROOT, Settings, from_environment
from phaseflow.store import Store
from phaseflow.testing import Request, Response, free_port, http_server, wait_for

TITANIC = discovery.get("titanic")
LOGIN = "Basic " + base64.b64encode(b"phaseflow:open sesame").decode()


class Upstreams:
    """A fake of the HTTP APIs that the monitor calls: those of Airflow, Prometheus and the service."""

    def __init__(self) -> None:
        self.runs: dict[str, str] = {}
        """Run id -> reason."""
        self.active = 0
        self.refuse = 0
        self.firing: list[dict[str, Any]] = []
        """The alerts in Prometheus's API."""
        self.prometheus_status = 200
        self.delay = threading.Event()
        self.delay.set()
        self.url = ""
        self.stop = contextlib.ExitStack()

    @contextlib.contextmanager
    def serve(self) -> Iterator[Upstreams]:
        """Respond during a `with` block."""
        with self.stop:
            self.url = self.stop.enter_context(http_server(self.respond))
            yield self

    def respond(self, request: Request) -> Response:
        """The response to a request of the monitor."""
        return self._get(request) if request.method == "GET" else self._post(request)

    def _get(self, request: Request) -> Response:
        if request.path.endswith("/model"):
            return Response({"version": "1", "snapshot": "s1"})
        if request.path.startswith("/api/v1/"):
            if request.headers["authorization"] != LOGIN:
                return Response({}, 401)
            data = self.prometheus_data(request.path)
            return Response({"status": "success", "data": data}, self.prometheus_status)
        if "dagRuns" in request.path:
            if request.headers.get("authorization") != "Bearer t":
                return Response({}, 401)
            return Response({"total_entries": self.active, "dag_runs": []})
        return Response({}, 404)

    def _post(self, request: Request) -> Response:
        if request.path == "/auth/token":
            return Response({"access_token": "t"}, 201 if request.json["password"] == "secret" else 401)
        if request.headers["authorization"] != "Bearer t":
            return Response({}, 401)
        if self.refuse:
            return Response({"detail": "no"}, self.refuse)
        self.delay.wait(30)
        run = request.json["dag_run_id"]
        exists = run in self.runs
        self.runs[run] = request.json["conf"]["reason"]
        return Response(request.json, 409 if exists else 200)

    def fires(self, *delivered: dict[str, Any]) -> None:
        """Make these alerts fire in Prometheus."""
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

    def prometheus_data(self, path: str) -> dict[str, Any]:
        """Prometheus's data for `/api/v1/alerts` and `/api/v1/rules?type=alert`."""
        if path == "/api/v1/alerts":
            return {"alerts": self.firing}
        rules = [{"name": a["labels"]["alertname"], "labels": a["labels"], "type": "alerting"} for a in self.firing]
        return {"groups": [{"name": "g", "file": "f", "rules": rules}]}


class Monitor:
    """A monitor process."""

    def __init__(self, home: Path, upstreams: Upstreams) -> None:
        self.environment = os.environ | {
            "PHASEFLOW_HOME": str(home),
            "PHASEFLOW_AIRFLOW_URL": upstreams.url,
            "PHASEFLOW_SERVING_URL": upstreams.url,
            "PHASEFLOW_PIPELINES_URL": upstreams.url,
            "PHASEFLOW_PROMETHEUS_URL": upstreams.url,
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
        payload = content if content is not None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return httpx.post(f"{self.settings.monitor_url}{path}", content=payload, headers=headers, timeout=200)

    def metric(self, text: str) -> float:
        lines = httpx.get(f"{self.settings.monitor_url}/metrics").text.splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(text)), 0.0)

    def kill(self) -> None:
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()


@pytest.fixture
def upstreams() -> Iterator[Upstreams]:
    with Upstreams().serve() as upstreams:
        yield upstreams


@pytest.fixture
def monitor(tmp_path: Path, upstreams: Upstreams) -> Iterator[Monitor]:
    monitor = Monitor(tmp_path, upstreams)
    yield monitor
    monitor.kill()


def alert(name: str = "PhaseflowFeatureDrift", start: str = "2026-01-01T00:00:00Z", **labels: str) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": {"alertname": name, "project": "titanic", "action": "retrain", **labels},
        "annotations": {"description": "the age has drifted"},
        "startsAt": start,
        "fingerprint": "f",
    }


def test_a_hundred_alerts_at_once_make_one_retraining(monitor: Monitor, upstreams: Upstreams) -> None:
    upstreams.fires(alert(), *(alert(f"Other{number}") for number in range(50)))

    def send(number: int) -> str:
        body = {"alerts": [alert(start=f"2026-01-01T00:00:{number % 60:02d}Z"), alert(f"Other{number}")]}
        response = monitor.post("/hooks/alertmanager", body)
        assert response.status_code == 200
        return ",".join(response.json()["outcomes"]["titanic"])

    with ThreadPoolExecutor(16) as pool:
        outcomes = ",".join(pool.map(send, range(50))).split(",")
    assert len(outcomes) == 100
    assert outcomes.count("triggered") == 1
    assert set(outcomes) <= {"triggered", "duplicate", "cooldown"}
    assert list(upstreams.runs.values()) == ["the age has drifted"]
    assert monitor.metric('phaseflow_retrain_requests_total{outcome="triggered",project="titanic"}') == 1
    recorded = events.read(monitor.store, "titanic")
    assert len(recorded) == 100
    assert [e["data"]["why"] for e in recorded if e["type"].endswith("retraining")] == ["the age has drifted"]


def test_while_the_dag_is_running_nothing_starts(monitor: Monitor, upstreams: Upstreams) -> None:
    upstreams.active = 1
    upstreams.fires(alert())
    assert monitor.post("/hooks/alertmanager", {"alerts": [alert()]}).json()["outcomes"] == {"titanic": ["duplicate"]}
    assert upstreams.runs == {}


def test_without_airflow_the_hook_responds_503_and_the_next_alert_sends_the_same_run(
    monitor: Monitor, upstreams: Upstreams
) -> None:
    upstreams.fires(alert())
    upstreams.refuse = 500
    response = monitor.post("/hooks/alertmanager", {"alerts": [alert()]})
    assert response.status_code == 503
    assert "Alertmanager sends the alert again" in response.json()["error"]["fix"]
    upstreams.refuse = 0
    monitor.post("/hooks/alertmanager", {"alerts": [alert()]})
    assert len(upstreams.runs) == 1


def test_killed_between_decision_and_trigger_it_retrains_once(monitor: Monitor, upstreams: Upstreams) -> None:
    upstreams.fires(alert())
    upstreams.delay.clear()
    memory = monitor.settings.home / "monitor" / "titanic.json"
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(monitor.post, "/hooks/alertmanager", {"alerts": [alert()]})
        wait_for("the decision", memory.exists)
        monitor.kill()
        assert isinstance(future.exception(), httpx.HTTPError)
    pending = json.loads(memory.read_text())["pending"]
    assert pending.startswith("retrain__PhaseflowFeatureDrift__")
    upstreams.delay.set()
    monitor.start()
    wait_for("the run", lambda: list(upstreams.runs) == [pending])
    assert monitor.post("/hooks/alertmanager", {"alerts": [alert()]}).json()["outcomes"] == {"titanic": ["duplicate"]}
    assert list(upstreams.runs) == [pending]


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
    response = monitor.post("/hooks/alertmanager", content=content)
    assert response.status_code == status
    assert response.json()["error"]["problem"].startswith(text)


def test_strangers_change_nothing(monitor: Monitor, upstreams: Upstreams) -> None:
    assert monitor.post("/hooks/alertmanager", {"alerts": [alert()]}, token="wrong").status_code == 401
    assert monitor.post("/projects/titanic/report", token="t").status_code == 401
    for header in ("token", "Basic token", "bearer", "Bearer", "token Bearer token"):
        response = httpx.post(
            f"{monitor.settings.monitor_url}/projects/titanic/report", headers={"Authorization": header}
        )
        assert response.status_code == 401, header
    body = monitor.post("/hooks/alertmanager", {"alerts": [alert(project="../x"), alert(action="none")]}).json()
    assert body["outcomes"] == {"../x": ["ignored"], "titanic": ["ignored"]}
    assert upstreams.runs == {}
    assert monitor.post("/projects/titanik/report").json()["error"]["fix"] == 'Did you mean "titanic"?'
    for path in ("/reports/titanic/20260101T000000Z/report.html", "/reports/titanic/..%2f..%2fx/report.html"):
        assert httpx.get(f"{monitor.settings.monitor_url}{path}").status_code == 404


def test_an_endless_header_is_refused_and_the_file_limit_is_raised(monitor: Monitor) -> None:
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
    """Write a snapshot, and an hour of predictions and labels."""

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
    monitor.store.write("datasets/titanic/s1/manifest.json", b'{"source": "sample"}')
    ids = [f"r-{number}" for number in range(count)]
    part = f"date={now:%Y-%m-%d}/hour={now:%H}"
    predictions = pl.DataFrame(
        {"id": ids, "time": [now] * count, "version": ["1"] * count, **rows(count, age, 2), "prediction": ["0"] * count}
    )
    write(f"predictions/titanic/{part}/a.parquet", predictions)
    write(
        f"feedback/titanic/{part}/a.parquet", pl.DataFrame({"id": ids, "time": [now] * count, "label": ["1"] * count})
    )


@pytest.mark.parametrize(("age", "drifted"), [(30.0, False), (60.0, True)])
def test_evidently_reports_drift_only_if_there_is_some(monitor: Monitor, age: float, drifted: bool) -> None:
    logged(monitor, age)
    response = monitor.post("/projects/titanic/report")
    assert response.status_code == 200, response.text
    report = response.json()
    assert report["rows"] == 300
    assert ("age" in report["drifted"]) == drifted
    assert "sex" not in report["drifted"]
    page = httpx.get(report["report"])
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert monitor.metric('phaseflow_report_rows{project="titanic"}') == 300
    assert monitor.metric('phaseflow_report_feature_score{feature="age",project="titanic"}') == pytest.approx(
        report["scores"]["age"]
    )
    monitor.kill()
    monitor.start()  # a new process restores the last report
    wait_for("the last report", lambda: monitor.metric('phaseflow_report_rows{project="titanic"}') == 300)


def test_a_report_leaves_the_processor_to_scrapes_and_alerts(monitor: Monitor) -> None:
    logged(monitor, 30.0)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(monitor.post, "/projects/titanic/report")
        children: list[str] = []

        def at_work() -> bool:
            threads = Path(f"/proc/{monitor.child.pid}/task").glob("*/children")
            children[:] = [child for thread in threads for child in thread.read_text().split()]
            return bool(children) and os.getpriority(os.PRIO_PROCESS, int(children[0])) > 0

        wait_for("a report at work", at_work)
        own = os.getpriority(os.PRIO_PROCESS, monitor.child.pid)
        assert os.getpriority(os.PRIO_PROCESS, int(children[0])) == min(own + 10, 19)
        assert future.result().json()["rows"] == 300


def test_an_empty_window_makes_no_report(monitor: Monitor) -> None:
    report = monitor.post("/projects/titanic/report").json()
    assert report["rows"] == 0
    assert "a report needs 20" in report["reason"]


class ObjectStore:
    """S3 with the report of one project. It responds to nothing before `available` is set."""

    KEY = "p/reports/titanic/20260101T000000Z/report.json"

    def __init__(self) -> None:
        self.available = threading.Event()

    def respond(self, request: Request) -> Response:
        """The list of objects, or the report."""
        self.available.wait(60)
        dates = {"last-modified": "Thu, 01 Jan 2026 00:00:00 GMT", "etag": '"x"'}
        if "list-type" not in request.path:
            return Response({"time": 1.0, "rows": 7, "drifted": [], "scores": {}}, headers=dates)
        item = f"<Contents><Key>{self.KEY}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>9</Size></Contents>"
        content = item if "titanic" in request.path else ""
        return Response(f"<ListBucketResult><IsTruncated>false</IsTruncated>{content}</ListBucketResult>")


def test_the_monitor_starts_without_the_object_store_and_waits_for_it(tmp_path: Path, upstreams: Upstreams) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    store = ObjectStore()
    with http_server(store.respond) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHASEFLOW_STORE", "s3://bucket/p")
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
        monitor = Monitor(tmp_path, upstreams)
        try:
            assert monitor.up()
            store.available.set()
            wait_for("the last report", lambda: monitor.metric('phaseflow_report_rows{project="titanic"}') == 7)
        finally:
            store.available.set()
            monitor.kill()
