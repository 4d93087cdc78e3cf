"""The calls of Airflow's REST API (v2) that the hook and the metrics need."""

from __future__ import annotations

from typing import Any

import httpx

from phaseflow.errors import PlatformError
from phaseflow.settings import Settings


class Airflow:
    """A client with a token, renewed when Airflow no longer takes it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = httpx.AsyncClient(base_url=settings.airflow_url, timeout=15)
        self._token = ""

    async def _call(self, method: str, path: str, **more: Any) -> httpx.Response:
        for attempt in (1, 2):
            if not self._token:
                answer = await self._client.post(
                    "/auth/token",
                    json={"username": "admin", "password": self._settings.secret("airflow_admin_password")},
                )
                answer.raise_for_status()
                self._token = answer.json()["access_token"]
            answer = await self._client.request(
                method, path, headers={"Authorization": f"Bearer {self._token}"}, **more
            )
            if answer.status_code != 401 or attempt == 2:
                return answer
            self._token = ""
        raise AssertionError("unreachable")

    async def trigger(self, dag: str, run_id: str, reason: str) -> None:
        """Start a run; one of that id that exists already is this one.

        Raises httpx.HTTPError when Airflow is away, PlatformError when it refuses.
        """
        body = {"dag_run_id": run_id, "logical_date": None, "conf": {"reason": reason}}
        answer = await self._call("POST", f"/api/v2/dags/{dag}/dagRuns", json=body)
        if answer.status_code == 409:
            return
        if answer.status_code in {400, 403, 404, 422}:
            raise PlatformError(f"Airflow refuses a run of {dag}: {answer.text[:300]}", fix="Look at the DAG in its UI")
        answer.raise_for_status()

    async def active(self, dag: str) -> bool:
        """Whether a run of the DAG is queued or running."""
        query = {"state": ["queued", "running"], "limit": 1}
        answer = await self._call("GET", f"/api/v2/dags/{dag}/dagRuns", params=query)
        if answer.status_code == 404:
            return False
        answer.raise_for_status()
        return bool(answer.json()["total_entries"])

    async def runs(self, dag: str) -> list[dict[str, Any]]:
        """The newest runs, newest first."""
        answer = await self._call("GET", f"/api/v2/dags/{dag}/dagRuns", params={"order_by": "-run_after", "limit": 100})
        if answer.status_code == 404:
            return []
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["dag_runs"]
        return found

    async def tasks(self, dag: str, run_id: str) -> list[dict[str, Any]]:
        """The tasks of a run."""
        answer = await self._call("GET", f"/api/v2/dags/{dag}/dagRuns/{run_id}/taskInstances")
        if answer.status_code == 404:
            return []
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["task_instances"]
        return found
