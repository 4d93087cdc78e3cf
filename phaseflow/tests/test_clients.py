"""The clients against small servers over HTTP: logins, tokens, and errors that name the fix."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from phaseflow.clients import airflow, alertmanager, kfp, login, prometheus, rest, serving
from phaseflow.errors import PermanentError, PlatformError
from phaseflow.settings import Settings, from_environment
from phaseflow.testing import Request, Response, free_port, http_server


class Platform:
    """Responds for every part; records the requests."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.responses: dict[str, Response] = {}
        self.token = "first"

    def respond(self, request: Request) -> Response:
        self.requests.append(request)
        path = request.path.partition("?")[0]
        if path == "/auth/token":
            right = request.json == {"username": "admin", "password": "sesame"}
            return Response({"access_token": self.token}, 201 if right else 401)
        if path.startswith("/api/v2/dags") and request.headers.get("authorization") != f"Bearer {self.token}":
            return Response({"detail": "expired"}, 401)
        return self.responses[path]

    def paths(self) -> list[str]:
        return [f"{request.method} {request.path.partition('?')[0]}" for request in self.requests]


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
def settings(platform: Platform, tmp_path: Path) -> Iterator[Settings]:
    (tmp_path / "secrets").mkdir()
    for name in ("airflow_admin_password", "prometheus_password", "engine_token", "proxy_password"):
        (tmp_path / "secrets" / name).write_text("sesame")
    with http_server(platform.respond) as url:
        parts = ("AIRFLOW", "PROMETHEUS", "ALERTMANAGER", "PIPELINES", "SERVING")
        yield from_environment({"PHASEFLOW_HOME": str(tmp_path), **{f"PHASEFLOW_{part}_URL": url for part in parts}})


RUNS = "/api/v2/dags/titanic/dagRuns"


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_token_is_used_until_airflow_rejects_it(platform: Platform, settings: Settings, mode: str) -> None:
    platform.responses[RUNS] = Response({"dag_runs": [{"dag_run_id": "a"}], "total_entries": 1})
    calls = [airflow.runs("titanic"), airflow.is_active("titanic")]

    async def send_all(client: rest.AsyncClient) -> list[Any]:
        results = [await client.send(call) for call in calls]
        platform.token = "second"
        return [*results, await client.send(calls[0])]

    if mode == "async":
        results = asyncio.run(send_all(rest.AsyncClient(airflow.server(settings))))
    else:
        client = airflow.client(settings)
        results = [client.send(call) for call in calls]
        platform.token = "second"
        results.append(client.send(calls[0]))
    assert results == [[{"dag_run_id": "a"}], True, [{"dag_run_id": "a"}]]
    token, runs = "POST /auth/token", f"GET {RUNS}"
    assert platform.paths() == [token, runs, runs, runs, token, runs]


def test_a_wrong_password_of_airflow_names_its_secret(platform: Platform, settings: Settings) -> None:
    (settings.secrets / "airflow_admin_password").write_text("guess")
    with pytest.raises(PermanentError) as error:
        airflow.client(settings).send(airflow.runs("titanic"))
    assert str(error.value) == (
        f"Airflow at {settings.airflow_url} refuses the login. Give both the same secret airflow_admin_password."
    )
    assert platform.paths() == ["POST /auth/token"]


def test_what_airflow_does_not_know_is_empty(platform: Platform, settings: Settings) -> None:
    client = airflow.client(settings)
    for path in (RUNS, f"{RUNS}/r/taskInstances", "/api/v2/dags/titanic"):
        platform.responses[path] = Response({"detail": "not found"}, 404)
    assert client.send(airflow.runs("titanic")) == []
    assert client.send(airflow.is_active("titanic")) is False
    assert client.send(airflow.tasks("titanic", "r")) == []
    with pytest.raises(PlatformError) as error:
        client.send(airflow.dag("titanic"))
    assert str(error.value) == (
        'Airflow responded with 404 to GET /api/v2/dags/titanic: {"detail": "not found"}. '
        "Check `phaseflow status` and `phaseflow logs`"
    )


def test_a_run_that_exists_is_not_started_again(platform: Platform, settings: Settings) -> None:
    client = airflow.client(settings)
    platform.responses[RUNS] = Response({"dag_run_id": "manual__1"})
    assert client.send(airflow.trigger("titanic", "x" * 1500)) == "manual__1"
    body = platform.requests[-1].json
    assert (len(body["note"]), body["conf"], "dag_run_id" in body) == (1000, {"reason": "x" * 1500}, False)
    platform.responses[RUNS] = Response({"detail": "it exists"}, 409)
    assert client.send(airflow.trigger("titanic", "drift", "retrain__1")) == "retrain__1"
    assert platform.requests[-1].json["dag_run_id"] == "retrain__1"
    with pytest.raises(PlatformError, match="responded with 409"):
        client.send(airflow.trigger("titanic", "drift"))


def test_prometheus_gets_the_login_of_its_part_or_of_the_proxy(platform: Platform, settings: Settings) -> None:
    series = [{"metric": {"job": "a"}, "value": [1.0, "2.5"]}]
    platform.responses["/api/v1/query"] = Response({"status": "success", "data": {"result": series}})
    assert prometheus.client(settings).send(prometheus.query("up")) == [({"job": "a"}, 2.5)]
    with_proxy = {"PHASEFLOW_HOME": str(settings.home), "PHASEFLOW_PROMETHEUS_URL": settings.prometheus_url}
    outside = from_environment(with_proxy | {"PHASEFLOW_PUBLIC_URL": settings.prometheus_url})
    prometheus.client(outside).send(prometheus.query("up"))
    inside = from_environment(with_proxy | {"PHASEFLOW_PUBLIC_URL": "https://phaseflow.example.com"})
    prometheus.client(inside).send(prometheus.query("up"))
    logins = [
        base64.b64decode(request.headers["authorization"].removeprefix("Basic ")) for request in platform.requests
    ]
    assert logins == [b"phaseflow:sesame", b"admin:sesame", b"phaseflow:sesame"]
    assert login.of(settings, "alertmanager") is None  # it has no secret here


def test_a_response_of_something_else_names_the_setting(platform: Platform, settings: Settings) -> None:
    for content in ("<html>", {"data": {"results": []}}, {"data": 3}, {"data": {"result": [{"value": []}]}}):
        platform.responses["/api/v1/query"] = Response(content)
        with pytest.raises(PlatformError) as error:
            prometheus.client(settings).send(prometheus.query("up"))
        assert error.value.problem.startswith("The response of Prometheus to GET /api/v1/query has another structure: ")
        assert error.value.fix == f"Correct PHASEFLOW_PROMETHEUS_URL, which is {settings.prometheus_url}"


def test_a_server_that_is_away_is_named_with_its_address(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_PROMETHEUS_URL": url})
    message = (
        f"Prometheus at {url} can't be reached: ConnectError. Start it by `phaseflow up`, and check `phaseflow status`"
    )
    with pytest.raises(PlatformError) as error:
        prometheus.client(settings).send(prometheus.targets())
    assert str(error.value) == message
    with pytest.raises(PlatformError) as error:
        asyncio.run(rest.AsyncClient(prometheus.server(settings)).send(prometheus.targets()))
    assert str(error.value) == message


def test_the_alerts_and_the_model_of_a_project(platform: Platform, settings: Settings) -> None:
    platform.responses["/api/v2/alerts"] = Response([{"labels": {}}])
    assert alertmanager.alerts(settings, "titanic") == [{"labels": {}}]
    assert "filter=project%3D%22titanic%22&active=true" in platform.requests[-1].path
    platform.responses["/titanic/model"] = Response({"version": "3"})
    assert serving.model(settings, "titanic") == {"version": "3"}
    platform.responses["/titanic/model"] = Response({"error": {}}, 503)
    assert serving.model(settings, "titanic") is None


def test_all_runs_are_read_page_by_page_with_the_token(platform: Platform, settings: Settings) -> None:
    pages = iter([{"runs": [{"run_id": "b"}], "next_page_token": "1"}, {"runs": [{"run_id": "a"}]}])
    platform.responses["/apis/v2beta1/runs"] = Response(next(pages))
    with rest.Client(kfp.server(settings)) as client:
        runs = kfp.all_runs(client)
        assert next(runs) == {"run_id": "b"}
        platform.responses["/apis/v2beta1/runs"] = Response(next(pages))
        assert list(runs) == [{"run_id": "a"}]
        platform.responses["/apis/v2beta1/runs/a"] = Response(status=404)
        client.send(kfp.delete("a"))
    assert "page_token=1" in platform.requests[1].path
    assert {request.headers["authorization"] for request in platform.requests} == {"Bearer sesame"}
