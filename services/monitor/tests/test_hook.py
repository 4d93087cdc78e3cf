"""Which alerts the hook acts on, what it records, and what no caller can do to the monitor."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import httpx
import pytest
from hypothesis import example, given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from phaseflow import discovery, events
from phaseflow.loops import METRIC
from phaseflow.settings import Settings, from_environment
from phaseflow.store import Store
from phaseflow.testing import wait_for
from services.monitor import app
from services.monitor.tests.test_monitor import Upstreams, alert

TOKEN = {"Authorization": "Bearer token"}
FEEDBACK = {"basis": "feedback"}


@pytest.fixture
def upstreams() -> Iterator[Upstreams]:
    with Upstreams().serve() as upstreams:
        yield upstreams


@pytest.fixture
def settings(tmp_path: Path, upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch) -> Settings:
    parts = ("AIRFLOW", "SERVING", "PIPELINES", "PROMETHEUS")
    environment = {f"PHASEFLOW_{part}_URL": upstreams.url for part in parts} | {
        "PHASEFLOW_HOME": str(tmp_path),
        "PHASEFLOW_DRIFT_COOLDOWN_SECONDS": "0",
        "PHASEFLOW_RETRAININGS_PER_DAY": "8",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    secrets = {"hook_token": "token", "airflow_admin_password": "secret", "prometheus_password": "open sesame"}
    (tmp_path / "secrets").mkdir()
    for name, value in secrets.items():
        (tmp_path / "secrets" / name).write_text(value)
    return from_environment()


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with opened(settings) as test_client:
        yield test_client


def opened(settings: Settings) -> TestClient:
    return TestClient(app.application(settings), base_url="http://127.0.0.1:8085", raise_server_exceptions=True)


def post(client: TestClient, *alerts: dict[str, Any]) -> httpx.Response:
    response: httpx.Response = client.post("/hooks/alertmanager", json={"alerts": list(alerts)}, headers=TOKEN)
    return response


def outcomes(client: TestClient, *alerts: dict[str, Any]) -> dict[str, list[str]]:
    response = post(client, *alerts)
    assert response.status_code == 200, response.text
    by_project: dict[str, list[str]] = response.json()["outcomes"]
    return by_project


def recorded(settings: Settings, project: str = "titanic") -> list[dict[str, Any]]:
    return [event["data"] | {"type": event["type"]} for event in events.read(Store(settings.store), project)]


def test_an_alert_that_prometheus_does_not_confirm_changes_nothing(
    client: TestClient, upstreams: Upstreams, settings: Settings
) -> None:
    forged = alert()
    assert outcomes(client, forged) == {"titanic": ["unconfirmed"]}
    upstreams.fires(alert(project="house_prices"), alert("PhaseflowQualityDrop"))
    assert outcomes(client, forged) == {"titanic": ["unconfirmed"]}
    upstreams.fires(forged)
    upstreams.firing[0]["state"] = "pending"
    assert outcomes(client, forged) == {"titanic": ["unconfirmed"]}
    # A label can't turn an alert without an action into one that retrains.
    upstreams.fires(alert("PhaseflowPredictionDrift"))
    del upstreams.firing[0]["labels"]["action"]
    assert outcomes(client, alert("PhaseflowPredictionDrift")) == {"titanic": ["unconfirmed"]}
    assert outcomes(client, forged | {"status": "resolved"}) == {"titanic": ["unconfirmed"]}
    assert upstreams.runs == {}
    assert recorded(settings) == []
    assert (
        'phaseflow_retrain_requests_total{outcome="unconfirmed",project="titanic"} 5.0' in client.get("/metrics").text
    )


def test_labels_override_nothing_of_the_event(client: TestClient, upstreams: Upstreams, settings: Settings) -> None:
    labels = {"outcome": "promoted", "why": "spoofed", "run": "none", "status": "fine", "alert": "other"}
    upstreams.fires(alert(**labels))
    delivered = alert(**labels, external="cluster")
    delivered["annotations"] = {"description": "a page wants it so"}
    assert outcomes(client, delivered) == {"titanic": ["triggered"]}
    (event,) = recorded(settings)
    assert event["type"] == "dev.phaseflow.retraining"
    assert (event["status"], event["outcome"], event["why"]) == ("firing", "triggered", "the age has drifted")
    assert event["run"].startswith("retrain__PhaseflowFeatureDrift__")
    assert event["alert"] == "PhaseflowFeatureDrift"
    assert event["labels"] == alert(**labels)["labels"]
    assert list(upstreams.runs.values()) == ["the age has drifted"]  # Prometheus's annotation, not the delivered one


def test_a_resolved_alert_of_a_rule_is_recorded(client: TestClient, upstreams: Upstreams, settings: Settings) -> None:
    upstreams.fires(alert())  # this also defines the rule
    assert outcomes(client, alert() | {"status": "resolved"}) == {"titanic": ["resolved"]}
    (event,) = recorded(settings)
    assert (event["type"], event["status"], event["alert"]) == (
        "dev.phaseflow.alert",
        "resolved",
        "PhaseflowFeatureDrift",
    )


@pytest.mark.parametrize("status", [500, 404])
def test_while_prometheus_is_unavailable_alertmanager_sends_the_alert_again(
    client: TestClient, upstreams: Upstreams, status: int
) -> None:
    upstreams.fires(alert())
    upstreams.prometheus_status = status
    response = post(client, alert())
    assert response.status_code == 503
    assert f"Prometheus responded with {status} to GET /api/v1/alerts" in response.json()["error"]["problem"]
    assert response.json()["error"]["fix"] == (
        "Check `phaseflow status` and `phaseflow logs`; Alertmanager sends the alert again."
    )
    assert upstreams.runs == {}
    upstreams.prometheus_status = 200
    assert outcomes(client, alert()) == {"titanic": ["triggered"]}


def test_a_wrong_password_of_prometheus_is_reported_with_the_fix(
    client: TestClient, upstreams: Upstreams, settings: Settings
) -> None:
    upstreams.fires(alert())
    (settings.secrets / "prometheus_password").write_text("wrong")
    fix = "Give both the same secret prometheus_password; Alertmanager sends the alert again."
    assert post(client, alert()).json()["error"]["fix"] == fix
    (settings.secrets / "prometheus_password").write_text("open sesame")
    upstreams.firing = 3  # type: ignore[assignment]  # an invalid response
    assert post(client, alert()).status_code == 503


def test_drift_leaves_a_retraining_for_quality_and_all_projects_have_one_cap(
    client: TestClient, upstreams: Upstreams, settings: Settings
) -> None:
    drift, quality = alert(), alert("PhaseflowQualityDrop", **FEEDBACK)
    upstreams.fires(drift, quality)
    cap = discovery.get("titanic").drift.daily_cap
    assert outcomes(client, *[drift] * cap)["titanic"] == ["triggered"] * (cap - 1) + ["cap"]
    why = recorded(settings)[-1]["why"]
    assert why.startswith("retrained 3 times today because of requests alone; 3 are allowed, the rest is for a drop")
    assert outcomes(client, quality, quality)["titanic"] == ["triggered", "cap"]

    others = [name for name in discovery.names() if name != "titanic"][:4]
    quality_alerts = [alert("PhaseflowQualityDrop", project=name, **FEEDBACK) for name in others for _ in range(2)]
    upstreams.fires(*quality_alerts)
    with ThreadPoolExecutor(8) as pool:  # concurrently
        results = [
            outcome
            for by_project in pool.map(lambda delivered: outcomes(client, delivered), quality_alerts)
            for outcome in by_project.values()
        ]
    all_outcomes = [outcome for response in results for outcome in response]
    assert all_outcomes.count("triggered") == 4
    assert all_outcomes.count("cap") == 4
    sentences = {event["why"] for name in others for event in recorded(settings, name) if event.get("outcome") == "cap"}
    assert sentences == {"retrained 8 times today over all projects; 8 are allowed"}
    total = json.loads((settings.home / "monitor" / "all-projects.json").read_text())
    assert (total["count"], total["by_requests"]) == (8, 3)


def test_without_the_token_nobody_may_post(client: TestClient, settings: Settings) -> None:
    (settings.secrets / "hook_token").unlink()
    for headers in (TOKEN, {"Authorization": "Bearer "}):
        assert client.post("/projects/titanic/report", headers=headers).status_code == 401


def test_runs_that_people_start_do_not_count(client: TestClient, upstreams: Upstreams) -> None:
    upstreams.runs |= {f"manual__{number}": "by hand" for number in range(20)}
    upstreams.fires(alert())
    assert outcomes(client, alert()) == {"titanic": ["triggered"]}


def test_a_clock_that_was_ahead_does_not_stop_retraining(
    client: TestClient, upstreams: Upstreams, settings: Settings
) -> None:
    ahead = time.time() + 3 * 365 * 86_400
    day = datetime.fromtimestamp(ahead, UTC).strftime("%Y-%m-%d")
    folder = settings.home / "monitor"
    folder.mkdir()
    for name in ("titanic", "all-projects"):
        (folder / f"{name}.json").write_text(json.dumps({"at": ahead, "day": day, "count": 99, "by_requests": 99}))
    upstreams.fires(alert())
    assert outcomes(client, alert()) == {"titanic": ["triggered"]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'{"at": "x"}',
        b'{"at": NaN}',
        b'{"count": null}',
        b'{"day": 3}',
        b'"' + b"[" * 100_000,
    ],
)
def test_a_malformed_file_stops_neither_the_start_nor_retraining(
    upstreams: Upstreams, settings: Settings, content: bytes
) -> None:
    store = Store(settings.store)
    (settings.home / "monitor").mkdir()
    for name in ("titanic", "all-projects"):
        (settings.home / "monitor" / f"{name}.json").write_bytes(content)
    store.write("reports/titanic/20260101T000000Z/report.json", content)
    good = {"time": 5, "rows": 7, "drifted": [], "scores": {"age": 0.1}}
    store.write("reports/house_prices/20260101T000000Z/report.json", json.dumps(good).encode())
    upstreams.fires(alert())
    with opened(settings) as client:
        assert client.get("/healthz").json() == {"status": "ok", "overdue": []}
        assert 'phaseflow_report_rows{project="house_prices"} 7.0' in client.get("/metrics").text
        assert client.get("/reports/titanic/20260101T000000Z/report.json").content == content
        assert outcomes(client, alert()) == {"titanic": ["triggered"]}


def test_a_project_that_cannot_be_read_stops_no_other(
    client: TestClient, upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = discovery.get

    def get(name: str) -> Any:
        if name == "digits":
            raise SyntaxError("project.py")
        return real(name)

    monkeypatch.setattr(discovery, "get", get)
    both = [alert(project="digits"), alert()]
    upstreams.fires(*both)
    assert outcomes(client, *both) == {"digits": ["ignored"], "titanic": ["triggered"]}


def test_a_run_that_airflow_did_not_accept_is_sent_again_without_another_alert(
    upstreams: Upstreams, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "RESUME_SECONDS", 0.1)
    upstreams.fires(alert())
    upstreams.refuse = 500
    with opened(settings) as client:
        assert post(client, alert()).status_code == 503
        upstreams.refuse = 0
        wait_for("the run", lambda: len(upstreams.runs) == 1)


def test_health_lists_the_stalled_loops(
    upstreams: Upstreams, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "LOOK_MAX_AGE_SECONDS", -1.0)
    with opened(settings) as client:
        for path in ("/healthz", "/readyz"):
            response = client.get(path)
            assert (response.status_code, response.json()) == (503, {"status": "overdue", "overdue": ["runs"]})
        lines = client.get("/metrics").text.splitlines()
    names = [line.split(" ")[0] for line in lines if line.startswith("phaseflow_loop_last_iteration")]
    assert names == [
        f'phaseflow_loop_last_iteration_timestamp_seconds{{loop="{loop}"}}' for loop in ("runs", "pending")
    ]


def test_the_loop_is_healthy_while_airflow_and_the_engine_are_unavailable(
    settings: Settings, upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "LOOK_SECONDS", 0.05)
    upstreams.stop.close()
    with opened(settings) as client:

        def last() -> float:
            lines = client.get("/metrics").text.splitlines()
            return max(float(line.split(" ")[1]) for line in lines if line.startswith(f'{METRIC}{{loop="runs"}}'))

        begun = last()
        wait_for("a look", lambda: last() > begun)
        assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "foreign.example"}, 403),
        ({"Origin": "http://foreign.example"}, 403),
        ({"Origin": "http://127.0.0.1:8085"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Authorization": "token"}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
    ],
)
def test_who_may_call_the_hook(client: TestClient, headers: dict[str, str], status: int) -> None:
    usual = TOKEN | {"Content-Type": "application/json"}
    assert client.post("/hooks/alertmanager", content=b'{"alerts": []}', headers=usual | headers).status_code == status


SEGMENTS = st.one_of(
    st.sampled_from(
        [
            b"",
            b"..",
            b".",
            b"\0",
            b"%",
            b"reports",
            b"projects",
            b"titanic",
            b"report",
            b"20260101T000000Z",
            b"report.html",
        ]
    ),
    st.binary(max_size=40),
    st.integers(200, 5000).map(lambda count: b"x" * count),
)
PATHS = st.lists(SEGMENTS, max_size=5).map(lambda segments: "/" + "/".join(map(quote_from_bytes, segments)))
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["alerts", "status", "labels", "a"]), inner)
    ),
    max_leaves=10,
)


def test_no_path_or_body_makes_it_fail(client: TestClient) -> None:
    @given(method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS"]), path=PATHS, body=st.binary(max_size=50))
    @example(method="GET", path="/reports/titanic/20260101T000000Z/..", body=b"")
    @example(method="GET", path="/reports/titanic/20260101T000000Z/.", body=b"")
    @example(method="GET", path="/reports/titanic/20260101T000000Z/%00", body=b"")
    @example(method="GET", path="/reports/titanic/20260101T000000Z/", body=b"")
    @example(method="POST", path="/projects/%00/report", body=b"")
    @example(method="POST", path="/projects/" + "x" * 5000 + "/report", body=b"")
    @example_settings(max_examples=150, deadline=None)
    def ask(method: str, path: str, body: bytes) -> None:
        url = httpx.URL("http://127.0.0.1:8085").copy_with(raw_path=path.encode())
        headers = TOKEN | {"Content-Type": "application/json"}
        response = client.request(method, url, content=body, headers=headers, follow_redirects=False)
        assert response.status_code < 500

    @given(body=JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50))
    @example(body=b'{"alerts": [{"status": "firing", "labels": {"project": "titanic", "action": "retrain"}}]}')
    @example(body=b"[" * 100_000)
    @example_settings(max_examples=100, deadline=None)
    def tell(body: bytes) -> None:
        headers = TOKEN | {"Content-Type": "application/json"}
        assert client.post("/hooks/alertmanager", content=body, headers=headers).status_code < 500

    ask()
    tell()
