"""Who gets in: pages, the services' own ports, foreign requests."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from cli.kubernetes import kube
from phaseflow.clients import login
from phaseflow.settings import USER
from tests import wire
from tests.cluster.conftest import Cluster
from tests.security import routes
from tests.tally import Row, Tally

INSIDE = """
import httpx, json, sys
answers = {}
for name, (method, url, options) in json.loads(sys.argv[1]).items():
    login = options.pop("login", None)
    if login:
        login = ("phaseflow", open(f"/var/lib/phaseflow/secrets/{login}").read().strip())
    answers[name] = httpx.request(method, url, auth=login, timeout=30, **options).status_code
print(json.dumps(answers))
"""
"""Code that the portal's pod runs to call other components without the reverse proxy."""


def test_other_pods_need_a_login_or_a_token(cluster: Cluster, story: dict[str, Any]) -> None:
    alert = [{"labels": {"alertname": "PhaseflowFeatureDrift", "project": "titanic", "action": "retrain"}}]
    prometheus, alertmanager = (
        "http://phaseflow-prometheus:9090/prometheus",
        "http://phaseflow-alertmanager:9093/alertmanager",
    )
    engine = "http://phaseflow-pipelines:8888/apis/v2beta1/runs"
    serving = "http://phaseflow-serving-titanic:3000/titanic/feedback"
    foreign = {"headers": {"host": "rebound.example.com"}}
    calls: dict[str, tuple[str, str, dict[str, Any], int]] = {
        "query": ("GET", f"{prometheus}/api/v1/query?query=up", {}, 401),
        "query with the login": ("GET", f"{prometheus}/api/v1/query?query=up", {"login": "prometheus_password"}, 200),
        "alert": ("POST", f"{alertmanager}/api/v2/alerts", {"json": alert}, 401),
        "alerts with the login": ("GET", f"{alertmanager}/api/v2/alerts", {"login": "alertmanager_password"}, 200),
        "run": ("POST", engine, {"json": {}}, 401),
        "runs": ("GET", engine, {}, 200),
        "feedback": ("POST", serving, {"json": {"labels": [{"id": "x", "label": "1"}]}}, 401),
        "rebound engine": ("GET", engine, foreign, 403),
        "rebound monitor": ("GET", "http://phaseflow-monitor:8085/metrics", foreign, 403),
        "rebound portal": ("GET", "http://phaseflow-portal:8090/", foreign, 403),
        "full name": ("GET", f"http://phaseflow-monitor.{cluster.release.namespace}.svc.cluster.local:8085/metrics", {}, 200),
    }  # fmt: skip
    sent = json.dumps({name: call[:3] for name, call in calls.items()})
    statuses = json.loads(cluster.kubectl("exec", "deployment/phaseflow-portal", "--", "python", "-c", INSIDE, sent))
    assert statuses == {name: call[3] for name, call in calls.items()}


PORTS = {"pipelines": 8888, "monitor": 8085, "portal": 8090, "serving": 3000, "prometheus": 9090, "alertmanager": 9093}
"""Ports of the services that the table of routes calls without the reverse proxy."""


@contextmanager
def forwarded(cluster: Cluster, service: str, port: int) -> Iterator[tuple[str, int]]:
    """Forward a local port to a pod of the service; yield the local address."""
    space = ("--namespace", cluster.release.namespace)
    command = [kube.program("kubectl"), *space, "port-forward", f"service/{service}", f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        drain = threading.Thread(target=process.stdout.read, daemon=True)  # it prints a line for each connection
        drain.start()
        try:
            match = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert match, line
            yield "127.0.0.1", int(match.group(1))
        finally:
            process.terminate()
            drain.join()


@pytest.mark.parametrize("service", sorted(PORTS))
def test_only_who_may_gets_in(cluster: Cluster, story: dict[str, Any], service: str, tally: Tally) -> None:
    """Apply the table of the local platform to the services' own ports, which other pods of the namespace can reach."""
    stored = cluster.secrets().items()
    secret_values = {key.rsplit("/", 1)[1]: base64.b64decode(value).decode().strip() for key, value in stored}
    credentials = {name: routes.bearer(secret_values[name]) for name in ("engine_token", "hook_token")}
    credentials |= {
        part: wire.basic((USER, secret_values[f"{part}_password"])) for part in ("prometheus", "alertmanager")
    } | {"feedback": routes.bearer(cluster.feedback_token())}
    name = "phaseflow-serving-titanic" if service == "serving" else f"phaseflow-{service}"
    prefix = f"/{service}" if service in {"prometheus", "alertmanager"} else ""
    attempts, breaches = 0, list[str]()
    with forwarded(cluster, name, PORTS[service]) as address:
        for route in routes.ROUTES:
            if route.service == service:
                # On a cluster, feedback requires a client's token. Only one value is wrong at a time.
                credential = "feedback" if route.optional else route.credential
                variant = replace(route, path=prefix + route.path, credential=credential, optional=False, pairs=False)
                count, problems = routes.check_route(variant, address, credentials)
                attempts, breaches = attempts + count, breaches + problems
    tally.add(
        Row(
            what=f"host, origin, token and content type on the cluster: {service}", attempts=attempts, breaches=breaches
        )
    )


def test_the_reverse_proxy_refuses_foreign_requests(cluster: Cluster, story: dict[str, Any]) -> None:
    settings = cluster.settings
    with httpx.Client(base_url=settings.public_url, auth=login.of_proxy(settings), timeout=30) as client:
        foreign = client.post("/alertmanager/api/v2/alerts", json=[], headers={"origin": "http://evil.example.com"})
        assert foreign.status_code == 403
        assert client.post("/pipelines/apis/v2beta1/runs", json={}).status_code == 405
        assert client.get("/alertmanager/api/v2/alerts").status_code == 200
    for path in ("/serving/metrics", "/serving/titanic/metrics", "/serving/healthz"):
        assert httpx.get(f"{settings.public_url}{path}", timeout=30).status_code == 404, path
    predict = f"{settings.serving_url}/titanic/feedback"
    assert httpx.post(predict, json={"labels": [{"id": "x", "label": "1"}]}, timeout=30).status_code == 401
