"""Attacks on the engine, Alertmanager and the retrain hook by a foreign web page or another user of the machine."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from phaseflow import events
from phaseflow.clients import airflow, alertmanager
from phaseflow.store import Store
from tests import wire
from tests.conftest import Platform
from tests.tally import Row, Tally

pytestmark = pytest.mark.platform
EVIL = "https://evil.example"


def pipeline(name: str) -> dict[str, Any]:
    """Return a compiled pipeline whose only step writes a file, as code that a page would run on this machine."""
    command = ["sh", "-c", f"touch /tmp/{name}"]
    executor = {"container": {"image": "python:3.11", "command": command}}
    task = {"componentRef": {"name": "comp-step"}, "taskInfo": {"name": "step"}}
    return {
        "pipelineInfo": {"name": name},
        "deploymentSpec": {"executors": {"exec-step": executor}},
        "components": {"comp-step": {"executorLabel": "exec-step"}},
        "root": {"dag": {"tasks": {"step": task}}},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.3",
    }


def runs(address: tuple[str, int], name: str) -> list[Any]:
    """Return the engine's runs of that name."""
    predicates = json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})
    target = f"/apis/v2beta1/runs?filter={predicates.replace(' ', '%20')}"
    headers = [("Host", f"{address[0]}:{address[1]}"), ("Connection", "close")]
    return list(json.loads(wire.exchange(address, wire.request("GET", target, headers)).body).get("runs") or [])


def test_a_page_starts_no_pipeline(
    platform: Platform, addresses: Mapping[str, tuple[str, int]], credentials: Mapping[str, str], tally: Tally
) -> None:
    address = addresses["pipelines"]
    own = f"{address[0]}:{address[1]}"
    name = f"page-{secrets.token_hex(4)}"
    body = json.dumps({"display_name": name, "pipeline_spec": pipeline(name)}).encode()
    form = (
        b'--x\r\nContent-Disposition: form-data; name="uploadfile"; filename="p.yaml"\r\n\r\n' + body + b"\r\n--x--\r\n"
    )
    token = credentials["hook_token"]
    requests: list[tuple[str, str, list[tuple[str, str]], bytes]] = []
    for media in ("text/plain", "application/x-www-form-urlencoded", "application/json", "text/json", ""):
        for host, origin in ((own, EVIL), ("evil.example", EVIL), (own, "null"), ("evil.example", ""), (own, "")):
            for authorization in ("", token, "Bearer ", "Basic YWRtaW46YWRtaW4="):
                headers = [("Host", host), ("Connection", "close")]
                headers += [("Origin", origin)] if origin else []
                headers += [("Content-Type", media)] if media else []
                headers += [("Authorization", authorization)] if authorization else []
                requests.append(("POST", "/apis/v2beta1/runs", headers, body))
    own_headers = [("Host", own), ("Connection", "close")]
    uploading = [*own_headers, ("Origin", EVIL), ("Content-Type", "multipart/form-data; boundary=x")]
    requests += [
        ("POST", f"/apis/v2beta1/pipelines/upload?name={name}", uploading, form),
        ("POST", f"/apis/v2beta1/pipelines/upload_version?name={name}&pipelineid=x", uploading, form),
        ("PUT", "/apis/v2beta1/runs", own_headers, body),
        ("POST", "//apis/v2beta1/runs", own_headers, body),
        ("POST", "/apis/v2beta1/runs/", own_headers, body),
        ("POST", f"http://{own}/apis/v2beta1/runs", own_headers, body),
        ("POST", "/apis/v2beta1/%72uns", own_headers, body),
        ("post", "/apis/v2beta1/runs", own_headers, body),
        ("POST", "/apis/v2beta1/runs", [*own_headers, ("X-HTTP-Method-Override", "GET")], body),
        ("GET", "/apis/v2beta1/runs", [*own_headers, ("X-HTTP-Method-Override", "POST")], body),
        (
            "POST",
            "/apis/v2beta1/runs",
            [*own_headers, ("X-Forwarded-Host", own), ("X-Forwarded-For", "127.0.0.1")],
            body,
        ),
        ("POST", f"/apis/v2beta1/runs?access_token={token}", own_headers, body),
        ("POST", "/apis/v2beta1/runs", [*own_headers, ("Cookie", f"token={token}")], body),
    ]
    breaches = []
    for method, target, headers, content in requests:
        response = wire.exchange(address, wire.request(method, target, headers, content), method=method)
        reads = method == "GET" and response.status == 200
        if not (reads or 300 <= response.status < 500 or response.status == 0) or (
            response.status == 404 and "%72" in target
        ):
            breaches.append(f"{method} {target} {headers[1:]}: {response.status} {response.body[:80]!r}")
    started = runs(address, name)
    breaches += [f"run {run['run_id']}" for run in started]
    tally.add(Row(what="a foreign page's pipeline", attempts=len(requests), breaches=breaches))


def alert(**labels: str) -> dict[str, Any]:
    """Return an alert in Alertmanager's format."""
    return {
        "labels": {"alertname": "PhaseflowFeatureDrift", "project": "house_prices", "action": "retrain", **labels},
        "annotations": {"summary": "a web page asked for it"},
        "startsAt": datetime.now(UTC).isoformat(),
        "endsAt": (datetime.now(UTC) + timedelta(minutes=1)).isoformat(),
    }


def dag_runs(platform: Platform) -> set[str]:
    """Return the ids of the retrainings of house_prices, the project in the attacks."""
    return {
        run["dag_run_id"]
        for run in airflow.client(platform.settings).send(airflow.runs("house_prices"))
        if run["dag_run_id"].startswith("retrain__")
    }


def project_events(platform: Platform) -> list[dict[str, Any]]:
    """Return the events of house_prices."""
    return events.read(Store(platform.settings.store), "house_prices")


def test_a_page_sends_alertmanager_nothing(
    platform: Platform, addresses: Mapping[str, tuple[str, int]], credentials: Mapping[str, str], tally: Tally
) -> None:
    address = addresses["alertmanager"]
    body = json.dumps([alert(alertname="Stranger")]).encode()
    breaches, attempts = [], 0
    for host in (f"{address[0]}:{address[1]}", "evil.example"):
        for media in ("application/json", "text/plain", ""):
            for authorization in (
                "",
                "Basic cGhhc2VmbG93OnBoYXNlZmxvdw==",
                credentials["prometheus"],
                credentials["hook_token"],
            ):
                for path in ("/api/v2/alerts", "/api/v2/silences", "/-/reload", "/api/v1/alerts", "/api/v2/alerts/"):
                    headers = [("Host", host), ("Origin", EVIL), ("Connection", "close")]
                    headers += [("Content-Type", media)] if media else []
                    headers += [("Authorization", authorization)] if authorization else []
                    response = wire.exchange(address, wire.request("POST", path, headers, body))
                    attempts += 1
                    if response.status not in {400, 401, 403, 404, 405, 415}:
                        breaches.append(f"{path} {headers}: {response.status}")
    active = alertmanager.alerts(platform.settings, "house_prices")
    breaches += [
        f"active: {active_alert['labels']}"
        for active_alert in active
        if active_alert["labels"]["alertname"] == "Stranger"
    ]
    tally.add(Row(what="a foreign page's alert to Alertmanager", attempts=attempts, breaches=breaches))


def test_an_alert_that_prometheus_does_not_confirm_starts_nothing(
    platform: Platform, addresses: Mapping[str, tuple[str, int]], credentials: Mapping[str, str], tally: Tally
) -> None:
    """The requests have the hook's valid token: Alertmanager adds it to the alerts of anyone who reaches it."""
    address = addresses["monitor"]
    before, recorded = dag_runs(platform), len(project_events(platform))
    spoofed = {"outcome": "promoted", "why": "spoofed", "run": "spoofed", "status": "spoofed"}
    forged_alerts = [
        alert(),
        alert(alertname="Stranger"),
        alert(**spoofed),
        alert(alertname="PhaseflowFeatureDrift", feature="age", version="1"),
        alert(alertname="../../x", severity="critical"),
        alert(alertname="{{ 7*7 }}", project="house_prices"),
        alert(project="../titanic"),
        alert(project="house_prices_monitor"),
        alert(project=""),
        alert(action="RETRAIN"),
    ]
    breaches, attempts = [], 0
    for status in ("firing", "resolved", "FIRING", ""):
        for forged_alert in forged_alerts:
            body = json.dumps(
                {"version": "4", "status": status, "alerts": [forged_alert | {"status": status}]}
            ).encode()
            headers = [
                *(("Host", f"{address[0]}:{address[1]}"), ("Connection", "close")),
                *(("Content-Type", "application/json"), ("Authorization", credentials["hook_token"])),
            ]
            response = wire.exchange(address, wire.request("POST", "/hooks/alertmanager", headers, body), seconds=30)
            attempts += 1
            if response.status >= 500 or response.status == 0 or b"triggered" in response.body:
                breaches.append(f"{status} {forged_alert['labels']}: {response.status} {response.body[:200]!r}")
    breaches += [f"DAG run {run}" for run in dag_runs(platform) - before]
    for event in project_events(platform)[recorded:]:
        if event["type"].endswith("retraining"):
            breaches.append(f"event {event['type']} {event['data']}")
        breaches += [f"event field {key}" for key, value in spoofed.items() if event["data"].get(key) == value]
    tally.add(
        Row(what="alerts that Prometheus does not confirm, with the hook's token", attempts=attempts, breaches=breaches)
    )
