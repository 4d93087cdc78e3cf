"""Tasks after training: promote, verify against the running service, and the monitor's report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from dags.family import InterpreterOperator
from phaseflow.settings import from_environment

SWAP_SECONDS: Final = 60
"""The service follows MLflow's alias within a second or two; a cold cluster needs more."""


class PromoteOperator(InterpreterOperator):
    """Promote the version that the pipeline registered; skipped where the gate said no, or the run was told not to."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Skip or promote."""
        verdict = context["ti"].xcom_pull(task_ids="train")
        if not verdict["passed"]:
            reasons = "; ".join(
                f"{check['check']}: {check['found']} (allowed: {check['allowed']})"
                for check in verdict["checks"]
                if not check["passed"]
            )
            raise AirflowSkipException(f"The gate refused version {verdict['version']}: {reasons}")
        if not context["params"]["promote"]:
            raise AirflowSkipException(
                f"Version {verdict['version']} stays challenger: the run was told not to promote"
            )
        return super().execute(context)


class VerifyOperator(BaseOperator):
    """Ask the service for the example's prediction, and check that the version that should serve does."""

    def __init__(self, *, project: str, example: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.project = project
        self.example = dict(example)

    def execute(self, context: Any) -> dict[str, Any]:
        """Wait for the swap, then send the example."""
        import httpx  # noqa: PLC0415  # parsing the DAGs needs it not

        url = from_environment().serving_url
        promoted = context["ti"].xcom_pull(task_ids="promote")
        wanted = promoted["version"] if promoted else None
        end = time.monotonic() + SWAP_SECONDS
        with httpx.Client(base_url=f"{url}/{self.project}", timeout=10) as client:
            while True:
                try:
                    found = client.get("/model")
                except httpx.HTTPError as error:
                    raise AirflowException(
                        f"The service at {url} can't be reached: {error}. Look at `phaseflow status`."
                    ) from error
                version = found.json().get("version") if found.status_code == 200 else None
                if version is not None and wanted in {None, version}:
                    break
                if version is None and wanted is None:
                    raise AirflowFailException(
                        f"{self.project} has no champion: the gate refused the first model. Read the checks in the task train."
                    )
                if time.monotonic() > end:
                    raise AirflowException(
                        f"The service serves version {version}, not {wanted}, after {SWAP_SECONDS} s. Read its log."
                    )
                time.sleep(0.5)  # the interval of polling
            answer = client.post("/predict", json=self.example)
        if answer.status_code != 200:
            raise AirflowException(f"The service answers {answer.status_code} to the example: {answer.text[:500]}")
        said: dict[str, Any] = answer.json()
        self.log.info("version %s says %s", said["version"], said["predictions"][0])
        return {"version": said["version"], "prediction": said["predictions"][0]}


class ReportOperator(BaseOperator):
    """Have the monitor judge the latest window; skipped where there were no requests in it."""

    def __init__(self, *, project: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.project = project

    def execute(self, context: Any) -> dict[str, Any]:  # noqa: ARG002  # Airflow calls it so
        """Ask, and show the answer."""
        import httpx  # noqa: PLC0415  # parsing the DAGs needs it not

        settings = from_environment()
        try:
            answer = httpx.post(
                f"{settings.monitor_url}/projects/{self.project}/report",
                headers={"Authorization": f"Bearer {settings.secret('hook_token')}"},
                timeout=300,
            )
        except httpx.HTTPError as error:
            raise AirflowException(f"The monitor at {settings.monitor_url} can't be reached: {error!r}") from error
        if answer.status_code != 200:
            raise AirflowException(f"The monitor answers {answer.status_code}: {answer.text[:500]}")
        found: dict[str, Any] = answer.json()
        if not found["rows"]:
            raise AirflowSkipException(found.get("reason", "No requests in the window"))
        self.log.info("%s rows, drifted: %s, report: %s", found["rows"], found["drifted"], found["report"])
        return found
