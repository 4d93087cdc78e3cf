"""Airflow's stable REST API (https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html), as its administrator."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

import httpx

from phaseflow.clients import rest
from phaseflow.clients.rest import Call
from phaseflow.settings import Settings

API: Final = "/api/v2"
USER: Final = "admin"
SECRET: Final = "airflow_admin_password"  # noqa: S105  # the secret's name
MAX_NOTE: Final = 1000
"""Maximum characters of a note, a limit of Airflow."""
Record = dict[str, Any]


class Token(httpx.Auth):
    """Sends a token, which is renewed when Airflow rejects it."""

    requires_response_body = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._token = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request with the token, and once more with a new token if it is rejected."""
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
            response = yield request
            if response.status_code != 401:
                return
        call = login(self._settings.secret(SECRET))
        response = yield httpx.Request(call.method, f"{self._settings.airflow_url}{call.path}", json=call.body)
        self._token = rest.result(server(self._settings), call, response)
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def server(settings: Settings) -> rest.Server:
    """The API with the administrator's login."""
    return rest.Server(
        name="Airflow",
        url=settings.airflow_url,
        setting="PHASEFLOW_AIRFLOW_URL",
        auth=Token(settings),
        secret=SECRET,
    )


def client(settings: Settings) -> rest.Client:
    """A synchronous client."""
    return rest.Client(server(settings))


def login(password: str) -> Call[str]:
    """Get a token."""
    body = {"username": USER, "password": password}
    return Call(method="POST", path="/auth/token", body=body, read=lambda content: str(content["access_token"]))


def dag(dag_id: str) -> Call[Record]:
    """Get a DAG. Airflow responds with 404 if it has not parsed it yet."""
    return Call(path=f"{API}/dags/{dag_id}", read=dict)


def import_errors() -> Call[list[Record]]:
    """List the files of the DAG folder that Airflow failed to import."""
    return Call(path=f"{API}/importErrors", read=lambda body: list(body["import_errors"]))


def trigger(dag_id: str, reason: str, run_id: str | None = None) -> Call[str]:
    """Start a run and return its id. It does nothing if a run with the id `run_id` exists."""
    body = {"logical_date": None, "conf": {"reason": reason}, "note": reason[:MAX_NOTE]}
    return Call(
        method="POST",
        path=f"{API}/dags/{dag_id}/dagRuns",
        body=body | ({"dag_run_id": run_id} if run_id else {}),
        read=lambda body: str(body["dag_run_id"]),
        results={409: run_id} if run_id else {},
    )


def run(dag_id: str, run_id: str) -> Call[Record]:
    """Get a run: `state`, `conf`, `start_date`, `end_date`."""
    return Call(path=f"{API}/dags/{dag_id}/dagRuns/{run_id}", read=dict)


def runs(dag_id: str, limit: int = 50) -> Call[list[Record]]:
    """List the latest runs of a DAG, newest first. The list is empty if Airflow does not know the DAG."""
    return Call(
        path=f"{API}/dags/{dag_id}/dagRuns",
        params={"order_by": "-run_after", "limit": limit},
        read=lambda body: list(body["dag_runs"]),
        results={404: []},
    )


def is_active(dag_id: str) -> Call[bool]:
    """Whether a run of the DAG is queued or running."""
    return Call(
        path=f"{API}/dags/{dag_id}/dagRuns",
        params={"state": ["queued", "running"], "limit": 1},
        read=lambda body: bool(body["total_entries"]),
        results={404: False},
    )


def tasks(dag_id: str, run_id: str) -> Call[list[Record]]:
    """List the task instances of a run by start time: `task_id`, `state`, `duration`. Empty if there is no such run."""
    return Call(
        path=f"{API}/dags/{dag_id}/dagRuns/{run_id}/taskInstances",
        read=lambda body: sorted(body["task_instances"], key=lambda task: task["start_date"] or "9"),
        results={404: []},
    )


def result(dag_id: str, run_id: str, task_id: str) -> Call[Record]:
    """Get the return value of a task."""
    path = f"{API}/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
    return Call(path=path, read=lambda body: dict(body["value"]))
