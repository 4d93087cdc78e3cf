"""What a web page of another origin, or another user of the machine, tries with the engine, Alertmanager and the retrain hook."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from phaseflow import events
from phaseflow.embedded import rest
from phaseflow.store import Store
from tests import wire
from tests.conftest import Platform
from tests.tally import Row, Tally

pytestmark = pytest.mark.platform
EVIL = "https://evil.example"


def pipeline(name: str) -> dict[str, Any]:
    """A compiled pipeline whose only step writes a file: what a page would have run on this machine."""
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
    """The engine's runs of that name."""
    wanted = json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})
    target = f"/apis/v2beta1/runs?filter={wanted.replace(' ', '%20')}"
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
    attempts: list[tuple[str, str, list[tuple[str, str]], bytes]] = []
    for media in ("text/plain", "application/x-www-form-urlencoded", "application/json", "text/json", ""):
        for host, origin in ((own, EVIL), ("evil.example", EVIL), (own, "null"), ("evil.example", ""), (own, "")):
            for authorization in ("", token, "Bearer ", "Basic YWRtaW46YWRtaW4="):
                headers = [("Host", host), ("Connection", "close")]
                headers += [("Origin", origin)] if origin else []
                headers += [("Content-Type", media)] if media else []
                headers += [("Authorization", authorization)] if authorization else []
                attempts.append(("POST", "/apis/v2beta1/runs", headers, body))
    own_headers = [("Host", own), ("Connection", "close")]
    uploading = [*own_headers, ("Origin", EVIL), ("Content-Type", "multipart/form-data; boundary=x")]
    attempts += [
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
    got_in = []
    for method, target, headers, content in attempts:
        response = wire.exchange(address, wire.request(method, target, headers, content), method=method)
        reads = method == "GET" and response.status == 200
        if not (reads or 300 <= response.status < 500 or response.status == 0) or (
            response.status == 404 and "%72" in target
        ):
            got_in.append(f"{method} {target} {headers[1:]}: {response.status} {response.body[:80]!r}")
    made = runs(address, name)
    got_in += [f"run {run['run_id']}" for run in made]
    tally.add(Row(what="a foreign page's pipeline", tried=len(attempts), got_in=got_in))


def alert(**labels: str) -> dict[str, Any]:
    """An alert as Alertmanager takes it."""
    return {
        "labels": {"alertname": "PhaseflowFeatureDrift", "project": "house_prices", "action": "retrain", **labels},
        "annotations": {"summary": "a web page asked for it"},
        "startsAt": datetime.now(UTC).isoformat(),
        "endsAt": (datetime.now(UTC) + timedelta(minutes=1)).isoformat(),
    }


def dag_runs(platform: Platform) -> set[str]:
    """Ids of the retrainings of the project that the attacks name."""
    return {
        run["dag_run_id"]
        for run in rest.Airflow(platform.settings).runs("house_prices")
        if run["dag_run_id"].startswith("retrain__")
    }


def project_events(platform: Platform) -> list[dict[str, Any]]:
    """All of them."""
    return events.read(Store(platform.settings.store), "house_prices")


def test_a_page_sends_alertmanager_nothing(
    platform: Platform, addresses: Mapping[str, tuple[str, int]], credentials: Mapping[str, str], tally: Tally
) -> None:
    address = addresses["alertmanager"]
    body = json.dumps([alert(alertname="Stranger")]).encode()
    got_in, tried = [], 0
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
                    tried += 1
                    if response.status not in {400, 401, 403, 404, 405, 415}:
                        got_in.append(f"{path} {headers}: {response.status}")
    active = rest.alertmanager_alerts(platform.settings, "house_prices")
    got_in += [f"active: {one['labels']}" for one in active if one["labels"]["alertname"] == "Stranger"]
    tally.add(Row(what="a foreign page's alert to Alertmanager", tried=tried, got_in=got_in))


def test_an_alert_that_prometheus_does_not_confirm_starts_nothing(
    platform: Platform, addresses: Mapping[str, tuple[str, int]], credentials: Mapping[str, str], tally: Tally
) -> None:
    """The hook's own token is right: it is what Alertmanager sends on for whoever reaches it."""
    address = addresses["monitor"]
    before, recorded = dag_runs(platform), len(project_events(platform))
    spoofed = {"outcome": "promoted", "why": "spoofed", "run": "spoofed", "status": "spoofed"}
    forged = [
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
    got_in, tried = [], 0
    for status in ("firing", "resolved", "FIRING", ""):
        for one in forged:
            body = json.dumps({"version": "4", "status": status, "alerts": [one | {"status": status}]}).encode()
            headers = [
                *(("Host", f"{address[0]}:{address[1]}"), ("Connection", "close")),
                *(("Content-Type", "application/json"), ("Authorization", credentials["hook_token"])),
            ]
            response = wire.exchange(address, wire.request("POST", "/hooks/alertmanager", headers, body), seconds=30)
            tried += 1
            if response.status >= 500 or response.status == 0 or b"triggered" in response.body:
                got_in.append(f"{status} {one['labels']}: {response.status} {response.body[:200]!r}")
    got_in += [f"DAG run {run}" for run in dag_runs(platform) - before]
    for event in project_events(platform)[recorded:]:
        if event["type"].endswith("retraining"):
            got_in.append(f"event {event['type']} {event['data']}")
        got_in += [f"event field {key}" for key, value in spoofed.items() if event["data"].get(key) == value]
    tally.add(Row(what="alerts that Prometheus does not confirm, with the hook's token", tried=tried, got_in=got_in))
