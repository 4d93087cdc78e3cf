"""The one login on the cluster: a provider in a pod, and people with roles through the reverse proxy."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import httpx
import pytest

from cli.charts.tests.login import PAGE, USERS, log_in
from cli.kubernetes import kube
from tests.cluster.conftest import Cluster, wait_for
from tests.cluster.platform.test_login import INSIDE, forwarded

PORT: Final = 9000
RUNS: Final = "/airflow/api/v2/dags/house_prices/dagRuns"
TRIGGER: Final[dict[str, Any]] = {"logical_date": None, "conf": {}}
MLFLOW: Final = "/mlflow/api/2.0/mlflow"
PROMOTE: Final = {"name": "titanic", "alias": "tried", "version": "1"}
RUNS_OF_PIPELINES: Final = "/pipelines/apis/v2beta1/runs"


class Provider(httpx.BaseTransport):
    """Sends the requests for the issuer, whose name only pods can look up, through a forwarded port."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._transport = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request with its own Host to the forwarded port."""
        host, port = self._address
        url = request.url.copy_with(host=host, port=port)
        # Another request: the client takes cookies and relative addresses from the URL of its own.
        forwarded_request = httpx.Request(
            request.method, url, headers=request.headers, stream=request.stream, extensions=request.extensions
        )
        return self._transport.handle_request(forwarded_request)


def issuer(cluster: Cluster) -> str:
    return f"http://provider.{cluster.release.namespace}.svc:{PORT}"


def provider_objects(cluster: Cluster) -> dict[str, Any]:
    """The provider's pod and Service, and the Secret of the login."""
    callback = f"{cluster.settings.public_url}/oauth2/callback"
    container = {
        "name": "provider",
        "image": "phaseflow/test-provider:dev",
        "imagePullPolicy": "IfNotPresent",
        "args": [str(PORT), callback, issuer(cluster)],
        "readinessProbe": {"httpGet": {"path": "/.well-known/openid-configuration", "port": PORT}},
        "resources": {"limits": {"memory": "256Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    labels = {"app": "provider"}
    security = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    data = {
        "client_secret": "client-secret",
        "cookie_secret": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "identity_secret": secrets.token_hex(32),
    }
    items: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "stringData": data},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "provider", "labels": labels},
            "spec": {"containers": [container], "securityContext": security, "automountServiceAccountToken": False},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "provider"},
            "spec": {"selector": labels, "ports": [{"port": PORT}]},
        },
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


Open = Callable[[str], AbstractContextManager[httpx.Client]]


@pytest.fixture(scope="module")
def session(cluster: Cluster, story: dict[str, Any]) -> Iterator[Open]:
    """Open a session of a user; the release has one login during these tests."""
    objects = json.dumps(provider_objects(cluster))
    kube.kubectl(cluster.release, "apply", "--filename", "-", stdin=objects)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/provider", "--timeout=120s")
    values = {
        "enabled": "true",
        "issuer": issuer(cluster),
        "existingSecret": "login",
        "sessionMinutes": "2",
        "roles.viewer": "{viewers}",
        "roles.operator": "{operators}",
        "roles.admin": "{admins}",
    }
    cluster.up(*(word for key, value in values.items() for word in ("--set", f"global.auth.oidc.{key}={value}")))
    with forwarded(cluster, "provider", PORT) as address:

        @contextmanager
        def log_in_as(user: str) -> Iterator[httpx.Client]:
            transports = {issuer(cluster): Provider(address)}
            with httpx.Client(base_url=cluster.settings.public_url, timeout=60, mounts=transports) as client:
                assert log_in(client, "/api/status", user).status_code == (403 if user == "nobody" else 200)
                yield client

        yield log_in_as
    if os.environ.get("KEEP"):
        cluster.up()  # else the release is removed next
    kube.kubectl(cluster.release, "delete", "--ignore-not-found", "--filename", "-", stdin=objects)


def test_a_viewer_changes_nothing(session: Open) -> None:
    with session(USERS["viewer"]) as viewer:
        assert viewer.get(RUNS).status_code == 200
        search = viewer.post(f"{MLFLOW}/registered-models/get-latest-versions", json={"name": "titanic"})
        assert search.status_code == 200
        for path in ("/", "/prometheus/api/v1/query?query=up", "/alertmanager/api/v2/alerts", RUNS_OF_PIPELINES):
            assert viewer.get(path).status_code == 200, path
        for method, path, body in (
            ("POST", RUNS, TRIGGER),
            ("DELETE", "/airflow/api/v2/dags/house_prices", None),
            ("GET", "/airflow/api/v2/variables", None),
            ("POST", f"{MLFLOW}/registered-models/alias", PROMOTE),
            ("DELETE", f"{MLFLOW}/registered-models/delete", {"name": "titanic"}),
            ("POST", f"{MLFLOW}/runs/delete", {"run_id": "x"}),
            ("POST", "/alertmanager/api/v2/alerts", []),
            ("POST", "/prometheus/-/reload", None),
        ):
            assert viewer.request(method, path, json=body).status_code == 403, (method, path)
    with session("nobody") as nobody:
        assert nobody.get("/").status_code == 403


def test_an_operator_promotes_and_triggers_and_an_administrator_deletes(session: Open) -> None:
    with session(USERS["operator"]) as operator:
        assert operator.post(f"{MLFLOW}/registered-models/alias", json=PROMOTE).status_code == 200
        run = operator.post(RUNS, json=TRIGGER)
        assert run.status_code == 200, run.text
        assert run.json()["triggering_user_name"] == "olga@example.com"
        path = f"{RUNS}/{run.json()['dag_run_id']}"
        assert operator.patch(path, json={"state": "failed"}).status_code == 200
        assert operator.delete(path).status_code == 403
        assert operator.request("DELETE", f"{MLFLOW}/registered-models/alias", json=PROMOTE).status_code == 403
    with session(USERS["admin"]) as admin:
        assert admin.delete(path).status_code == 204
        alias = {key: PROMOTE[key] for key in ("name", "alias")}
        assert admin.request("DELETE", f"{MLFLOW}/registered-models/alias", json=alias).status_code == 200


def test_another_pod_gets_no_role_by_headers(cluster: Cluster, session: Open) -> None:
    headers = {"x-phaseflow-user": "anna@example.com", "x-phaseflow-role": "admin", "x-phaseflow-identity": "guess"}
    forged = {"headers": headers}
    calls = {
        "Airflow": ("POST", f"http://phaseflow-airflow:8080{RUNS}", {**forged, "json": TRIGGER}),
        "portal": ("GET", "http://phaseflow-portal:8090/", forged),
    }
    sent = json.dumps(calls)
    statuses = json.loads(cluster.kubectl("exec", "deployment/phaseflow-portal", "--", "python", "-c", INSIDE, sent))
    assert statuses == {"Airflow": 401, "portal": 403}
    with httpx.Client(base_url=cluster.settings.public_url, timeout=30, headers=headers) as stranger:
        assert {stranger.get(path).status_code for path in ("/", RUNS, "/mlflow/")} == {401}


@pytest.mark.nightly  # it waits two minutes; CI tests the same before a real oauth2-proxy on one machine
def test_an_expired_session_logs_in_again_and_a_logout_ends_it(session: Open) -> None:
    with session(USERS["viewer"]) as viewer:
        wait_for("the session ends", lambda: viewer.get("/api/status").status_code == 401)
        # The provider still knows the person, who sees no form.
        assert viewer.get("/api/status", headers=PAGE, follow_redirects=True).json()["projects"]
        assert "logged out" in viewer.get("/logout", follow_redirects=True).text
        assert viewer.get("/api/status").status_code == 401


def test_the_command_line_still_works(cluster: Cluster, session: Open) -> None:
    assert cluster.json("status")
    assert {page["user"] for page in cluster.json("urls")} == {""}
