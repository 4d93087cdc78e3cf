"""Running a compiled pipeline through the REST API of Kubeflow Pipelines, on a cluster or on this machine alike."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from dags.family import run_of
from phaseflow.settings import from_environment
from phaseflow.store import Store

API: Final = "/apis/v2beta1"
ENDED: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELED"})
PATIENCE: Final = 120
"""Seconds that the API may be away while a run is awaited."""
LOG_LINES: Final = 60


class PipelineRunTrigger(BaseTrigger):
    """Waits for a run's end in the triggerer, holding no worker; a restarted triggerer takes it up again."""

    def __init__(self, url: str, run_id: str, seconds: float = 1.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's triggers have no types
        self.url, self.run_id, self.seconds = url, run_id, seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How to make it again."""
        return "dags.pipelines.PipelineRunTrigger", {"url": self.url, "run_id": self.run_id, "seconds": self.seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until the run has ended."""
        import httpx  # noqa: PLC0415  # parsing the DAGs needs it not

        away = 0.0
        async with httpx.AsyncClient(timeout=10) as client:
            while True:
                try:
                    answer = await client.get(f"{self.url}{API}/runs/{self.run_id}")
                    answer.raise_for_status()
                    state = answer.json().get("state")
                    away = 0.0
                    if state in ENDED:
                        yield TriggerEvent({"run_id": self.run_id, "state": state})  # type: ignore[no-untyped-call]
                        return
                except httpx.HTTPError as error:
                    away += self.seconds
                    if away > PATIENCE:
                        yield TriggerEvent({"run_id": self.run_id, "state": "LOST", "error": repr(error)})  # type: ignore[no-untyped-call]
                        return
                await asyncio.sleep(self.seconds)

    async def on_kill(self) -> None:
        """End the run when its task is cleared or marked."""
        import httpx  # noqa: PLC0415  # parsing the DAGs needs it not

        async with httpx.AsyncClient(timeout=10) as client:
            await client.post(f"{self.url}{API}/runs/{self.run_id}:terminate")


class PipelineOperator(BaseOperator):
    """Upload the pipeline (once a version, by its hash), run it with `parameters`, wait deferred, return the verdict.

    A retry takes up the run that an earlier try started, where that one lives or succeeded.
    """

    template_fields: Sequence[str] = ("parameters",)

    def __init__(self, *, project: str, pipeline: str, parameters: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.project = project
        self.pipeline = pipeline
        self.parameters = dict(parameters)

    def execute(self, context: Any) -> None:
        """Submit, then wait in the triggerer."""
        import httpx  # noqa: PLC0415  # parsing the DAGs needs it not

        url = from_environment().pipelines_url
        run = run_of(context["run_id"])
        parameters = {key: value.replace("{run}", run) for key, value in self.parameters.items()}
        with httpx.Client(base_url=f"{url}{API}", timeout=60) as client:
            pipeline_id, version_id = self._version(client)
            name = f"{self.project} {run}"
            run_id = self._living(client, name) or self._submit(client, name, pipeline_id, version_id, parameters)
        self.log.info("pipeline run %s: %s%s/runs/%s", name, url, API, run_id)
        context["ti"].xcom_push(key="kfp_run", value=f"{url}{API}/runs/{run_id}")
        self.defer(
            trigger=PipelineRunTrigger(url, run_id),
            method_name="finished",
            timeout=timedelta(hours=6),
            kwargs={"run": run},
        )

    def _version(self, client: Any) -> tuple[str, str]:
        name = self.project.replace("_", "-")
        content = Path(self.pipeline).read_bytes()
        version = f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"
        files = {"uploadfile": (f"{name}.yaml", content, "application/x-yaml")}
        found = client.get(f"/pipelines/names/{name}")
        if found.status_code == 404:
            made = client.post("/pipelines/upload", params={"name": name, "display_name": self.project}, files=files)
            if made.status_code != 409:
                _check(made)
            found = client.get(f"/pipelines/names/{name}")
        pipeline_id = _check(found)["pipeline_id"]
        listed = _check(client.get(f"/pipelines/{pipeline_id}/versions", params={"page_size": 200}))
        for known in listed.get("pipeline_versions", []):
            if version in {known.get("name"), known.get("display_name")}:
                return pipeline_id, known["pipeline_version_id"]
        made = client.post(
            "/pipelines/upload_version", params={"name": version, "pipelineid": pipeline_id}, files=files
        )
        return pipeline_id, _check(made)["pipeline_version_id"]

    def _living(self, client: Any, name: str) -> str | None:
        """A run of an earlier try, unless it failed."""
        wanted = {"predicates": [{"key": "display_name", "operation": "EQUALS", "string_value": name}]}
        query = {"filter": json.dumps(wanted), "sort_by": "created_at desc", "page_size": 5}
        for run in _check(client.get("/runs", params=query)).get("runs", []):
            if run.get("display_name") == name and run.get("state") not in {"FAILED", "CANCELED", "CANCELING"}:
                self.log.info("found the run of an earlier try")
                return str(run["run_id"])
        return None

    def _submit(self, client: Any, name: str, pipeline_id: str, version_id: str, parameters: Mapping[str, str]) -> str:
        body = {
            "display_name": name,
            "pipeline_version_reference": {"pipeline_id": pipeline_id, "pipeline_version_id": version_id},
            "runtime_config": {"parameters": dict(parameters)},
        }
        return str(_check(client.post("/runs", json=body))["run_id"])

    def finished(self, context: Any, event: Mapping[str, Any], run: str) -> dict[str, Any]:  # noqa: ARG002  # Airflow calls it so
        """Read the verdict; raises AirflowException with the failed step's log."""
        settings = from_environment()
        if event["state"] != "SUCCEEDED":
            self._explain(settings.pipelines_url, event)
        verdict: dict[str, Any] = json.loads(Store(settings.store).read(f"runs/{self.project}/{run}/verdict.json"))
        for check in verdict["checks"]:
            found = "-" if check["found"] is None else f"{check['found']:.4g}"
            self.log.info(
                "%s  %s: %s (%s)", "pass" if check["passed"] else "FAIL", check["check"], found, check["allowed"]
            )
        self.log.info(
            "version %s, %s: %s", verdict["version"], verdict["candidate"], "passed" if verdict["passed"] else "refused"
        )
        return verdict

    def _explain(self, url: str, event: Mapping[str, Any]) -> None:
        import httpx  # noqa: PLC0415  # parsing the DAGs needs it not

        problem = f"The pipeline run {event['run_id']} ended {event['state']}"
        with httpx.Client(base_url=f"{url}{API}", timeout=30) as client:
            try:
                log = client.get(f"/runs/{event['run_id']}/log")  # of the embedded engine; KFP itself has none
                if log.status_code == 200:
                    for line in log.text.splitlines()[-LOG_LINES:]:
                        self.log.error("%s", line)
                error = _check(client.get(f"/runs/{event['run_id']}")).get("error") or {}
                problem += f": {str(error.get('message', '')).splitlines()[:1]}"
            except httpx.HTTPError as error:
                problem += f"; its log can't be read: {error!r}"
        raise AirflowException(f"{problem}. Read the lines above, mend it, and clear this task.")


def _check(answer: Any) -> dict[str, Any]:
    """The answer's JSON; raises AirflowException with what the API says is wrong."""
    if answer.status_code == 400:
        raise AirflowFailException(f"Kubeflow Pipelines refuses {answer.request.url}: {answer.text[:500]}")
    if answer.is_error:
        raise AirflowException(
            f"Kubeflow Pipelines answers {answer.status_code} to {answer.request.url}: {answer.text[:500]}"
        )
    found: dict[str, Any] = answer.json()
    return found
