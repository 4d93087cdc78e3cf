"""What the platform says of itself by the public REST calls of Airflow, Prometheus, Alertmanager and the service."""

from __future__ import annotations

from typing import Any

import httpx

from phaseflow.errors import PlatformError
from phaseflow.settings import Settings


class Rest:
    """JSON over HTTP; raises PlatformError when the other side is away or refuses."""

    def __init__(
        self, name: str, url: str, headers: dict[str, str] | None = None, auth: tuple[str, str] | None = None
    ) -> None:
        self.name = name
        self.client = httpx.Client(base_url=url, headers=headers, auth=auth, timeout=20, trust_env=False)

    def call(self, method: str, path: str, **options: Any) -> Any:
        """One request."""
        try:
            answer = self.client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise PlatformError(
                f"{self.name} at {self.client.base_url} can't be reached ({type(error).__name__})",
                fix="Start it by `phaseflow up`, and look at `phaseflow status`",
            ) from error
        if answer.is_error:
            raise PlatformError(
                f"{self.name} answers {answer.status_code} to {method} {path}: {answer.text[:500]}",
                fix="Look at `phaseflow status` and `phaseflow logs`",
            )
        return answer.json()


def door(settings: Settings) -> tuple[str, str] | None:
    """User and password of the front door, for what has no login of its own; None where there is no door."""
    return ("admin", settings.secret("door_password")) if settings.public_url else None


def login(settings: Settings, part: str) -> tuple[str, str] | None:
    """User and password with which `part` ("prometheus", "alertmanager") is asked: the door's, else its own, if it has any."""
    return door(settings) or settings.login(part)


class Airflow:
    """Airflow's stable REST API, as the user `admin`."""

    def __init__(self, settings: Settings) -> None:
        body = {"username": "admin", "password": settings.secret("airflow_admin_password")}
        token = Rest("Airflow", settings.airflow_url).call("POST", "/auth/token", json=body)["access_token"]
        self._rest = Rest("Airflow", f"{settings.airflow_url}/api/v2", {"Authorization": f"Bearer {token}"})

    def dag(self, dag: str) -> dict[str, Any]:
        """The DAG; raises PlatformError while it is not parsed yet."""
        found: dict[str, Any] = self._rest.call("GET", f"/dags/{dag}")
        return found

    def import_errors(self) -> list[dict[str, Any]]:
        """Files of the DAG folder that Airflow can't read."""
        found: list[dict[str, Any]] = self._rest.call("GET", "/importErrors")["import_errors"]
        return found

    def trigger(self, dag: str, reason: str) -> str:
        """Start a run, and give its id."""
        body = {"logical_date": None, "conf": {"reason": reason}, "note": reason}
        return str(self._rest.call("POST", f"/dags/{dag}/dagRuns", json=body)["dag_run_id"])

    def run(self, dag: str, run: str) -> dict[str, Any]:
        """The run: `state`, `conf`, `start_date`, `end_date`."""
        found: dict[str, Any] = self._rest.call("GET", f"/dags/{dag}/dagRuns/{run}")
        return found

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """Runs of the DAG, the newest first."""
        query = {"order_by": "-run_after", "limit": 50}
        found: list[dict[str, Any]] = self._rest.call("GET", f"/dags/{dag}/dagRuns", params=query)["dag_runs"]
        return found

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        """Task instances of the run: `task_id`, `state`, `duration`, in the order in which they start."""
        path = f"/dags/{dag}/dagRuns/{run}/taskInstances"
        found: list[dict[str, Any]] = self._rest.call("GET", path)["task_instances"]
        return sorted(found, key=lambda task: task["start_date"] or "9")

    def result(self, dag: str, run: str, task: str) -> dict[str, Any]:
        """What the task gave back."""
        path = f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value"
        found: dict[str, Any] = self._rest.call("GET", path)["value"]
        return found


class Prometheus:
    """Prometheus's HTTP API."""

    def __init__(self, settings: Settings) -> None:
        self._rest = Rest("Prometheus", f"{settings.prometheus_url}/api/v1", auth=login(settings, "prometheus"))

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series of an instant vector."""
        answer = self._rest.call("GET", "/query", params={"query": expression})
        return [(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]

    def alerts(self, project: str) -> list[dict[str, Any]]:
        """Pending and firing alerts of the project."""
        alerts = self._rest.call("GET", "/alerts")["data"]["alerts"]
        return [alert for alert in alerts if alert["labels"].get("project") == project]


def alertmanager_alerts(settings: Settings, project: str) -> list[dict[str, Any]]:
    """What Alertmanager holds as active for the project."""
    rest = Rest("Alertmanager", f"{settings.alertmanager_url}/api/v2", auth=login(settings, "alertmanager"))
    found: list[dict[str, Any]] = rest.call(
        "GET", "/alerts", params={"filter": f'project="{project}"', "active": "true"}
    )
    return found


def served(settings: Settings, project: str) -> dict[str, Any] | None:
    """The served model of the project, or None while there is none."""
    try:
        model: dict[str, Any] = Rest("The service", settings.serving(project)).call("GET", f"/{project}/model")
    except PlatformError:
        return None
    return model
